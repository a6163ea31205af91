# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Replace a text file in one step, so that no reader ever sees half of it, even if this process is killed.

    Raise OSError if the folder does not exist or cannot be written.
    """
    if path.exists() and not path.is_file():  # a pipe or a device stays what it is
        path.write_text(text, encoding="utf-8")
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
