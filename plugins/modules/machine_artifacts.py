# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: machine_artifacts
short_description: Install the binaries and images that a machine lacks
version_added: 0.1.0
description:
  - The part of M(kubescale.fleet.node_artifacts) that runs on a machine. In playbooks, use that module.
  - Returns the files that the machine lacks. Installs only if the machine has all files.
author: kubescale founders (@kubescale)
options:
  files:
    description: Binaries, each with C(source) (path in the cache), C(destination), C(sha256) and C(size).
    type: list
    elements: dict
    default: []
  images:
    description:
      - Images, each with C(reference) and C(manifest) (digest of the content).
      - An image with an archive also has C(source), C(sha256) and C(size). An image to pull has C(pin), its digest or
        empty.
    type: list
    elements: dict
    default: []
  mirrors:
    description: Base URL that replaces a registry, by the registry's host.
    type: dict
    default: {}
  transferred:
    description: Path on the machine of each transferred file, by its path in the cache.
    type: dict
    default: {}
extends_documentation_fragment: [kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Return the binaries that a machine lacks
  kubescale.fleet.machine_artifacts:
    files:
      - source: amd64/runc
        destination: /usr/local/sbin/runc
        sha256: "{{ checksum_of_runc }}"
        size: 9000000
"""

RETURN = r"""
lacking:
  description:
    - Paths in the cache of files that must be transferred first. Nothing was installed then.
    - Without this value, the result is that of M(kubescale.fleet.node_artifacts).
  type: list
  elements: str
  returned: when files are missing
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubescale.fleet.plugins.module_utils.files import replace_file

MOUNTED_CACHE = Path("/var/cache/kubescale")
# Absolute: the PATH of sudo (its secure_path) lacks /usr/local/bin on the Red Hat family.
CTR = ["/usr/local/bin/ctr", "--namespace", "k8s.io"]
# The kubelet's clean-up of a full disk leaves images with this label. CRI reads it from the image.
PINNED = "io.cri-containerd.pinned"
PINNED_VALUE = "pinned"
REGISTRY_HOSTS = Path("/etc/containerd/certs.d")
REGISTRY_MARK = "# Written by kubescale.fleet.node_artifacts."
PARALLEL_PULLS = 4
# Timeout for one image in seconds. Large images take minutes on slow networks, and a registry may stall.
PULL_TIMEOUT = 900
# Digests, sizes and times of installed files, so that a run need not read half a gigabyte to compare digests.
RECORD = Path("/var/lib/kubescale/artifacts.json")


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1024 * 1024), b""):
            total.update(block)
    return total.hexdigest()


def look(path: Path) -> list[int]:
    """Return size in bytes, change time in nanoseconds and inode of a file, which differ if the file was changed."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def room(folder: Path, size: int) -> str:
    """Return a message with the free space below a folder and the ``size`` in bytes that is needed."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    return f"{mebibytes(free)} are free below {folder}, and this needs {mebibytes(size)}. Free space and run again."


def mebibytes(size: int) -> str:
    """Return a size in bytes as text in MiB."""
    return f"{size / 1024**2:.1f} MiB"


def registry_file(mirror: str) -> str:
    """Return the text of a hosts.toml that makes containerd ask ``mirror`` (a base URL) and nothing else."""
    parts = urlsplit(mirror)
    path = parts.path.rstrip("/")
    # A registry serves /v2/<repository>. The project of a mirror is the first part of the repository.
    server = f"{parts.scheme}://{parts.netloc}/v2{path}" if path else f"{parts.scheme}://{parts.netloc}"
    lines = [REGISTRY_MARK, f'server = "{server}"', 'capabilities = ["pull", "resolve"]']
    return "\n".join([*lines, "override_path = true"] if path else lines) + "\n"


class RegistryConflictError(Exception):
    """The file for a mirror exists, and this module did not write it."""


