# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Fills the controller's cache with every binary and image that the pins name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts.build import Builder
from ..plugin_utils.artifacts.cache import Cache
from ..plugin_utils.artifacts.pins import ArtifactError, machine_architecture, versioned_pins
from ..plugin_utils.artifacts.scheduler import execute, missing_tools
from ..plugin_utils.artifacts.sources import SOURCES, Request
from ..plugin_utils.common.paths import cache_directory

MEBIBYTE = 1024 * 1024


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Get what is missing; one line of progress when a part starts and one when it is done."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "source": {"type": "str", "choices": list(SOURCES), "default": "auto"},
                "mirrors": {"type": "dict", "default": {}},
                "bundle": {"type": "path"},
                "versions": {"type": "dict", "default": {}},
                "sample_apps": {"type": "raw", "default": []},
            }
        )
        display = Display()
        try:
            pins = versioned_pins(arguments["versions"], sample_app_names(arguments["sample_apps"]))
            cache = Cache(cache_directory(), pins, machine_architecture())
            archive = Path(arguments["bundle"]).absolute() if arguments["bundle"] else None
            request = Request(Builder(cache), arguments["mirrors"], archive)
            plan = SOURCES[arguments["source"]](request)
            missing = [step for step in plan.steps if not step.is_made()]
            names = [step.name for step in missing]
            if plan.why:
                display.display(f"  artifacts: {arguments['source']}: {plan.why}")
            if self._task.check_mode or not missing:
                return {"changed": bool(missing), "cache": str(cache.directory), "made": names}
            if plan.fill is execute and (tools := missing_tools(missing)):
                raise ArtifactError(
                    f"Building needs {', '.join(tools)}, not found on this machine. Go must be {cache.pins['go']} or "
                    "newer; the others are in apt-get install gcc libseccomp-dev mmdebstrap nodejs npm pkg-config, and "
                    "mvn and javac in apt-get install default-jdk-headless maven"
                )

            def report(name: str, state: str, seconds: float, size: int) -> None:
                done = f"  {seconds:6.1f} s  {size / MEBIBYTE:7.1f} MiB" if not state.endswith("ing") else ""
                display.display(f"  artifacts: {state:8} {name}{done}")

            with cache.locked(lambda: display.display("  artifacts: another run is filling the cache; waiting for it")):
                # Another run may have made them while this one waited.
                made = plan.fill(plan.steps, report)
            if pulled := [step.name for step in missing if step.kind == "note"]:
                display.display(f"  artifacts: {len(pulled)} images will be pulled by the machines that need them")
        except ArtifactError as error:
            raise AnsibleActionFail(str(error)) from None
        return {"changed": bool(made), "cache": str(cache.directory), "made": made}
