# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read, check and unpack bundles. Nothing in a bundle is trusted before all of it was checked."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from .bundle import (
    ABOUT,
    CACHE,
    CHUNK,
    FOLDER,
    FORMAT,
    SUMS,
    WINDOW,
    Entry,
    Hashed,
    Progress,
    every_few_seconds,
    named_errors,
    no_progress,
    place,
)
from .cache import Cache, Step
from .damage import recorded_files
from .pins import ArtifactError
from .scheduler import Report, silent

SUM_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
REFUSED = "Nothing of it was used; make it again with: ansible-playbook kubescale.fleet.bundle"


@dataclass
class Bundle:
    """The content of a bundle as far as it was read.

    Attributes:
        about: Content of bundle.json.
        sums: SHA-256 of all files by path.
        records: Records of the cache by path.
        sha256: Of the archive.
        size: Of the archive, in bytes.
    """

    about: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    sha256: str = ""
    size: int = 0


class Frame(io.RawIOBase):
    """The content of a zstd frame. Afterwards ``is_whole`` and ``is_alone`` tell whether it was all of the file."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = source
        self._frame = zstandard.ZstdDecompressor(max_window_size=2**WINDOW).decompressobj()
        self._ready = b""
        self._size = 0
        # The end of the last byte that is not zero: a tar is padded with zeros.
        self.content_end = 0

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  (any writable buffer)
        """Fill ``buffer`` and return the number of bytes; 0 at the end of the frame or file."""
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
        """Whether the frame was read to its end."""
        return self._frame.eof

    @property
    def is_alone(self) -> bool:
        """Whether nothing follows the frame."""
        return not self._frame.unused_data and not self._source.read(1)


def read_bundle(
    path: Path,
    keep: Callable[[str], Path | None] = lambda _path: None,
    enough: Callable[[Bundle], bool | None] = lambda _bundle: False,
    report: Progress = no_progress,
) -> Bundle:
    """Check a bundle from its first byte to its last, and return its content.

    Args:
        path: The archive.
        keep: Called with each file's path. The file is written to the path that it returns.
        enough: Called once bundle.json was read. If it returns true, the reading ends here; it may raise, too.
        report: Called with the bytes that were read, and all bytes.

    Raises:
        ArtifactError: The file is no bundle, is truncated or damaged, or contains a file that is not allowed.
    """
    with named_errors(path), path.open("rb") as file:
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


def member_path(member: tarfile.TarInfo, archive: Path) -> str:
    """Return a member's path below the bundle's folder. Raise ArtifactError unless it is a regular file there."""
    path = PurePosixPath(member.name)
    if not member.isreg():
        raise ArtifactError(f"{archive}: {member.name!r} is no regular file. {REFUSED}")
    # A path such as a//b or a/./b could pass the checks of another file.
    if path.parts[:1] != (FOLDER,) or len(path.parts) < 2 or ".." in path.parts or str(path) != member.name:
        raise ArtifactError(f"{archive}: {member.name!r} lies outside of {FOLDER}/. {REFUSED}")
    return str(path.relative_to(FOLDER))


def _read_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, bundle: Bundle, target: Path | None, path: Path
) -> None:
    """Read a file into ``bundle`` and, if there is one, ``target``. Raise ArtifactError if its checksum is wrong."""
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
        raise ArtifactError(f"{path}: {name} does not have the checksum in {SUMS}. {REFUSED}")
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
    """Copy a stream to its end into all targets that are not None."""
    while data := source.read(CHUNK):
        for target in targets:
            if target is not None:
                target.write(data)


def is_record(name: str) -> bool:
    """Return whether a path of a bundle is a record: a component's manifest, or the JSON file beside an archive."""
    parts = PurePosixPath(name).parts
    if parts[:2] == (CACHE, "artifacts"):
        return parts[4:] == ("manifest.json",)
    return parts[0] == CACHE and name.endswith(".json")


def parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """Return checksums by path from a file that ``sha256sum`` wrote."""
    sums = {}
    for line in content.decode(errors="replace").splitlines():
        match = SUM_LINE.fullmatch(line)
        if match is None:
            raise ArtifactError(f"{path}: {SUMS} has a line that is no checksum: {line[:80]!r}. {REFUSED}")
        sums[match[2]] = match[1]
    return sums


def _check_cache(bundle: Bundle, path: Path) -> None:
    """Raise ArtifactError unless the files below cache/ are exactly those of the records, with their checksums."""
    recorded: dict[str, str] = {}
    for name, record in bundle.records.items():
        record_path = Path(name)
        product = record_path.parent if record_path.name == "manifest.json" else record_path.with_suffix(".tar")
        recorded |= {str(file): facts["sha256"] for file, facts in recorded_files(product, record).items()}
    inside = {name: sha256 for name, sha256 in bundle.sums.items() if name.startswith(f"{CACHE}/")}
    products = {name: sha256 for name, sha256 in inside.items() if name not in bundle.records}
    names = products.keys() | recorded.keys()
    if different := sorted(name for name in names if products.get(name) != recorded.get(name)):
        raise ArtifactError(f"{path}: the records do not match {', '.join(different[:5])}. {REFUSED}")


def check_pins(bundle: Bundle, cache: Cache, steps: Sequence[Step], path: Path) -> None:
    """Raise ArtifactError unless a bundle holds exactly the artifacts that this collection pins."""
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
            ("built differently:", changed),
        )
        if names
    ]
    raise ArtifactError(
        f"{path} was made with other pins (files/artifacts.yml) than this collection's: {'; '.join(differences)}. "
        "Make the bundle and use it with the same version of the collection and the same sample_apps."
    )


def check_bundle(path: Path, cache: Cache, steps: Sequence[Step]) -> None:
    """Raise ArtifactError if the first files of a bundle show that this collection cannot use it."""

    def enough(bundle: Bundle) -> bool:
        check_pins(bundle, cache, steps, path)
        return True

    read_bundle(path, enough=enough)


def verify_bundle(path: Path, cache: Cache, steps: Sequence[Step], report: Progress = no_progress) -> Bundle:
    """Check all of a bundle. Raise ArtifactError if it is damaged, or if this collection cannot use it."""
    return read_bundle(path, enough=lambda bundle: check_pins(bundle, cache, steps, path), report=report)


def holds(path: Path, entries: Sequence[Entry], report: Progress = no_progress) -> bool:
    """Return whether there is a whole bundle with exactly these files."""
    try:
        return read_bundle(path, report=report).sums == {entry.path: entry.sha256 for entry in entries[1:]}
    except ArtifactError:
        return False


def unpack_bundle(path: Path, cache: Cache, steps: Sequence[Step], report: Report = silent) -> list[str]:
    """Unpack the products that the cache lacks, after the whole bundle was checked, and return their steps' names.

    The caller must have locked the cache. Raise ArtifactError before the cache is changed if the bundle is damaged or
    does not fit.
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
    with named_errors(cache.directory):
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
                # The record marks the product as complete, so it comes last.
                if record.exists():
                    record.rename(step.record)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    report(path.name, "unpacked", time.monotonic() - started, bundle.size)
    return [step.name for step in missing]