def change_registries(mirrors: dict[str, str], folder: Path, check: bool) -> dict[str, tuple[str, str]]:
    """Write a file for each mirror into containerd's ``folder``, and remove this module's other files.

    Return texts before and after of changed files, by host. Raise RegistryConflictError if a file is not this module's.
    """
    wanted = {host: registry_file(url) for host, url in mirrors.items()}
    present = {file.parent.name: file.read_text(encoding="utf-8") for file in folder.glob("*/hosts.toml")}
    ours = {host for host, text in present.items() if text.startswith(REGISTRY_MARK)}
    changes = {}
    for host in sorted(set(wanted) | ours):
        before, after = present.get(host, ""), wanted.get(host, "")
        if before == after:
            continue
        file = folder / host / "hosts.toml"
        if before and host not in ours:
            raise RegistryConflictError(
                f"artifacts_mirrors names {host}, and {file} was not written by this collection. Remove that file, "
                f"or leave {host} out of artifacts_mirrors."
            )
        changes[host] = before, after
        if check:
            continue
        if after:
            replace_file(file, after)
        else:
            file.unlink()
            # Other files of the folder, such as a CA certificate, belong to the user.
            with contextlib.suppress(OSError):
                file.parent.rmdir()
    return changes


class Installer:
    """Compares the binaries and images of a machine with the parameters, and installs the missing ones."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.record: dict[str, Any] = {"files": {}, "images": {}}
        if RECORD.exists():
            self.record = json.loads(RECORD.read_text(encoding="utf-8"))
        self.recorded = {name: dict(entries) for name, entries in self.record.items()}

    def is_installed(self, item: dict[str, Any]) -> bool:
        """Return whether a binary exists with the right content."""
        path = Path(item["destination"])
        if not path.exists():
            return False
        recorded = self.record["files"].get(item["destination"])
        if recorded and recorded["look"] == look(path):
            return bool(recorded["sha256"] == item["sha256"])
        return file_digest(path) == item["sha256"]

    def missing_images(self) -> list[dict[str, Any]]:
        """Return the images that containerd lacks, or has with another content."""
        images: list[dict[str, Any]] = self.module.params["images"]
        if not images or (self.module.check_mode and not Path(CTR[0]).exists()):
            return images
        present = self.module.run_command([*CTR, "images", "list", "--quiet"], check_rc=True)[1].split()
        recorded = self.record["images"]
        return [
            item
            for item in images
            if item["reference"] not in present or recorded.get(item["reference"]) != item["manifest"]
        ]

    def source(self, item: dict[str, Any]) -> Path | None:
        """Return the file on this machine with the content of a binary or image, or None."""
        transferred = self.module.params["transferred"].get(item["source"])
        candidates = ([Path(transferred)] if transferred else []) + [MOUNTED_CACHE / item["source"]]
        return next((path for path in candidates if path.exists() and path.stat().st_size == item["size"]), None)

    def install(self, item: dict[str, Any], source: Path) -> None:
        """Install a binary in one step."""
        destination = Path(item["destination"])
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = destination.with_name(f"{destination.name}.new")
        try:
            shutil.copyfile(source, temporary)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self.module.fail_json(msg=f"{destination}: {error.strerror}. {room(destination.parent, item['size'])}")
        if file_digest(temporary) != item["sha256"]:
            temporary.unlink()
            self.module.fail_json(
                msg=f"{destination}: the copy's SHA-256 is not {item['sha256']}. The cache or the transfer damaged it."
            )
        self.module.set_mode_if_different(str(temporary), "0755", changed=False)
        # The file of a running program cannot be written, but can be replaced.
        temporary.replace(destination)

    def import_image(self, item: dict[str, Any], source: Path) -> None:
        """Import an image archive into containerd, without unpacking. Fail the module if ctr fails."""
        # containerd unpacks an image when a pod needs it; a machine rarely runs all images. With --local, ctr writes to
        # the content store itself, which takes a third of the work of streaming to the daemon.
        # The archive is not on the machine any more when the kubelet cleans up, and no registry may have the image.
        label = f"{PINNED}={PINNED_VALUE}"
        command = [*CTR, "images", "import", "--local", "--no-unpack", "--label", label, str(source)]
        code, _unused, output = self.module.run_command(command)
        if code:
            reason = output.strip().splitlines()[-1] if output.strip() else f"ctr ended with {code}"
            self.module.fail_json(
                msg=f"Image {item['reference']} cannot be imported: {reason}. "
                f"{room(Path('/var/lib/containerd'), item['size'])}"
            )

    def release_former_images(self) -> None:
        """Let the kubelet clean up the imported images that the parameters do not name any more."""
        wanted = {item["reference"] for item in self.module.params["images"]}
        former = sorted(self.record["images"].keys() - wanted) if wanted else []
        if not former:
            return
        present = self.module.run_command([*CTR, "images", "list", "--quiet"], check_rc=True)[1].split()
        for reference in former:
            if reference in present:
                self.module.run_command([*CTR, "images", "label", reference, f"{PINNED}="], check_rc=True)
            del self.record["images"][reference]

    def save(self) -> None:
        """Write the record of all binaries and images of the machine."""
        installed = {
            item["destination"]: {"sha256": item["sha256"], "look": look(Path(item["destination"]))}
            for item in self.module.params["files"]
        }
        imported = {item["reference"]: item["manifest"] for item in self.module.params["images"]}
        record = {
            "files": {**self.record["files"], **installed},
            "images": {**self.record["images"], **imported},
        }
        if record != self.recorded:
            replace_file(RECORD, json.dumps(record))


def pull(item: dict[str, Any]) -> str:
    """Make containerd fetch an image, without unpacking it. Return the error, or ""."""
    reference = item["reference"]
    # containerd rejects other content if the name contains the digest. The image gets its own name afterwards.
    fetched = f"{reference}@{item['pin']}" if item["pin"] else reference
    commands = [[*CTR, "content", "fetch", "--hosts-dir", str(REGISTRY_HOSTS), fetched]]
    if item["pin"]:
        commands += [[*CTR, "images", "tag", "--force", fetched, reference], [*CTR, "images", "remove", fetched]]
    for command in commands:
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=PULL_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return f"not finished after {PULL_TIMEOUT} seconds"
        if result.returncode:
            # The lines before the last one are warnings and the log.
            return (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
    return ""


def pull_all(images: list[dict[str, Any]], mirrors: dict[str, str]) -> list[str]:
    """Pull several images at a time. Return the errors, each with its registry and mirror."""
    with ThreadPoolExecutor(PARALLEL_PULLS) as pool:
        pulls = [(item["reference"], pool.submit(pull, item)) for item in images]
    failures = []
    for reference, future in pulls:
        if future.result():
            host = reference.split("/")[0]
            mirror = f" (by its mirror {mirrors[host]})" if host in mirrors else ""
            failures.append(f"{reference} from {host}{mirror}: {future.result()}")
    return failures


def predicted(files: list[Any], images: list[Any], registries: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return the result of a run that installs these files and images and changes these registries."""
    names = [item["destination"] for item in files] + [item["reference"] for item in images]
    return {
        "changed": bool(names or registries),
        "mirrored": list(registries),
        "installed": [item["destination"] for item in files],
        "imported": [item["reference"] for item in images if "source" in item],
        "pulled": [item["reference"] for item in images if "source" not in item],
        "diff": [
            {"before": "", "after": "".join(f"{name}\n" for name in names)},
            *(
                {"before_header": f"registry {host}", "after_header": f"registry {host}", "before": old, "after": new}
                for host, (old, new) in registries.items()
            ),
        ],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": []},
            "images": {"type": "list", "elements": "dict", "default": []},
            "mirrors": {"type": "dict", "default": {}},
            "transferred": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        registries = change_registries(module.params["mirrors"], REGISTRY_HOSTS, module.check_mode)
    except RegistryConflictError as error:
        module.fail_json(msg=str(error))
    installer = Installer(module)
    files = [item for item in module.params["files"] if not installer.is_installed(item)]
    images = installer.missing_images()
    result = predicted(files, images, registries)
    if module.check_mode:
        module.exit_json(**result)
    pulls = [item for item in images if "source" not in item]
    images = [item for item in images if "source" in item]
    paths = {item["source"]: installer.source(item) for item in files + images}
    sources = {name: path for name, path in paths.items() if path is not None}
    lacking = [name for name in paths if name not in sources]
    if lacking and module.params["transferred"]:
        module.fail_json(
            msg=f"Transferred files have another size than in the cache: {', '.join(lacking)}. Is the disk full?"
        )
    if lacking:
        module.exit_json(changed=bool(registries), mirrored=list(registries), lacking=lacking)
    for item in files:
        installer.install(item, sources[item["source"]])
    for item in images:
        installer.import_image(item, sources[item["source"]])
    if failures := pull_all(pulls, module.params["mirrors"]):
        module.fail_json(
            msg=f"{len(failures)} of {len(pulls)} images could not be pulled. Set a mirror in artifacts_mirrors, or "
            "artifacts_source: build, which needs no registry.\n" + "\n".join(failures)
        )
    installer.release_former_images()
    installer.save()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
