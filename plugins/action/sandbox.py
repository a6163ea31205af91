# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Make or remove the podman machines of a cluster."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.common.action import Action, display, done_result
from ..plugin_utils.common.paths import cache_directory
from ..plugin_utils.machines.host import SandboxError, check_host
from ..plugin_utils.machines.sandbox import Machine, Sandbox


class ActionModule(Action):
    """The action of the module `sandbox`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Bring the machines into the wanted state and return what was done."""
        check_host()
        cache = cache_directory()
        cache.mkdir(parents=True, exist_ok=True)
        settings = {name: args[name] for name in ("suite", "internal", "mounts_cache")}
        sandbox = Sandbox(args["cluster"], cache, **settings, say=display.display)
        if args["state"] == "absent":
            return done_result(sandbox.absent(args["machines"], self.check))
        return done_result(sandbox.present(self._machines(args["machines"], args["ports"]), self.check))

    def _machines(self, names: list[str], ports: list[int]) -> list[Machine]:
        """Return the machines with their addresses; the first one publishes the ports."""
        machines = []
        for number, name in enumerate(names):
            variables = self.variables["hostvars"][name]
            if "sandbox_address" not in variables:
                raise SandboxError(
                    f"sandbox_address of {name} is not set. Give every machine in clusters.yml a fixed IPv4 address "
                    "of one /24 "
                    f"network that nothing else uses, such as: {name}: {{sandbox_address: 10.89.77.{11 + number}}}"
                )
            machines.append(Machine(name, str(variables["sandbox_address"]), tuple(ports) if number == 0 else ()))
        return machines
