# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Puts binaries and images from the controller's cache on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts.cache import Cache, Image, file_digest
from ..plugin_utils.artifacts.images import archive_references
from ..plugin_utils.artifacts.pins import (
    ARCHITECTURES,
    ArtifactError,
    download_hosts,
    machine_architecture,
    versioned_pins,
)
from ..plugin_utils.common.paths import cache_directory


def pinned_image(cache: Cache, image: Image) -> dict[str, Any]:
    """Return what a machine has to know about an image of the cache."""
    record = cache.recorded(image.record)
    if record.get("pull"):
        return {"reference": image.reference, "pin": record["pin"], "manifest": f"pulled {record['pin']}".strip()}
    return {
        "source": str(image.archive.relative_to(cache.directory)),
        "reference": image.reference,
        **{key: record[key] for key in ("manifest", "sha256", "size")},
    }


def given_image(archive: Path) -> dict[str, Any]:
    """Return the same about an image archive that the user gave."""
    references = archive_references(archive)
    sha256 = file_digest(archive)
    size = archive.stat().st_size
    return {"source": str(archive), "reference": references[0], "manifest": sha256, "sha256": sha256, "size": size}


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
                "archives": {"type": "list", "elements": "path", "default": []},
                "architecture": {"type": "str", "choices": list(ARCHITECTURES)},
                "mirrors": {"type": "dict", "default": {}},
                "versions": {"type": "dict", "default": {}},
                "sample_apps": {"type": "raw", "default": []},
            }
        )
        own = machine_architecture()
        architecture = ARCHITECTURES.get(arguments["architecture"], own)
        try:
            pins = versioned_pins(arguments["versions"], sample_app_names(arguments["sample_apps"]))
            cache = Cache(cache_directory(), pins, architecture)
            files = cache.machine_files(arguments["binaries"])
            images = [pinned_image(cache, image) for image in cache.images(set(arguments["images"]))]
            images += [given_image(Path(archive)) for archive in arguments["archives"]]
        except ArtifactError as error:
            hint = (
                f" This machine is {architecture}, and a run fills the cache for its controller, which is {own}. Run "
                f"the playbook artifacts on an {architecture} machine, and copy its cache's folders here."
            )
            raise AnsibleActionFail(f"{error}{'' if architecture == own else hint}") from None

        def on_machine(transferred: dict[str, str]) -> dict[str, Any]:
            result: dict[str, Any] = self._execute_module(
                module_name="kubescale.fleet.node_artifacts",
                module_args={"files": files, "images": images, "mirrors": mirrors, "transferred": transferred},
                task_vars=task_vars,
            )
            if result.get("failed"):
                result["msg"] = f"{(task_vars or {}).get('inventory_hostname', '')}: {result['msg']}"
            return result

        elsewhere = download_hosts(cache.pins)
        mirrors = {host: url for host, url in arguments["mirrors"].items() if host not in elsewhere}
        result = on_machine({})
        if not result.get("lacking") or self._task.check_mode:
            return result
        folder = self._make_tmp_path()
        transferred = {}
        try:
            for number, source in enumerate(result["lacking"]):
                transferred[source] = self._connection._shell.join_path(folder, str(number))
                self._transfer_file(str(cache.directory / source), transferred[source])
            # The first look may have changed the mirrors already.
            return {**on_machine(transferred), "changed": True, "mirrored": result["mirrored"]}
        finally:
            self._remove_tmp_path(folder)
