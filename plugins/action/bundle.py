# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write the cache into one archive for sites without internet, or verify such an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts import bundle, bundle_reader, contents, sbom
from ..plugin_utils.artifacts.build import Builder
from ..plugin_utils.artifacts.cache import Cache, file_digest
from ..plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from ..plugin_utils.common.action import Action, display
from ..plugin_utils.common.paths import cache_directory


def all_entries(builder: Builder) -> list[bundle.Entry]:
    """Return the files of a complete cache's bundle in their order."""
    steps = builder.steps()
    inside = contents.Inspector(builder).contents()
    about = bundle.about(builder.cache, steps)
    document = sbom.document(inside, bundle.FOLDER, about["version"], bundle.LICENCES, bundle.CACHE)
    return bundle.bundle_entries(builder.cache, steps, document, contents.licence_files(inside), about)


def say(text: str) -> None:
    """Show a line of progress."""
    display.display(f"  bundle: {text}")


class ActionModule(Action):
    """The action of the module `bundle`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Write or verify the archive, and show progress."""
        file = Path(args["file"]).absolute()
        pins = versioned_pins(None, sample_app_names(args["sample_apps"]))
        builder = Builder(Cache(cache_directory(), pins, machine_architecture()))
        verifying = bundle.every_few_seconds(say, f"verifying {file.name}:")
        result: dict[str, Any]
        if args["state"] == "verified":
            result = {"sha256": bundle_reader.verify_bundle(file, builder.cache, builder.steps(), verifying).sha256}
        else:
            result = self._present(builder, file, verifying)
        result["file"] = str(file)
        if file.exists():
            result["size"] = file.stat().st_size
            say(f"{file}, {result['size'] / bundle.MEBIBYTE:.1f} MiB, SHA-256 {result['sha256']}")
        return result

    def _present(self, builder: Builder, file: Path, verifying: bundle.Progress) -> dict[str, Any]:
        """Write the archive unless it is there; in check mode only return whether it is."""
        if self.check and not all(step.is_made() for step in builder.steps()):
            return {"changed": True}
        with builder.cache.locked(lambda: say("another run is filling the cache; waiting for it")):
            entries = all_entries(builder)
            changed = not bundle_reader.holds(file, entries, verifying)
            if changed and not self.check:
                bundle.write_bundle(entries, file, bundle.every_few_seconds(say, f"writing {file.name}:"))
        return {"changed": changed, "sha256": file_digest(file) if file.exists() else ""}
