# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: node_artifacts
short_description: Put binaries and images from the controller's cache on a machine
version_added: 0.1.0
description:
  - Installs binaries with the pinned checksum, and imports images into containerd's C(k8s.io) namespace.
  - Only what the machine lacks is transferred; nothing where the cache itself is mounted at C(/var/cache/kubescale).
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports what would be installed and imported.
    support: full
options:
  binaries:
    description: Keys of C(machine_files) in C(files/artifacts.yml).
    type: list
    elements: str
    default: []
  images:
    description: Kinds of machines whose images to import; containerd must be running.
    type: list
    elements: str
    choices: [control_plane, worker]
    default: []
  archives:
    description: Image archives on the controller, as C(docker save) writes them, to import as well.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Install containerd and its parts
  kubescale.fleet.node_artifacts:
    binaries: [containerd, runc, cni_plugins]

- name: Import what a worker runs
  kubescale.fleet.node_artifacts:
    images: [worker]
"""

RETURN = r"""
installed:
  description: Paths of the binaries that were installed or replaced, or would be in check mode.
  type: list
  elements: str
  returned: success
imported:
  description: References of the images that were imported, or would be in check mode.
  type: list
  elements: str
  returned: success
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MOUNTED_CACHE = Path("/var/cache/kubescale")
# What this module installed, and how each file looked then: saves reading half a gigabyte at each run.
RECORD = Path("/var/lib/kubescale/artifacts.json")


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1024 * 1024), b""):
            total.update(block)
    return total.hexdigest()


def look(path: Path) -> list[int]:
    """Return what tells a file that was changed from the one that was recorded."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def write_record(record: dict[str, Any]) -> None:
    """Write the record whole or not at all."""
    temporary = RECORD.with_suffix(".new")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(RECORD)


class Installer:
    """Compares what a machine has with what it shall have, and installs the rest."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.record: dict[str, Any] = {"files": {}, "images": {}}
        if RECORD.exists():
            self.record = json.loads(RECORD.read_text(encoding="utf-8"))

    def is_installed(self, item: dict[str, Any]) -> bool:
        """Tell whether a binary is there with the wanted content."""
        path = Path(item["destination"])
        if not path.exists():
            return False
        recorded = self.record["files"].get(item["destination"])
        if recorded and recorded["look"] == look(path):
            return bool(recorded["sha256"] == item["sha256"])
        return file_digest(path) == item["sha256"]

    def missing_images(self) -> list[dict[str, Any]]:
        """Return the images that containerd has not, or has with another content."""
        images: list[dict[str, Any]] = self.module.params["images"]
        if not images or (self.module.check_mode and not self.module.get_bin_path("ctr")):
            return images
        command = ["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]
        present = self.module.run_command(command, check_rc=True)[1].split()
        recorded = self.record["images"]
        return [
            item
            for item in images
            if item["reference"] not in present or recorded.get(item["reference"]) != item["manifest"]
        ]

    def source(self, item: dict[str, Any]) -> Path | None:
        """Return where the content of a binary or image can be read on this machine."""
        transferred = self.module.params["transferred"].get(item["source"])
        candidates = ([Path(transferred)] if transferred else []) + [MOUNTED_CACHE / item["source"]]
        return next((path for path in candidates if path.exists() and path.stat().st_size == item["size"]), None)

    def install(self, item: dict[str, Any], source: Path) -> None:
        """Put a binary in its place, whole or not at all."""
        destination = Path(item["destination"])
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = destination.with_name(f"{destination.name}.new")
        shutil.copyfile(source, temporary)
        if file_digest(temporary) != item["sha256"]:
            temporary.unlink()
            self.module.fail_json(
                msg=f"{destination}: the copy's SHA-256 is not {item['sha256']}: the cache or the way here damaged it."
            )
        self.module.set_mode_if_different(str(temporary), "0755", changed=False)
        # The file of a running program cannot be written, but it can be replaced.
        temporary.replace(destination)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "images": {"type": "list", "elements": "dict", "default": []},
            "transferred": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    installer = Installer(module)
    files = [item for item in module.params["files"] if not installer.is_installed(item)]
    images = installer.missing_images()
    names = [item["destination"] for item in files] + [item["reference"] for item in images]
    result: dict[str, Any] = {
        "changed": bool(names),
        "installed": [item["destination"] for item in files],
        "imported": [item["reference"] for item in images],
        "diff": {"before": "", "after": "".join(f"{name}\n" for name in names)},
    }
    if module.check_mode:
        module.exit_json(**result)
    found = {item["source"]: installer.source(item) for item in files + images}
    sources = {name: path for name, path in found.items() if path is not None}
    lacking = [name for name in found if name not in sources]
    if lacking and module.params["transferred"]:
        module.fail_json(
            msg=f"Transferred, but of another size than in the cache: {', '.join(lacking)}. Is its disk full?"
        )
    if lacking:
        module.exit_json(changed=False, lacking=lacking)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    for item in files:
        installer.install(item, sources[item["source"]])
    for item in images:
        # Unpacking waits until a pod needs the image: a machine seldom runs all of them. The local way of importing
        # writes to the content store itself, for a third of the work that streaming to the daemon takes.
        command = ["ctr", "--namespace", "k8s.io", "images", "import", "--local", "--no-unpack"]
        module.run_command([*command, str(sources[item["source"]])], check_rc=True)
    installed = {
        item["destination"]: {"sha256": item["sha256"], "look": look(Path(item["destination"]))}
        for item in module.params["files"]
    }
    imported = {item["reference"]: item["manifest"] for item in module.params["images"]}
    record = {
        "files": {**installer.record["files"], **installed},
        "images": {**installer.record["images"], **imported},
    }
    if record != installer.record:
        write_record(record)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
