# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Container images as files: write OCI archives that depend on their content only, and read names from archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zstandard

from ..common.files import replacing
from .cache import file_digest
from .pins import ArtifactError

#: Modification time, in seconds since 1970, of every file in every archive. Any constant would do.
EPOCH = 1735689600
#: Links in an image on top of Debian. A folder of the same name would hide the files that the link leads to.
LINKS = {"bin", "sbin", "lib"}
OCI = "application/vnd.oci.image"


def archive_member(name: str, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """Return a tar entry with no trace of the machine: owner root, a constant time."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.type, member.mtime = size, mode, kind, EPOCH
    return member


def write_layer(path: Path, content: Mapping[str, Path]) -> None:
    """Write a tar of ``content`` (place in the image → file or folder), parents first, always in the same order."""
    files: dict[str, Path] = {}
    for place, source in content.items():
        if source.is_dir():
            files |= {f"{place}/{found.relative_to(source)}": found for found in source.rglob("*") if found.is_file()}
        else:
            files[place] = source
    files = {place.lstrip("/"): source for place, source in files.items()}
    folders = {str(parent) for place in files for parent in Path(place).parents} - {".", *LINKS}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted(folders):
            archive.addfile(archive_member(folder, mode=0o755, kind=tarfile.DIRTYPE))
        for place in sorted(files):
            status = files[place].stat()
            member = archive_member(place, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644)
            with files[place].open("rb") as stream:
                archive.addfile(member, stream)


class _Blobs:
    """The content of an OCI archive, by SHA-256."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes | Path] = {}

    def add(self, content: bytes | Path, kind: str) -> dict[str, Any]:
        """Add a file or bytes of a media type below ``OCI``. Return the descriptor that refers to it."""
        if isinstance(content, Path):
            sha256, size = file_digest(content), content.stat().st_size
        else:
            sha256, size = hashlib.sha256(content).hexdigest(), len(content)
        self._contents[sha256] = content
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{sha256}", "size": size}

    def write(self, archive: tarfile.TarFile) -> None:
        """Write everything to an archive, in the order of the checksums."""
        for sha256, content in sorted(self._contents.items(), key=lambda item: item[0]):
            name = f"blobs/sha256/{sha256}"
            if isinstance(content, Path):
                with content.open("rb") as stream:
                    archive.addfile(archive_member(name, content.stat().st_size), stream)
            else:
                _write_bytes(archive, name, content)


def _write_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(archive_member(name, len(content)), io.BytesIO(content))


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def write_image(archive: Path, reference: str, architecture: str, layers: list[Path], config: dict[str, Any]) -> str:
    """Write an OCI image archive of ``layers`` (tar files), and return the digest of its manifest."""
    blobs, platform = _Blobs(), {"architecture": architecture, "os": "linux"}
    with tempfile.TemporaryDirectory(dir=archive.parent) as temporary, replacing(archive) as target:
        compressed = [Path(temporary) / str(number) for number in range(len(layers))]
        for layer, file in zip(layers, compressed, strict=True):
            # Level 3 is a third of the bytes to write, read and check on each machine, and unpacks as fast as none.
            with layer.open("rb") as plain, file.open("wb") as packed:
                zstandard.ZstdCompressor(level=3).copy_stream(plain, packed, size=layer.stat().st_size)
        stored = [blobs.add(file, "layer.v1.tar+zstd") for file in compressed]
        root = {"type": "layers", "diff_ids": [f"sha256:{file_digest(layer)}" for layer in layers]}
        image_config = blobs.add(_json({**platform, "config": config, "rootfs": root}), "config.v1+json")
        kind = "manifest.v1+json"
        manifest = blobs.add(
            _json({"schemaVersion": 2, "mediaType": f"{OCI}.{kind}", "config": image_config, "layers": stored}), kind
        )
        names = {
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[1],
        }
        index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names, "platform": platform}]}
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as stream:
            _write_bytes(stream, "index.json", _json(index))
            _write_bytes(stream, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            blobs.write(stream)
    return manifest["digest"]


def archive_references(path: Path) -> list[str]:
    """Return the full names of the images in an archive of ``docker save`` or ``podman save``, or an OCI archive.

    Raise ArtifactError if the file does not exist, is no archive, or names no image.
    """
    try:
        with tarfile.open(path) as archive:
            names = set(archive.getnames())
            if "manifest.json" in names:
                manifest = json.load(archive.extractfile("manifest.json") or io.BytesIO(b"[]"))
                references = [tag for image in manifest for tag in image.get("RepoTags") or []]
            else:
                index = json.load(archive.extractfile("index.json") or io.BytesIO(b"{}"))
                annotations = [image.get("annotations", {}) for image in index["manifests"]]
                references = [
                    item["io.containerd.image.name"] for item in annotations if "io.containerd.image.name" in item
                ]
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise ArtifactError(f"{path} is no image archive as `docker save` writes it: {error}") from error
    if not references:
        raise ArtifactError(f"{path} names no image. Save it by name: docker save --output FILE NAME:TAG")
    return [full_reference(reference) for reference in references]


def full_reference(reference: str) -> str:
    """Return an image's name as containerd keeps it: with its registry, or ``docker.io`` if it has none."""
    first, slash, _rest = reference.partition("/")
    if not slash:
        return f"docker.io/library/{reference}"
    return reference if first == "localhost" or "." in first or ":" in first else f"docker.io/{reference}"
