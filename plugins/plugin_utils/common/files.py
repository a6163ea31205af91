# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced in one step: no reader ever sees half of one, even if the writer is killed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file in one step. Before it has its content, only its owner can read it, whatever ``mode`` is.

    Raise OSError if the folder does not exist or cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():  # a pipe or a device stays what it is
        path.write_bytes(data)
        return
    # mkstemp makes a file of mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` when the block ends, and is removed if it fails.

    For large files that only one process writes at a time: the next writer overwrites the file of a killed one.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
