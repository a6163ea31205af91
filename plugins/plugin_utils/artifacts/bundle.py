# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Bundles: one archive with everything the cache holds, for sites that reach nothing.

A bundle is a tar compressed with zstd, with these files in one folder, in this order::

    SHA256SUMS            of every other file; `sha256sum --check SHA256SUMS` reads it
    bundle.json           architecture and the steps (name, digest) whose products are inside
    sbom.cdx.json         bill of materials, CycloneDX
    licences/             licence texts, with index.json
    cache/                products and records, laid out as in the cache

Nothing of the time, the machine or the path it was made at is in it: the same cache gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from .build import (
    ArtifactError,
    Cache,
    Step,
    archive_member,
    digest_of,
)

FOLDER = "kubescale-bundle"
SUMS, ABOUT, SBOM, LICENCES, CACHE = "SHA256SUMS", "bundle.json", "sbom.cdx.json", "licences", "cache"
# Raise it when a bundle of before cannot be read any more.
FORMAT = 1
# Binaries shrink to a quarter at this level; higher ones take twice the time for a twentieth less. A window of 128 MiB
# is the most that zstd unpacks without being asked: with it, a layer that several images have is kept once.
LEVEL, WINDOW = 3, 27
CHUNK = MEBIBYTE = 1024 * 1024
PROGRESS_SECONDS = 5
SUM_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")

Report = Callable[[int, int], None]


def silent(_done: int, _total: int) -> None:
    """A report of progress, bytes done and bytes in all, that nobody reads."""


def untold(_name: str, _state: str, _seconds: float, _size: int) -> None:
    """A report of steps that nobody reads."""


def every_few_seconds(say: Callable[[str], None], doing: str, clock: Callable[[], float] = time.monotonic) -> Report:
    """Return a report that says now and then how far it is, and nothing when the work is done soon."""
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
    """A file of a bundle: its path below the folder, its content (bytes, or a file of the cache), and its checksum."""

    path: str
    content: bytes | Path
    sha256: str
    executable: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass
class Bundle:
    """What a bundle said about itself: ``about`` (bundle.json), all checksums by path, the archive's own checksum."""

    about: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    sha256: str = ""
    size: int = 0


# -- writing ---------------------------------------------------------------------------------------------------------


def text_entry(path: str, content: bytes) -> Entry:
    """Return the entry of a file that is made for the bundle."""
    return Entry(path, content, hashlib.sha256(content).hexdigest())


def cache_entries(cache: Cache, steps: Sequence[Step]) -> list[Entry]:
    """Return the products and records of ``steps``; raises ArtifactError if one is not in the cache."""
    entries = []
    for step in steps:
        if not step.is_made():
            raise ArtifactError(
                f"{step.name} is not in the cache, or was not built. A bundle holds what was built: run "
                "ansible-playbook kubescale.fleet.artifacts -e artifacts_source=build"
            )
        record = cache.recorded(step.record)
        # How long it took is no property of what was made.
        record.pop("seconds", None)
        entries += [
            Entry(place(cache, file), file, sha256, bool(file.stat().st_mode & 0o100))
            for file, sha256 in product_files(step.product, record).items()
        ]
        text = json.dumps(record, indent=1, sort_keys=True).encode()
        entries.append(text_entry(place(cache, step.record), text))
    return entries


def place(cache: Cache, path: Path) -> str:
    """Return a cache file's path in a bundle."""
    return f"{CACHE}/{path.relative_to(cache.directory).as_posix()}"


def product_files(product: Path, record: Mapping[str, Any]) -> dict[Path, str]:
    """Return the files of a product and their checksums, as its record says."""
    if "files" in record:
        return {product / name: facts["sha256"] for name, facts in sorted(record["files"].items())}
    return {product: record["sha256"]}


