# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Make or remove a kind cluster."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts.cache import Cache
from ..plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from ..plugin_utils.common.action import Action, display, done_result
from ..plugin_utils.common.paths import cache_directory
from ..plugin_utils.machines.engine import find_engine
from ..plugin_utils.machines.kind import Kind


class ActionModule(Action):
    """The action of the module `kind`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Bring the cluster into the wanted state and return what was done."""
        state = Path(args["state_dir"])
        pins = versioned_pins(args["versions"], sample_app_names(args["sample_apps"]))
        kind = Kind(
            args["cluster"],
            Path(args["kubeconfig"]),
            state,
            find_engine(state / "containers.conf"),
            Cache(cache_directory(), pins, machine_architecture()),
            args["image"],
            display.display,
        )
        with contextlib.nullcontext() if self.check else kind.alone():
            done = kind.absent(self.check) if args["state"] == "absent" else kind.present(self.check)
        # Nodes that would be made or started cannot be looked at.
        nodes = [] if self.check and (done.get("created") or done.get("started")) else kind.described()
        return done_result(done) | {"nodes": nodes}
