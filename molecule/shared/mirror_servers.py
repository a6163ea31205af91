#!/usr/bin/env python3
"""A mirror of upstream, as a site may have one: a web server with release files, a registry with images.

Both serve what this project built. mirror_servers.py lay-out|start|push|stop FOLDER [--address ADDRESS]
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "collections")]

from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import downloads  # noqa: E402
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache, file_digest  # noqa: E402
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import machine_architecture, versioned_pins  # noqa: E402
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import paths  # noqa: E402

FILES_PORT, REGISTRY_PORT = 8086, 5000
REGISTRY = "registry"
# Components whose images are pinned by digest, as a site may do.
BY_DIGEST = ("flannel",)


def parts() -> Cache:
    """The cache with what was built: the usual one, where a scenario has one of its own for its site."""
    place = os.environ.get("KUBESCALE_PARTS", os.environ.get("KUBESCALE_CACHE", ""))
    directory = paths.cache_directory({**os.environ, "KUBESCALE_CACHE": place})
    return Cache(directory, versioned_pins(None), machine_architecture())


def pack(target: Path, members: Mapping[str, str], folder: Path) -> None:
    """Write an archive with ``members`` of a component's folder at their places, as upstream would."""
    files = {
        place + (str(file.relative_to(folder / name)) if place.endswith("/") else ""): file
        for name, place in members.items()
        for file in (sorted((folder / name).rglob("*")) if place.endswith("/") else [folder / name])
    }
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for place, file in files.items():
                archive.write(file, place)
        return
    with tarfile.open(target, "w:gz", compresslevel=1) as tar:
        for place, file in files.items():
            tar.add(file, f"./{place}")


def lay_out(folder: Path) -> dict[str, Any]:
    """Write the release files below ``folder`` under their paths at upstream; return them as artifacts_versions."""
    cache, versions = parts(), {}
    for name, recipe in cache.pins["components"].items():
        files: dict[str, str] = {}
        for item in downloads.downloads_of(recipe, cache.architecture):
            target = folder / urlsplit(item.url).path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if item.members:
                pack(target, item.members, cache.component(name))
            else:
                shutil.copyfile(cache.component(name) / item.file, target)
            files[item.name] = file_digest(target)
        if files:
            versions[name] = {"version": recipe["version"], "sha256": {cache.architecture: files}}
    for image in cache.images():
        if image.recipe["component"] in BY_DIGEST:
            digest = {image.recipe["repository"]: cache.recorded(image.record)["manifest"]}
            version = cache.pins["components"][image.recipe["component"]]["version"]
            versions[image.recipe["component"]] = {"version": version, "digests": digest}
    return versions


def seed(directory: Path) -> None:
    """Show another cache what no mirror has: this project's own images, and the machines' root file systems."""
    cache = parts()
    (cache.directory / "rootfs").mkdir(exist_ok=True)
    own = [path for image in cache.images() if image.is_own for path in (image.archive, image.record)]
    for source in [*own, cache.directory / "rootfs"]:
        target = directory / source.relative_to(cache.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source)


def push(address: str) -> None:
    """Put the images of upstream into the registry."""
    for image in parts().images():
        if not image.is_own:
            copy_image(image.archive, address, image.reference)


def copy_image(archive: Path, address: str, reference: str) -> None:
    """Put an image into the registry under its name at upstream."""
    target = f"docker://{address}:{REGISTRY_PORT}/{reference.split('/', 1)[1]}"
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci-archive:{archive}", target]
    subprocess.run(command, check=True)


def configuration(folder: Path, address: str) -> dict[str, Any]:
    """The registry's settings."""
    return {
        "version": 0.1,
        "log": {"formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": f"{address}:{REGISTRY_PORT}"},
    }


def start(folder: Path, address: str, *names: str) -> None:
    """Start the servers, or those that are named, remember their process ids, and return when they listen."""
    (folder / "registry.json").write_text(json.dumps(configuration(folder, address)), encoding="utf-8")
    files = ["--bind", address, "--directory", str(folder / "files"), str(FILES_PORT)]
    commands = {
        # Debian's package, unpacked: installed, it would start a registry for everybody on all addresses.
        REGISTRY: [str(folder / "package/usr/bin/docker-registry"), "serve", str(folder / "registry.json")],
        "files": [sys.executable, "-m", "http.server", *files],
    }
    for name in names or commands:
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(commands[name], stdout=log, stderr=log, start_new_session=True)
        (folder / f"{name}.pid").write_text(str(process.pid), encoding="ascii")
    for name in names or commands:
        where = f"host={address} port={REGISTRY_PORT if name == REGISTRY else FILES_PORT} timeout=30"
        subprocess.run(["ansible", "localhost", "-m", "ansible.builtin.wait_for", "-a", where], check=True)


def stop(folder: Path, *names: str) -> None:
    """Stop the servers, or those that are named, and return when they are gone."""
    for name in names or (REGISTRY, "files"):
        file = folder / f"{name}.pid"
        if file.exists():
            process = int(file.read_text(encoding="ascii"))
            command = Path(f"/proc/{process}/cmdline")
            # The number may be somebody else's by now.
            if command.exists() and str(folder) in command.read_text(encoding="utf-8"):
                ends = os.pidfd_open(process)
                signal.pidfd_send_signal(ends, signal.SIGTERM)
                select.select([ends], [], [], 10)
                os.close(ends)
            file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["lay-out", "start", "push", "stop"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--seed", type=Path, help="cache that gets this project's own images")
    given = parser.parse_args()
    if given.action == "lay-out":
        versions = lay_out(given.folder / "files")
        (given.folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
        seed(given.seed)
    elif given.action == "start":
        start(given.folder, given.address)
    elif given.action == "push":
        push(given.address)
    else:
        stop(given.folder)


if __name__ == "__main__":
    main()
