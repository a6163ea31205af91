# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The controller's cache of artifacts, and the steps that fill it.

Each product has a record beside it, with the digest of everything the product was made from. So a cache entry never
goes stale unnoticed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .damage import damaged_files, file_digest, read_record
from .pins import OWN_REPOSITORIES, ArtifactError


def digest_of(*parts: str | bytes) -> str:
    """Return the SHA-256 (hex) of the parts. The length of each part is in it, so that no two lists are alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()


@dataclass(frozen=True)
class Image:
    """A container image: its full ``reference``, its archive in the cache, and its entry in the pins."""

    reference: str
    archive: Path
    recipe: Mapping[str, Any]

    @property
    def record(self) -> Path:
        """The file that describes the archive, or notes that machines pull the image themselves."""
        return self.archive.with_suffix(".json")

    @property
    def is_own(self) -> bool:
        """Whether the image is of a program of this collection, so that no registry has it."""
        return self.reference.startswith(OWN_REPOSITORIES)


class Cache:
    """The artifacts of one architecture below ``directory``."""

    def __init__(self, directory: Path, pins: dict[str, Any], architecture: str) -> None:
        self.directory = directory
        self.pins = pins
        self.architecture = architecture

    def component(self, name: str) -> Path:
        """Return the folder of a component. Raise ArtifactError if the name is not pinned."""
        if name not in self.pins["components"]:
            known = ", ".join(sorted(self.pins["components"]))
            raise ArtifactError(f"Unknown component {name!r}; files/artifacts.yml pins {known}.")
        return self.directory / "artifacts" / name / f"{self.pins['components'][name]['version']}-{self.architecture}"

    def layer(self, name: str) -> Path:
        """Return the archive of a Debian layer."""
        return self.directory / "layers" / f"{name}-{self.pins['debian']}-{self.architecture}.tar"

    def images(self, machines: set[str] | None = None) -> list[Image]:
        """Return all pinned images, or those that the given kinds of machines run."""
        result = []
        for recipe in self.pins["images"]:
            if machines is not None and not machines & set(recipe["machines"]):
                continue
            tag = recipe["tag"].format(version=self.pins["components"][recipe["component"]]["version"])
            archive = f"{recipe['repository'].replace('/', '_')}_{tag}_{self.architecture}.tar"
            result.append(Image(f"{recipe['repository']}:{tag}", self.directory / "images" / archive, recipe))
        return result

    def recorded(self, record: Path) -> dict[str, Any]:
        """Return the content of a product's record. Raise ArtifactError if the product is not in the cache."""
        content = read_record(record)
        if content is None:
            state = f"{record} is damaged" if record.exists() else f"{record.parent} is not in the cache"
            raise ArtifactError(f"{state}. Make it with: ansible-playbook kubescale.fleet.artifacts")
        return content

    def machine_files(self, names: list[str]) -> list[dict[str, Any]]:
        """Return source, destination, sha256 and size of the files of ``names`` (keys of ``machine_files``)."""
        result = []
        for name in names:
            if name not in self.pins["machine_files"]:
                raise ArtifactError(f"binaries: {name!r} is none of {', '.join(sorted(self.pins['machine_files']))}.")
            recipe = self.pins["machine_files"][name]
            folder = self.component(recipe["component"])
            files = self.recorded(folder / "manifest.json")["files"]
            result += [
                {
                    "source": str((folder / binary).relative_to(self.directory)),
                    "destination": f"{recipe['folder']}/{binary}",
                    **files[binary],
                }
                for binary in recipe["binaries"]
            ]
        return result

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Lock the cache. If another process has it locked, call ``waiting`` once and wait.

        The kernel unlocks it when the process ends, however that happens.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class Step:
    """One product of the cache, and how to make it.

    Attributes:
        name: For people; unique.
        product: The file or folder in the cache.
        record: The file that notes the digest, beside the product.
        digest: Of everything the product is made from.
        make: Makes the product and returns the rest of its record.
        needs: Names of the steps whose products this one is made from.
        kind: ``build``, ``fetch``, or ``note`` for a record without a product.
        tools: Commands that this step needs, beside those of all builds.
    """

    name: str
    product: Path
    record: Path
    digest: str
    make: Callable[[], dict[str, Any]]
    needs: tuple[str, ...] = ()
    kind: Literal["build", "fetch", "note"] = "build"
    tools: tuple[str, ...] = ()

    def is_made(self) -> bool:
        """Return whether the cache holds exactly this product."""
        return self._damage() == []

    def damage(self) -> list[Path]:
        """Return the files of this product that differ from the checksums in its record."""
        return self._damage() or []

    def _damage(self) -> list[Path] | None:
        """Return the damaged files; None if the cache does not hold this product at all."""
        recorded = read_record(self.record)
        if recorded is None or not self.product.exists() or recorded.get("digest") != self.digest:
            return None
        return damaged_files(self.product, self.record, recorded)


def fill(folder: Path, make: Callable[[Path], None]) -> dict[str, Any]:
    """Replace a component's folder by the one that ``make`` fills, and return its record: files and size in bytes.

    If ``make`` fails, the folder stays as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        make(made)
        files = {
            str(file.relative_to(made)): {"sha256": file_digest(file), "size": file.stat().st_size}
            for file in sorted(made.rglob("*"))
            if file.is_file()
        }
        if folder.exists():
            shutil.rmtree(folder)
        made.chmod(0o755)
        made.rename(folder)
    return {"files": files, "size": sum(file["size"] for file in files.values())}