def about(cache: Cache, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what bundle.json says."""
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


def write_bundle(entries: Sequence[Entry], target: Path, report: Report = silent) -> None:
    """Write an archive whole or not at all; raises ArtifactError if a file of the cache is not what its record says."""
    total = sum(entry.size for entry in entries)
    done = 0
    temporary = target.with_name(f"{target.name}.new")
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW, enable_ldm=True, write_checksum=True, threads=len(os.sched_getaffinity(0))
    )
    with said_plainly(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                temporary.open("wb") as plain,
                zstandard.ZstdCompressor(compression_params=parameters).stream_writer(plain) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as archive,
            ):
                for entry in entries:
                    member = archive_member(
                        f"{FOLDER}/{entry.path}", entry.size, mode=0o755 if entry.executable else 0o644
                    )
                    with opened(entry.content) as stream:
                        hashed = Hashed(stream)
                        archive.addfile(member, hashed)  # type: ignore[arg-type]
                    if hashed.sha256 != entry.sha256:
                        raise ArtifactError(
                            f"{entry.path} has another checksum than its record says: the cache is damaged. Remove "
                            "that file there and run: ansible-playbook kubescale.fleet.artifacts"
                        )
                    done += entry.size
                    report(done, total)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def opened(content: bytes | Path) -> IO[bytes]:
    """Open a file or bytes for reading."""
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


class Hashed:
    """A stream whose checksum is known once it was read."""

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
        """Of what was read so far, in hex."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def said_plainly(path: Path) -> Iterator[None]:
    """Turn errors of the system (no space, no rights, no such file) into an ArtifactError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{error.filename or path}: {error.strerror or error}") from error


def holds(path: Path, entries: Sequence[Entry], report: Report = silent) -> bool:
    """Tell whether a bundle is there already, whole, and with exactly these files."""
    try:
        return read_bundle(path, report=report).sums == {entry.path: entry.sha256 for entry in entries[1:]}
    except ArtifactError:
        return False


# -- reading ---------------------------------------------------------------------------------------------------------


class Frame(io.RawIOBase):
    """What one zstd frame holds; knows afterwards whether the file ended with it."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = source
        self._frame = zstandard.ZstdDecompressor(max_window_size=2**WINDOW).decompressobj()
        self._ready = b""
        self._size = 0
        # Where the last byte that is not zero ends: a tar is filled up with zeros.
        self.content_end = 0

    def readable(self) -> bool:
        """It is for reading only."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (any writable buffer)
        """Fill ``buffer``; return 0 at the end of the frame or file."""
        while not self._ready:
            data = b"" if self._frame.eof else self._source.read(CHUNK // 16)
            if not data:
                return 0
            self._ready = self._frame.decompress(data)
            if content := self._ready.rstrip(b"\0"):
                self.content_end = self._size + len(content)
            self._size += len(self._ready)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    @property
    def is_whole(self) -> bool:
        """Tell whether the frame was read to its end."""
        return self._frame.eof

    @property
    def is_alone(self) -> bool:
        """Tell whether nothing follows the frame."""
        return not self._frame.unused_data and not self._source.read(1)


def read_bundle(
    path: Path,
    keep: Callable[[str], Path | None] = lambda _path: None,
    enough: Callable[[Bundle], bool | None] = lambda _bundle: False,
    report: Report = silent,
) -> Bundle:
    """Check a bundle from its first byte to its last.

    Args:
        path: The archive.
        keep: Called with each file's path; a file is also written to the path it returns.
        enough: Called as soon as bundle.json was read; may refuse by an error of its own, or end the reading by true.
        report: Called with the bytes that were read, and those there are.

    Raises:
        ArtifactError: It is no bundle, is truncated or damaged, or holds what it must not.
    """
    with said_plainly(path), path.open("rb") as file:
        total = path.stat().st_size
        hashed = Hashed(file)
        frame = Frame(hashed)  # type: ignore[arg-type]
        reader = io.BufferedReader(frame, CHUNK)
        bundle = Bundle(size=total)
        seen: set[str] = set()
        try:
            with tarfile.open(fileobj=reader, mode="r|", bufsize=CHUNK) as archive:
                for member in archive:
                    name = member_path(member, path)
                    if name in seen:
                        raise ArtifactError(f"{path}: {name} is in it twice. {REFUSED}")
                    seen.add(name)
                    _read_member(archive, member, name, bundle, keep(name), path)
                    if name == ABOUT and enough(bundle):
                        return bundle
                    report(file.tell(), total)
            while reader.read(CHUNK):
                pass
        except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
            what = "is truncated or damaged" if bundle.sums else "is no bundle"
            raise ArtifactError(f"{path} {what}: {error}. {REFUSED}") from error
        if not frame.is_whole:
            raise ArtifactError(f"{path} is truncated after {total} bytes. {REFUSED}")
        if frame.content_end > archive.offset or not frame.is_alone:
            raise ArtifactError(f"{path}: something follows the end of the archive. {REFUSED}")
        bundle.sha256 = hashed.sha256
    if missing := sorted({SUMS, ABOUT, *bundle.sums} - seen):
        raise ArtifactError(f"{path} lacks {', '.join(missing[:5])}. {REFUSED}")
    _check_cache(bundle, path)
    return bundle


REFUSED = "Nothing of it was used; make it again with: ansible-playbook kubescale.fleet.bundle"


def member_path(member: tarfile.TarInfo, archive: Path) -> str:
    """Return a member's path below the bundle's folder; raises ArtifactError for all that is no file in there."""
    path = PurePosixPath(member.name)
    if not member.isreg():
        raise ArtifactError(f"{archive}: {member.name!r} is no regular file. {REFUSED}")
    # What is spelled otherwise than it is meant (//, /./) could pass for another file.
    if path.parts[:1] != (FOLDER,) or len(path.parts) < 2 or ".." in path.parts or str(path) != member.name:
        raise ArtifactError(f"{archive}: {member.name!r} lies outside of {FOLDER}/. {REFUSED}")
    return str(path.relative_to(FOLDER))


def _read_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, bundle: Bundle, target: Path | None, path: Path
) -> None:
    stream = archive.extractfile(member)
    if stream is None:
        raise ArtifactError(f"{path}: {name} is no regular file. {REFUSED}")
    hashed = Hashed(stream)
    kept = io.BytesIO() if name in {SUMS, ABOUT} or is_record(name) else None
    if target is None:
        copy(hashed, kept)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            copy(hashed, file, kept)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    if name == SUMS:
        bundle.sums = parse_sums((kept or io.BytesIO()).getvalue(), path)
        return
    if not bundle.sums:
        raise ArtifactError(f"{path} is no bundle: it begins with {name}, not with {SUMS}. {REFUSED}")
    if name not in bundle.sums:
        raise ArtifactError(f"{path}: {name} is not in {SUMS}. {REFUSED}")
    if hashed.sha256 != bundle.sums[name]:
        raise ArtifactError(f"{path}: {name} has another checksum than {SUMS} says. {REFUSED}")
    if kept is None:
        return
    try:
        content = json.loads(kept.getvalue())
    except ValueError as error:
        raise ArtifactError(f"{path}: {name} is no JSON: {error}. {REFUSED}") from error
    if name == ABOUT:
        bundle.about = content
    else:
        bundle.records[name] = content


def copy(source: Hashed, *targets: IO[bytes] | None) -> None:
    """Read a stream to its end into all targets there are."""
    while data := source.read(CHUNK):
        for target in targets:
            if target is not None:
                target.write(data)


def is_record(name: str) -> bool:
    """Tell whether a path of a bundle is a record of the cache: the manifest of a component, or lies beside a file."""
    parts = PurePosixPath(name).parts
    if parts[:2] == (CACHE, "artifacts"):
        return parts[4:] == ("manifest.json",)
    return parts[0] == CACHE and name.endswith(".json")


def parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """Return the checksums by path of a file as ``sha256sum`` writes it."""
    sums = {}
    for line in content.decode(errors="replace").splitlines():
        match = SUM_LINE.fullmatch(line)
        if match is None:
            raise ArtifactError(f"{path}: {SUMS} has a line that is no checksum: {line[:80]!r}. {REFUSED}")
        sums[match[2]] = match[1]
    return sums


def _check_cache(bundle: Bundle, path: Path) -> None:
    """Raise ArtifactError unless the files below cache/ are exactly those of the records, with the same checksums."""
    recorded: dict[str, str] = {}
    for name, record in bundle.records.items():
        record_path = Path(name)
        product = record_path.parent if record_path.name == "manifest.json" else record_path.with_suffix(".tar")
        recorded |= {str(file): sha256 for file, sha256 in product_files(product, record).items()}
    inside = {name: sha256 for name, sha256 in bundle.sums.items() if name.startswith(f"{CACHE}/")}
    products = {name: sha256 for name, sha256 in inside.items() if name not in bundle.records}
    if odd := sorted(name for name in products.keys() | recorded.keys() if products.get(name) != recorded.get(name)):
        raise ArtifactError(f"{path}: the records do not fit {', '.join(odd[:5])}. {REFUSED}")


def check_pins(bundle: Bundle, cache: Cache, steps: Sequence[Step], path: Path) -> None:
    """Raise ArtifactError unless a bundle holds what this collection pins, for this architecture."""
    if bundle.about.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {bundle.about.get('format')}; this version of the collection reads {FORMAT}. Make the "
            "bundle and use it with the same version of the collection."
        )
    if bundle.about["architecture"] != cache.architecture:
        raise ArtifactError(f"{path} is for {bundle.about['architecture']}, but the machines are {cache.architecture}.")
    here, there = {step.name: step.digest for step in steps}, bundle.about["steps"]
    if here == there:
        return
    changed = sorted(name for name in here.keys() & there.keys() if here[name] != there[name])
    only_here, only_there = sorted(here.keys() - there.keys()), sorted(there.keys() - here.keys())
    differences = [
        f"{title} {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"
        for title, names in (
            ("only this collection has", only_here),
            ("only the bundle has", only_there),
            ("made in another way:", changed),
        )
        if names
    ]
    raise ArtifactError(
        f"{path} was made with other pins (files/artifacts.yml) than this collection's: {'; '.join(differences)}. "
        "Make the bundle and use it with the same version of the collection and the same sample_apps."
    )


def check_bundle(path: Path, cache: Cache, steps: Sequence[Step]) -> None:
    """Check by a bundle's first files that this collection can use it; raises ArtifactError if not."""

    def enough(bundle: Bundle) -> bool:
        check_pins(bundle, cache, steps, path)
        return True

    read_bundle(path, enough=enough)


def verify_bundle(path: Path, cache: Cache, steps: Sequence[Step], report: Report = silent) -> Bundle:
    """Check that a bundle is whole and that this collection can use it; raises ArtifactError if not."""
    return read_bundle(path, enough=lambda bundle: check_pins(bundle, cache, steps, path), report=report)


# -- unpacking -------------------------------------------------------------------------------------------------------


def unpack_bundle(
    path: Path, cache: Cache, steps: Sequence[Step], report: Callable[[str, str, float, int], None] = untold
) -> list[str]:
    """Put what the cache lacks of ``steps`` into it, after the whole bundle was checked; return the steps' names.

    To be called while the cache is locked. ``report(name, state, seconds, size)`` is called at the start, now and then,
    and at the end. Raises ArtifactError before the cache is changed if the bundle is not well.
    """
    started = time.monotonic()
    missing = [step for step in steps if not step.is_made()]
    if not missing:
        return []
    staging = cache.directory / ".unpack"
    folders = tuple(f"{place(cache, step.product)}/" for step in missing)
    files = {place(cache, file) for step in missing for file in (step.product, step.record)}

    def keep(name: str) -> Path | None:
        return staging / name if name in files or name.startswith(folders) else None

    def say(text: str) -> None:
        report(text, "unpacking", 0.0, 0)

    say(path.name)
    with said_plainly(cache.directory):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            progress = every_few_seconds(say, f"{path.name}:")
            bundle = read_bundle(path, keep, lambda found: check_pins(found, cache, steps, path), progress)
            for step in missing:
                product, record = (staging / place(cache, file) for file in (step.product, step.record))
                step.product.parent.mkdir(parents=True, exist_ok=True)
                if step.product.is_dir():
                    shutil.rmtree(step.product)
                product.rename(step.product)
                # The record says that the product is there: it comes last.
                if record.exists():
                    record.rename(step.record)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    report(path.name, "unpacked", time.monotonic() - started, bundle.size)
    return [step.name for step in missing]
