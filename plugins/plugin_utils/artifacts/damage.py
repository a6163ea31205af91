# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Compare products of the cache with the checksums in their records.

A file that has not changed since its last comparison is not read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.files import replace_file


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the content of a record, or None if there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def recorded_files(product: Path, recorded: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
    """Return the files of a product, each with ``sha256`` and ``size``, from its record."""
    if "files" in recorded:
        return {product / name: facts for name, facts in sorted(recorded["files"].items())}
    return {product: recorded}


def damaged_files(product: Path, record: Path, recorded: Mapping[str, Any]) -> list[Path]:
    """Return the files of a product that are missing or differ from the checksums in its record."""
    if not recorded.keys() & {"files", "sha256"}:
        return []  # the note that machines pull an image
    memory = record.with_name(f".{record.name}.compared")
    compared = read_record(memory) or {}
    good, damaged = {}, []
    for file, entry in recorded_files(product, recorded).items():
        look = _look(file)
        known = [entry["sha256"], look]
        if look and look[0] == entry["size"] and (compared.get(str(file)) == known or file_digest(file) == known[0]):
            good[str(file)] = known
        else:
            damaged.append(file)
    if good != compared:
        with contextlib.suppress(OSError):  # a cache that cannot be written is compared each time
            replace_file(memory, json.dumps(good))
    return damaged


def _look(file: Path) -> list[int]:
    """Return what changes whenever somebody writes a file; empty if there is no such file."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
