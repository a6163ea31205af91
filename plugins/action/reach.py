# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action kubescale.fleet.reach: proves that a host can be worked on, by one connection."""

from __future__ import annotations

import json
import shlex
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import ApiError, KubeconfigError, connect

LEAST_PYTHON = (3, 9)
PROGRAM = """
import json, os, sys
print(json.dumps({
    "uid": os.geteuid(),
    "python": list(sys.version_info[:3]),
    "init": open("/proc/1/comm").read().strip(),
}))
"""


def judge(found: dict[str, Any]) -> list[str]:
    """Say what a machine lacks, from what it said about itself."""
    lacks = []
    if found["uid"] != 0:
        lacks.append(f"the user there has uid {found['uid']} and may not become root: check ansible_user and sudo")
    if tuple(found["python"]) < LEAST_PYTHON:
        version = ".".join(str(number) for number in found["python"])
        least = ".".join(str(number) for number in LEAST_PYTHON)
        lacks.append(f"its Python is {version}, but must be {least} or newer: set ansible_python_interpreter")
    if found["init"] != "systemd":
        lacks.append(f"its first process is {found['init']}, but must be systemd, which runs containerd and kubelet")
    return lacks


class ActionModule(ActionBase):
    """See plugins/modules/reach.py for its documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Reach the host, or fail with what to look at."""
        variables: dict[str, Any] = task_vars or {}
        result = super().run(tmp, variables)
        self.validate_argument_spec({})
        if "clusters" in variables["group_names"]:
            problem = self._reach_api(variables)
        else:
            problem = self._reach_machine(variables, result)
        if problem:
            result["failed"] = True
            result["msg"] = problem
        return result

    def _reach_api(self, variables: dict[str, Any]) -> str:
        if not variables.get("cluster_existing"):
            return ""
        kubeconfig = str(self._templar.template(variables["cluster_kubeconfig"]))
        try:
            connect(kubeconfig).raw("/version")
        except (ApiError, KubeconfigError, OSError) as error:
            return f"Cluster {variables['inventory_hostname']} cannot be reached by {kubeconfig}: {error}"
        return ""

    def _reach_machine(self, variables: dict[str, Any], result: dict[str, Any]) -> str:
        name = variables["inventory_hostname"]
        address = str(self._templar.template(variables.get("ansible_host", name)))
        place = name if address == name else f"{name} ({address})"
        interpreter = str(self._templar.template(variables.get("ansible_python_interpreter", "/usr/bin/python3")))
        by = self._connection.transport
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
        lacks = judge(found)
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
