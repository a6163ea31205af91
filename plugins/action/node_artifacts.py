# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Puts binaries and images from the controller's cache on a machine."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.kubescale.fleet.plugins.module_utils.artifacts import (
    ArtifactError,
    Cache,
    cache_directory,
    load_pins,
    machine_architecture,
)


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the machine what it lacks, bring that, and let it install."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "binaries": {"type": "list", "elements": "str", "default": []},
                "images": {"type": "list", "elements": "str", "choices": ["control_plane", "worker"], "default": []},
            }
        )
        try:
            cache = Cache(cache_directory(), load_pins(), machine_architecture())
            files = cache.machine_files(arguments["binaries"])
            images = []
            for image in cache.images(set(arguments["images"])):
                record = cache.recorded(image.record)
                images.append(
                    {
                        "source": str(image.archive.relative_to(cache.directory)),
                        "reference": image.reference,
                        "manifest": record["manifest"],
                        "sha256": record["sha256"],
                        "size": record["size"],
                    }
                )
        except ArtifactError as error:
            raise AnsibleActionFail(str(error)) from error

        def on_machine(transferred: dict[str, str]) -> dict[str, Any]:
            return self._execute_module(
                module_name="kubescale.fleet.node_artifacts",
                module_args={"files": files, "images": images, "transferred": transferred},
                task_vars=task_vars,
            )

        result = on_machine({})
        if not result.get("lacking") or self._task.check_mode:
            return result
        folder = self._make_tmp_path()
        transferred = {}
        try:
            for number, source in enumerate(result["lacking"]):
                transferred[source] = self._connection._shell.join_path(folder, str(number))
                self._transfer_file(str(cache.directory / source), transferred[source])
            return on_machine(transferred)
        finally:
            self._remove_tmp_path(folder)
