# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Check with one connection that a run can use a host."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.executor.interpreter_discovery import discover_interpreter

from ..plugin_utils.applyset.ownership import how_to_adopt, others_that_serve, set_id
from ..plugin_utils.apps.catalogue import all_entries, reader
from ..plugin_utils.apps.model import App
from ..plugin_utils.apps.parse import parse_pairs
from ..plugin_utils.apps.workloads import examine_workloads
from ..plugin_utils.common.action import Action
from ..plugin_utils.common.components import COMPONENTS, MACHINE_ROLES, Cluster, describe_cluster
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
TAGS = {**{component.role: component.tags for component in COMPONENTS}, **{role: (role,) for role in MACHINE_ROLES}}
# Most seconds between the clocks of machine and controller: a certificate or token that one creates must be valid on
# the other immediately.
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


def judge(facts: dict[str, Any], before: float, after: float) -> list[str]:
    """Return the problems of a machine that reported ``facts`` between two controller times (seconds since 1970)."""
    lacks = []
    if facts["uid"] != 0:
        lacks.append(f"the remote user has uid {facts['uid']} and cannot become root: check ansible_user and sudo")
    if tuple(facts["python"]) < LEAST_PYTHON:
        version = ".".join(str(number) for number in facts["python"])
        least = ".".join(str(number) for number in LEAST_PYTHON)
        lacks.append(f"its Python is {version}, but must be {least} or newer: set ansible_python_interpreter")
    if facts["init"] != "systemd":
        lacks.append(f"its first process is {facts['init']}, but must be systemd, which runs containerd and kubelet")
    ahead, behind = facts["time"] - after, before - facts["time"]
    if max(ahead, behind) > CLOCK_SECONDS:
        wrong = f"{ahead:.0f} s ahead of" if ahead > 0 else f"{behind:.0f} s behind"
        lacks.append(
            f"its clock is {wrong} the controller's (allowed are {CLOCK_SECONDS} s): correct the wrong clock, "
            "preferably with network time (timedatectl set-ntp true)"
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
    """Return whether a run with these tags runs a role."""
    own = {"tagged", *TAGS[role]}
    included = not run_tags or bool({"all", *own} & set(run_tags))
    return included and not own & set(skip_tags)


class ActionModule(Action):
    """The action of the module `reach`."""

    _requires_connection = True
    _read: list[tuple[App, Source]] | None = None

    def act(self, _args: dict[str, Any]) -> dict[str, Any]:
        """Connect to the host, or fail with the settings to check."""
        if "clusters" in self.variables["group_names"]:
            problem = self._reach_api(self.variables, self.result)
        elif not any(self._is_selected(role) for role in MACHINE_ROLES):
            # A machine that is down does not stop a run that needs none.
            return {"skipped": True, "skip_reason": "No role of this run needs machines"}
        else:
            problem = self._reach_machine(self.variables, self.result)
        return {"failed": True, "msg": problem} if problem else {}

    def _is_selected(self, role: str) -> bool:
        return is_selected(role, self.variables["ansible_run_tags"], self.variables["ansible_skip_tags"])

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
        """As _workloads for a cluster that this run creates or repairs: no error if its API does not answer."""
        kubeconfig = str(self._templar.template(variables["cluster_kubeconfig"]))
        if not Path(kubeconfig).expanduser().exists():
            return ""
        try:
            return self._workloads(connect(kubeconfig), variables)
        except (ApiError, KubeconfigError, OSError):
            return ""

    def _workloads(self, api: Api, variables: dict[str, Any]) -> str:
        """Return an error that names the apps whose workloads cannot be scaled, if this run scales apps."""
        if not self._is_selected("hpa") or "hpa" not in describe_cluster(variables, self._templar.template).present:
            return ""
        findings = examine_workloads(api, self._apps(variables))
        for text in findings.warnings:
            self.warn(text)
        if not findings.errors:
            return ""
        title = f"Cluster {variables['inventory_hostname']} has apps that cannot be scaled. Nothing was changed:"
        return "\n".join([title, *(f"- {text}" for text in findings.errors)])

    def _served_by_others(self, api: Api, variables: dict[str, Any], result: dict[str, Any]) -> str:
        """Return an error that names APIs of this run that have another owner. Roles check all other objects."""
        adopt = describe_cluster(variables, self._templar.template).adopt
        groups = {
            group: role
            for group, role in self._servers(variables).items()
            if self._is_selected(role) and role not in adopt
        }
        # Another role of this collection may own the API now, and hands it over.
        ids = {group: [set_id(role.replace("_", "-"), "kube-system") for role in API_GROUPS[group]] for group in groups}
        foreign = others_that_serve(api, ids)
        if not foreign:
            return ""
        result["foreign"] = [{**ref.as_dict(), "owner": owner, "role": groups[group]} for ref, owner, group in foreign]
        lines = [f"- {ref} {owner}" for ref, owner, _group in foreign]
        taken = {entry[2] for entry in foreign}
        advice = list(dict.fromkeys(how_to_adopt(role) for group, role in groups.items() if group in taken))
        if EXTERNAL_METRICS in taken:
            advice.append("To leave external metrics to their owner, set external_metrics_owner to none.")
        return "\n".join(
            [
                f"Cluster {variables['inventory_hostname']} has what this run would make, and it is somebody else's. "
                "Nothing was changed:",
                *lines,
                *advice,
            ]
        )

    def _servers(self, variables: Mapping[str, Any]) -> dict[str, str]:
        """Return the role that serves each API group on this cluster."""
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
        try:
            if interpreter.startswith("auto"):
                # Later tasks repeat the discovery, and give its warnings.
                interpreter = discover_interpreter(self, "python", "auto_silent", variables)
            before = time.time()
            answer = self._low_level_execute_command(f"{shlex.quote(interpreter)} -c {shlex.quote(PROGRAM)}")
        except AnsibleConnectionFailure as error:
            return f"Machine {place} does not answer by {by}: {first_line(error)}. {self._advice(by, name, address)}"
        except AnsibleError as error:
            return f"Machine {place} cannot be used by {by}: {first_line(error)}. {self._advice(by, name, address)}"
        if answer["rc"] != 0:
            output = (answer["stderr"].strip() or answer["stdout"].strip()).splitlines() or [answer["rc"]]
            return (
                f"Machine {place}: {interpreter} could not be run there by {by}: {output[-1]}. "
                f"{self._advice(by, name, address)}"
            )
        facts = json.loads(answer["stdout_lines"][-1])
        result["found"] = facts
        lacks = judge(facts, before, time.time())
        return f"Machine {place}: {'; '.join(lacks)}" if lacks else ""

    @staticmethod
    def _advice(by: str, name: str, address: str) -> str:
        if "podman" in by:
            return f"Check that container {name} runs (podman ps; playbooks/sandbox.yml creates it) and has Python 3."
        return (
            f"Try: ssh {address} sudo python3 -V. Check that the machine is up and has Python 3, and check "
            "ansible_host, ansible_user and the SSH key."
        )


def first_line(error: Exception) -> str:
    """Return the first line of an error's text without a full stop at its end."""
    return str(error).strip().splitlines()[0].rstrip(".")
