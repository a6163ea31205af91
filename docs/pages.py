# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Helpers of the scripts that make pages from other files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def keep(pages: Mapping[Path, str], arguments: Sequence[str]) -> int:
    """Write the files that are out of date, or only name them with --check. Return the exit status."""
    check = "--check" in arguments
    stale = [file for file, text in pages.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in stale:
        print(f"{'out of date' if check else 'written'}: {file.relative_to(REPOSITORY)}")
        if not check:
            file.write_text(pages[file], encoding="utf-8")
    return int(check and bool(stale))
