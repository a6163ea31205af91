# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Fill the controller's cache with every binary and image that the pins name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts.build import Builder
from ..plugin_utils.artifacts.cache import Cache
from ..plugin_utils.artifacts.pins import ArtifactError, machine_architecture, versioned_pins
from ..plugin_utils.artifacts.scheduler import execute, missing_tools
from ..plugin_utils.artifacts.sources import SOURCES, Request
from ..plugin_utils.common.action import Action, display
from ..plugin_utils.common.paths import cache_directory

MEBIBYTE = 1024 * 1024


def say(text: str) -> None:
    """Show a line of progress."""
    display.display(f"  artifacts: {text}")


def report(name: str, state: str, seconds: float, size: int) -> None:
    """Show that a part starts or is done; its size is in bytes."""
    say(f"{state:8} {name}" + ("" if state.endswith("ing") else f"  {seconds:6.1f} s  {size / MEBIBYTE:7.1f} MiB"))


class ActionModule(Action):
    """The action of the module `artifacts`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Get the missing parts, with a line of progress when one starts and when it is done."""
        pins = versioned_pins(args["versions"], sample_app_names(args["sample_apps"]))
        cache = Cache(cache_directory(), pins, machine_architecture())
        archive = Path(args["bundle"]).absolute() if args["bundle"] else None
        plan = SOURCES[args["source"]].plan(Request(Builder(cache), args["mirrors"], archive))
        missing = [step for step in plan.steps if not step.is_made()]
        if plan.why:
            say(f"{args['source']}: {plan.why}")
        for step in missing:
            for file in step.damage():
                say(f"{file} differs from its checksum and is made again")
        if self.check or not missing:
            made = [step.name for step in missing]
            return {"changed": bool(missing), "cache": str(cache.directory), "made": made}
        if plan.fill is execute and (tools := missing_tools(missing)):
            raise ArtifactError(
                f"Building needs {', '.join(tools)}, not found on this machine. Go must be {cache.pins['go']} or "
                "newer; the others are in apt-get install gcc libseccomp-dev mmdebstrap nodejs npm pkg-config, and "
                "mvn and javac in apt-get install default-jdk-headless maven"
            )
        with cache.locked(lambda: say("another run is filling the cache; waiting for it")):
            # Another run may have made them while this one waited.
            made = plan.fill(plan.steps, report)
        if pulled := [step.name for step in missing if step.kind == "note"]:
            say(f"{len(pulled)} images will be pulled by the machines that need them")
        return {"changed": bool(made), "cache": str(cache.directory), "made": made}
