# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Text for people: tables and lists of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(lines: Sequence[Sequence[str]], left: int | None = None) -> list[str]:
    """Return the lines with their cells in columns.

    The first `left` columns are aligned to the left and the others to the right; by default all to the left.
    """
    widths = [max(len(line[n]) for line in lines if n < len(line)) for n in range(max(map(len, lines)))]
    if left is None:
        left = len(widths)
    return [
        "  ".join(cell.ljust(widths[n]) if n < left else cell.rjust(widths[n]) for n, cell in enumerate(line)).rstrip()
        for line in lines
    ]


def shorten(names: Iterable[object], most: int = 3) -> str:
    """Return the first names in order, at most `most` of them, and the number of the others."""
    known = sorted(map(str, names))
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")
