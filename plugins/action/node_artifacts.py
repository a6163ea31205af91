# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Put binaries and images from the controller's cache on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from ..plugin_utils.common.action import Action
from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.common.paths import cache_directory


def pinned_image(cache: Cache, image: Image) -> dict[str, Any]:
    """Return the values of an image of the cache that a machine needs."""
    record = cache.recorded(image.record)
    if record.get("pull"):
        return {"reference": image.reference, "pin": record["pin"], "manifest": f"pulled {record['pin']}".strip()}
    return {
        "source": str(image.archive.relative_to(cache.directory)),
        "reference": image.reference,
        **{key: record[key] for key in ("manifest", "sha256", "size")},
    }


def given_image(archive: Path) -> dict[str, Any]:
    """Return the same values of an image archive that the user gave."""
    references = archive_references(archive)
    sha256 = file_digest(archive)
    size = archive.stat().st_size
    return {"source": str(archive), "reference": references[0], "manifest": sha256, "sha256": sha256, "size": size}


class ActionModule(Action):
    """The action of the module `node_artifacts`."""

    TRANSFERS_FILES = True
    _requires_connection = True

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Ask the machine for the files that it lacks, transfer them, and install."""
        own = machine_architecture()
        architecture = ARCHITECTURES.get(args["architecture"], own)
        try:
            pins = versioned_pins(args["versions"], sample_app_names(args["sample_apps"]))
            cache = Cache(cache_directory(), pins, architecture)
            files = cache.machine_files(args["binaries"])
            images = [pinned_image(cache, image) for image in cache.images(set(args["images"]))]
            images += [given_image(Path(archive)) for archive in args["archives"]]
        except ArtifactError as error:
            hint = (
                f" This machine is {architecture}, and a run fills the cache for its controller, which is {own}. Run "
                f"the playbook artifacts on an {architecture} machine, and copy its cache's folders here."
            )
            raise FleetError(f"{error}{'' if architecture == own else hint}") from None
        elsewhere = download_hosts(cache.pins)
        mirrors = {host: url for host, url in args["mirrors"].items() if host not in elsewhere}
        given = {"files": files, "images": images, "mirrors": mirrors}
        result = self._on_machine(given)
        if not result.get("lacking") or self.check:
            return result
        folder = self._make_tmp_path()
        transferred = {}
        try:
            for number, source in enumerate(result["lacking"]):
                transferred[source] = self._connection._shell.join_path(folder, str(number))
                self._transfer_file(str(cache.directory / source), transferred[source])
            # The first look may have changed the mirrors already.
            return {
                **self._on_machine({**given, "transferred": transferred}),
                "changed": True,
                "mirrored": result["mirrored"],
            }
        finally:
            self._remove_tmp_path(folder)

    def _on_machine(self, given: dict[str, Any]) -> dict[str, Any]:
        """Run the module that installs on the machine."""
        result: dict[str, Any] = self._execute_module(
            "kubescale.fleet.machine_artifacts", given, task_vars=self.variables
        )
        if result.get("failed"):
            result["msg"] = f"{self.host}: {result['msg']}"
        return result
