# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes the cache into one archive for sites that reach nothing, or verifies such an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts import bundle, bundle_reader, contents, sbom
from ..plugin_utils.artifacts.build import Builder
from ..plugin_utils.artifacts.cache import Cache, file_digest
from ..plugin_utils.artifacts.pins import ArtifactError, machine_architecture, versioned_pins
from ..plugin_utils.common.paths import cache_directory


def all_entries(builder: Builder) -> list[bundle.Entry]:
    """Look into everything a complete cache holds, and return the files of its bundle in their order."""
    steps = builder.steps()
    inside = contents.Inspector(builder).contents()
    about = bundle.about(builder.cache, steps)
    document = sbom.document(inside, bundle.FOLDER, about["version"], bundle.LICENCES, bundle.CACHE)
    return bundle.bundle_entries(builder.cache, steps, document, contents.licence_files(inside), about)


def say(text: str) -> None:
    """Show a line to the person."""
    Display().display(f"  bundle: {text}")


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make or verify the archive, with progress when that takes long."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "file": {"type": "path", "required": True},
                "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
                "sample_apps": {"type": "raw", "default": []},
            }
        )
        file = Path(arguments["file"]).absolute()
        try:
            pins = versioned_pins(None, sample_app_names(arguments["sample_apps"]))
            builder = Builder(Cache(cache_directory(), pins, machine_architecture()))
            verifying = bundle.every_few_seconds(say, f"verifying {file.name}:")
            if arguments["state"] == "verified":
                found = bundle_reader.verify_bundle(file, builder.cache, builder.steps(), verifying)
                result = {"changed": False, "sha256": found.sha256}
            else:
                result = self._present(builder, file, verifying)
        except ArtifactError as error:
            raise AnsibleActionFail(str(error)) from None
        if not file.exists():
            return {**result, "file": str(file)}
        size = file.stat().st_size
        say(f"{file}, {size / bundle.MEBIBYTE:.1f} MiB, SHA-256 {result['sha256']}")
        return {**result, "file": str(file), "size": size}

    def _present(self, builder: Builder, file: Path, verifying: bundle.Progress) -> dict[str, Any]:
        """Write the archive unless it is there; in check mode only tell whether it is."""
        if self._task.check_mode and not all(step.is_made() for step in builder.steps()):
            return {"changed": True}
        with builder.cache.locked(lambda: say("another run is filling the cache; waiting for it")):
            entries = all_entries(builder)
            changed = not bundle_reader.holds(file, entries, verifying)
            if changed and not self._task.check_mode:
                bundle.write_bundle(entries, file, bundle.every_few_seconds(say, f"writing {file.name}:"))
        return {"changed": changed, "sha256": file_digest(file) if file.exists() else ""}
