# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Prove by one connection that a host can be worked on."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean

from ..plugin_utils.applyset.ownership import how_to_adopt, others_that_serve, set_id
from ..plugin_utils.apps.catalogue import all_entries, reader
from ..plugin_utils.apps.model import App
from ..plugin_utils.apps.parse import parse_pairs
from ..plugin_utils.apps.workloads import examine_workloads
from ..plugin_utils.common.action import Action
from ..plugin_utils.common.components import COMPONENTS, Cluster, describe_cluster
from ..plugin_utils.common.entry import Source
from ..plugin_utils.common.origin import where_in
from ..plugin_utils.kube.client import Api, ApiError, connect
from ..plugin_utils.kube.kubeconfig import KubeconfigError

LEAST_PYTHON = (3, 9)
RESOURCE_METRICS, EXTERNAL_METRICS = "metrics.k8s.io", "external.metrics.k8s.io"
#: Roles that may serve an API group; the variables of a cluster choose one of them.
API_GROUPS = {
    group: tuple(component.role for component in COMPONENTS if group in component.serves)
    for group in dict.fromkeys(group for component in COMPONENTS for group in component.serves)
}
TAGS = {component.role: component.tags for component in COMPONENTS}
# Seconds by which a machine's clock may differ from the controller's: certificates and tokens made by the one must be
# valid for the other at once.
CLOCK_SECONDS = 60
PROGRAM = """
import json, os, sys, time
print(json.dumps({
    "uid": os.geteuid(),
    "python": list(sys.version_info[:3]),
    "init": open("/proc/1/comm").read().strip(),
    "time": time.time(),
}))
"""


def judge(found: dict[str, Any], before: float, after: float) -> list[str]:
    """Say what a machine lacks, from what it said about itself between two times (seconds since 1970) of ours."""
    lacks = []
    if found["uid"] != 0:
        lacks.append(f"the user there has uid {found['uid']} and may not become root: check ansible_user and sudo")
    if tuple(found["python"]) < LEAST_PYTHON:
        version = ".".join(str(number) for number in found["python"])
        least = ".".join(str(number) for number in LEAST_PYTHON)
        lacks.append(f"its Python is {version}, but must be {least} or newer: set ansible_python_interpreter")
    if found["init"] != "systemd":
        lacks.append(f"its first process is {found['init']}, but must be systemd, which runs containerd and kubelet")
    ahead, behind = found["time"] - after, before - found["time"]
    if max(ahead, behind) > CLOCK_SECONDS:
        wrong = f"{ahead:.0f} s ahead of" if ahead > 0 else f"{behind:.0f} s behind"
        lacks.append(
            f"its clock is {wrong} the controller's (allowed are {CLOCK_SECONDS} s): set the wrong one of the two, "
            "best by network time (timedatectl set-ntp true)"
        )
    return lacks


def servers_of_groups(cluster: Cluster, external: bool) -> dict[str, str]:
    """Return the role that serves each API group; ``external`` means that the adapter serves external metrics, too."""
    return {
        group: component.role
        for component in COMPONENTS
        for group in component.serves
        if component.role in cluster.present
        and component.flavor in ("", cluster.flavor)
        and (group != RESOURCE_METRICS or component.role == cluster.resource_metrics)
        and (group != EXTERNAL_METRICS or external)
    }


def is_selected(role: str, run_tags: Collection[str], skip_tags: Collection[str]) -> bool:
    """Tell whether a run with these tags runs a role, whose tag is its name, perhaps beside others."""
    own = {"tagged", *TAGS[role]}
    wanted = not run_tags or bool({"all", *own} & set(run_tags))
    return wanted and not own & set(skip_tags)


