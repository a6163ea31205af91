# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Makes or removes the podman machines of a cluster, in the controller's process."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.common.paths import cache_directory
from ..plugin_utils.machines.sandbox import (
    SUITES,
    Machine,
    Sandbox,
    SandboxError,
    check_host,
)


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the machines into the wanted state and say what was done."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "cluster": {"type": "str", "required": True},
                "machines": {"type": "list", "elements": "str", "required": True},
                "ports": {"type": "list", "elements": "int", "default": []},
                "suite": {"type": "str", "choices": list(SUITES), "default": "bookworm"},
                "internal": {"type": "bool", "default": False},
                "mounts_cache": {"type": "bool", "default": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            }
        )
        names, check = arguments["machines"], self._task.check_mode
        try:
            check_host()
            cache = cache_directory()
            cache.mkdir(parents=True, exist_ok=True)
            settings = {name: arguments[name] for name in ("suite", "internal", "mounts_cache")}
            sandbox = Sandbox(arguments["cluster"], cache, **settings, say=Display().display)
            if arguments["state"] == "absent":
                done = sandbox.absent(names, check)
            else:
                done = sandbox.present(self._machines(names, arguments["ports"], task_vars or {}), check)
        except SandboxError as error:
            raise AnsibleActionFail(str(error)) from None
        lines = "".join(f"{key}: {', '.join(values)}\n" for key, values in done.items() if values)
        return {"changed": bool(lines), "done": done, "diff": {"before": "", "after": lines}}

    def _machines(self, names: list[str], ports: list[int], task_vars: dict[str, Any]) -> list[Machine]:
        machines = []
        for number, name in enumerate(names):
            variables = task_vars["hostvars"][name]
            if "sandbox_address" not in variables:
                raise SandboxError(
                    f"sandbox_address of {name} is not set. Give every machine in clusters.yml a fixed IPv4 address "
                    "of one /24 "
                    f"network that nothing else uses, such as: {name}: {{sandbox_address: 10.89.77.{11 + number}}}"
                )
            machines.append(Machine(name, str(variables["sandbox_address"]), tuple(ports) if number == 0 else ()))
        return machines
