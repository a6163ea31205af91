# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Bundles: one archive with everything the cache holds, for sites that reach nothing.

A bundle is a tar compressed with zstd, with these files in one folder, in this order::

    SHA256SUMS            of every other file; `sha256sum --check SHA256SUMS` reads it
    bundle.json           architecture and the steps (name, digest) whose products are inside
    sbom.cdx.json         bill of materials, CycloneDX
    licences/             licence texts, with index.json
    cache/                products and records, laid out as in the cache

It contains no time, machine name or path: the same cache gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import zstandard

from ..common.files import replacing
from .cache import Cache, Step, digest_of
from .damage import recorded_files
from .images import archive_member
from .pins import ArtifactError

FOLDER = "kubescale-bundle"
SUMS, ABOUT, SBOM, LICENCES, CACHE = "SHA256SUMS", "bundle.json", "sbom.cdx.json", "licences", "cache"
#: Raise it when this code can no longer read older bundles.
FORMAT = 1
#: Binaries shrink to a quarter at this level; higher levels take twice the time for a twentieth less. A window of
#: 128 MiB is the largest that zstd unpacks by default: with it, a layer that several images have is stored once.
LEVEL, WINDOW = 3, 27
CHUNK = MEBIBYTE = 1024 * 1024
PROGRESS_SECONDS = 5

#: Called with the bytes that are done, and all bytes.
Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


def every_few_seconds(say: Callable[[str], None], doing: str, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return a progress report that calls ``say`` every few seconds, so never for work of less than that."""
    last: float | None = None

    def report(done: int, total: int) -> None:
        nonlocal last
        if last is None:
            last = clock()
        elif clock() - last >= PROGRESS_SECONDS:
            last = clock()
            say(f"{doing} {100 * done // total} % of {total / MEBIBYTE:.1f} MiB")

    return report


@dataclass(frozen=True)
class Entry:
    """A file of a bundle: its path below the folder, its content (bytes, or a file of the cache), and its SHA-256."""

    path: str
    content: bytes | Path
    sha256: str
    executable: bool = False

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def text_entry(path: str, content: bytes) -> Entry:
    """Return the entry of a file that only the bundle has."""
    return Entry(path, content, hashlib.sha256(content).hexdigest())


def cache_entries(cache: Cache, steps: Sequence[Step]) -> list[Entry]:
    """Return the products and records of ``steps``. Raise ArtifactError if one was not built into the cache."""
    entries = []
    for step in steps:
        if not step.is_made():
            state = "is damaged in the cache" if step.damage() else "is not in the cache, or was not built"
            raise ArtifactError(
                f"{step.name} {state}. A bundle holds what was built: run "
                "ansible-playbook kubescale.fleet.artifacts -e artifacts_source=build"
            )
        record = cache.recorded(step.record)
        # The same product must give the same bytes, however long the build took.
        record.pop("seconds", None)
        entries += [
            Entry(place(cache, file), file, facts["sha256"], bool(file.stat().st_mode & 0o100))
            for file, facts in recorded_files(step.product, record).items()
        ]
        text = json.dumps(record, indent=1, sort_keys=True).encode()
        entries.append(text_entry(place(cache, step.record), text))
    return entries


def place(cache: Cache, path: Path) -> str:
    """Return a cache file's path in a bundle."""
    return f"{CACHE}/{path.relative_to(cache.directory).as_posix()}"


def about(cache: Cache, steps: Sequence[Step]) -> dict[str, Any]:
    """Return the content of bundle.json."""
    digests = {step.name: step.digest for step in steps}
    return {
        "format": FORMAT,
        "architecture": cache.architecture,
        "steps": digests,
        "version": digest_of(cache.architecture, json.dumps(digests, sort_keys=True))[:16],
    }


def bundle_entries(
    cache: Cache, steps: Sequence[Step], sbom: str, licences: Mapping[str, bytes], description: Mapping[str, Any]
) -> list[Entry]:
    """Return all files of a bundle in their order."""
    entries = [
        text_entry(ABOUT, json.dumps(description, indent=1).encode()),
        text_entry(SBOM, sbom.encode()),
        *(text_entry(f"{LICENCES}/{name}", text) for name, text in licences.items()),
        *cache_entries(cache, steps),
    ]
    sums = "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries)
    return [text_entry(SUMS, sums.encode()), *entries]


def write_bundle(entries: Sequence[Entry], target: Path, report: Progress = no_progress) -> None:
    """Write an archive in one step. Raise ArtifactError if a file of the cache does not match its record."""
    total = sum(entry.size for entry in entries)
    done = 0
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW, enable_ldm=True, write_checksum=True, threads=len(os.sched_getaffinity(0))
    )
    with named_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(target) as temporary,
            temporary.open("wb") as plain,
            zstandard.ZstdCompressor(compression_params=parameters).stream_writer(plain) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as archive,
        ):
            for entry in entries:
                mode = 0o755 if entry.executable else 0o644
                member = archive_member(f"{FOLDER}/{entry.path}", entry.size, mode)
                with opened(entry.content) as stream:
                    hashed = Hashed(stream)
                    archive.addfile(member, hashed)  # type: ignore[arg-type]
                if hashed.sha256 != entry.sha256:
                    raise ArtifactError(
                        f"{entry.path} does not have the checksum of its record: the cache is damaged. Remove "
                        "that file there and run: ansible-playbook kubescale.fleet.artifacts"
                    )
                done += entry.size
                report(done, total)


def opened(content: bytes | Path) -> IO[bytes]:
    """Open a file or bytes for reading."""
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


class Hashed:
    """A stream that counts the checksum of the bytes that were read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of the bytes that were read so far."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Raise an ArtifactError that names ``path`` in place of an OSError (no space, no rights, no such file)."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{error.filename or path}: {error.strerror or error}") from error