class ActionModule(Action):
    """The action of the module `reach`."""

    _requires_connection = True
    _read: list[tuple[App, Source]] | None = None

    def act(self, _args: dict[str, Any]) -> dict[str, Any]:
        """Reach the host, or fail with the places to look at."""
        if "clusters" in self.variables["group_names"]:
            problem = self._reach_api(self.variables, self.result)
        else:
            problem = self._reach_machine(self.variables, self.result)
        return {"failed": True, "msg": problem} if problem else {}

    def _reach_api(self, variables: dict[str, Any], result: dict[str, Any]) -> str:
        if not variables.get("cluster_existing"):
            return self._workloads_of_own(variables)
        kubeconfig = str(self._templar.template(variables["cluster_kubeconfig"]))
        try:
            api = connect(kubeconfig)
            api.raw("/version")
            return self._served_by_others(api, variables, result) or self._workloads(api, variables)
        except (ApiError, KubeconfigError, OSError) as error:
            return f"Cluster {variables['inventory_hostname']} cannot be reached by {kubeconfig}: {error}"

    def _workloads_of_own(self, variables: dict[str, Any]) -> str:
        """As _workloads for a cluster that this run may be about to make or to repair: none that answers, no word."""
        kubeconfig = str(self._templar.template(variables["cluster_kubeconfig"]))
        if not Path(kubeconfig).expanduser().exists():
            return ""
        try:
            return self._workloads(connect(kubeconfig), variables)
        except (ApiError, KubeconfigError, OSError):
            return ""

    def _workloads(self, api: Api, variables: dict[str, Any]) -> str:
        """Say which apps cannot be scaled as the cluster's variables want it, if this run would scale them."""
        chosen = is_selected("hpa", variables["ansible_run_tags"], variables["ansible_skip_tags"])
        if not chosen or "hpa" not in describe_cluster(variables, self._templar.template).present:
            return ""
        findings = examine_workloads(api, self._apps(variables))
        for text in findings.warnings:
            self.warn(text)
        if not findings.errors:
            return ""
        title = f"Cluster {variables['inventory_hostname']} has apps that cannot be scaled so. Nothing was changed:"
        return "\n".join([title, *(f"- {text}" for text in findings.errors)])

    def _served_by_others(self, api: Api, variables: dict[str, Any], result: dict[str, Any]) -> str:
        """Say which APIs that this run would serve somebody else serves; roles find what else is in their way."""
        groups = {
            group: role
            for group, role in self._servers(variables).items()
            if is_selected(role, variables["ansible_run_tags"], variables["ansible_skip_tags"])
            and not boolean(self._templar.template(variables.get(f"{role}_adopt", False)))
        }
        # One of ours may have it until another one of ours takes it.
        ids = {group: [set_id(role.replace("_", "-"), "kube-system") for role in API_GROUPS[group]] for group in groups}
        found = others_that_serve(api, ids)
        if not found:
            return ""
        result["foreign"] = [{**ref.as_dict(), "owner": owner, "role": groups[group]} for ref, owner, group in found]
        lines = [f"- {ref} {owner}" for ref, owner, _group in found]
        taken = {entry[2] for entry in found}
        advice = list(dict.fromkeys(how_to_adopt(role) for group, role in groups.items() if group in taken))
        if EXTERNAL_METRICS in taken:
            advice.append("To leave external metrics alone to their owner, set external_metrics_owner to none.")
        return "\n".join(
            [
                f"Cluster {variables['inventory_hostname']} has what this run would make, and it is somebody else's. "
                "Nothing was changed:",
                *lines,
                *advice,
            ]
        )

    def _servers(self, variables: Mapping[str, Any]) -> dict[str, str]:
        """The role that serves each API group on this cluster."""
        cluster = describe_cluster(variables, self._templar.template)
        external = cluster.external_metrics and any(
            metric.external for app, _unused in self._apps(variables) for metric in app.metrics
        )
        return servers_of_groups(cluster, external)

    def _apps(self, variables: Mapping[str, Any]) -> list[tuple[App, Source]]:
        """Return the autoscaled apps of this cluster. They are read once per task."""
        if self._read is None:
            value = reader(variables, self._templar.template, self._loader.load_from_file)
            entries = all_entries(value, lambda name, path: where_in(variables.get(name), path))
            self._read = parse_pairs(entries)
        return self._read

    def _reach_machine(self, variables: dict[str, Any], result: dict[str, Any]) -> str:
        name = variables["inventory_hostname"]
        address = str(self._templar.template(variables.get("ansible_host", name)))
        place = name if address == name else f"{name} ({address})"
        interpreter = str(self._templar.template(variables.get("ansible_python_interpreter", "/usr/bin/python3")))
        by = self._connection.transport
        before = time.time()
        try:
            answer = self._low_level_execute_command(f"{shlex.quote(interpreter)} -c {shlex.quote(PROGRAM)}")
        except AnsibleConnectionFailure as error:
            return f"Machine {place} does not answer by {by}: {first_line(error)}. {self._advice(by, name, address)}"
        except AnsibleError as error:
            return f"Machine {place} cannot be used by {by}: {first_line(error)}. {self._advice(by, name, address)}"
        if answer["rc"] != 0:
            said = (answer["stderr"].strip() or answer["stdout"].strip()).splitlines()
            return (
                f"Machine {place}: {interpreter} could not be run there by {by}: {said[-1] if said else answer['rc']}. "
                f"{self._advice(by, name, address)}"
            )
        found = json.loads(answer["stdout_lines"][-1])
        result["found"] = found
        lacks = judge(found, before, time.time())
        return f"Machine {place}: {'; '.join(lacks)}" if lacks else ""

    @staticmethod
    def _advice(by: str, name: str, address: str) -> str:
        if "podman" in by:
            return f"Does the container run (podman ps)? playbooks/sandbox.yml makes it. Python 3 must be in {name}."
        return (
            f"Try: ssh {address} sudo python3 -V. Check that the machine is up, ansible_host, ansible_user, the key, "
            "and that Python 3 is there."
        )


def first_line(error: Exception) -> str:
    """The beginning of an error's text, without its end mark."""
    return str(error).strip().splitlines()[0].rstrip(".")
