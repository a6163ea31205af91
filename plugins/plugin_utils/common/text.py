# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Text for people: tables, lists of names, and suggestions for misspelled names."""

from __future__ import annotations

import difflib
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


def first_names(names: Iterable[str], most: int) -> str:
    """Return the names without duplicates in the given order; if more than `most`, the first and a count."""
    known = list(dict.fromkeys(names))
    if len(known) <= most:
        return ", ".join(known)
    return f"{', '.join(known[: most - 1])} and {len(known) - most + 1} more"


def nearest(name: object, known: Iterable[str], most: int = 1, likeness: float = 0.6) -> list[str]:
    """Return at most `most` of the known names that are similar to a name, the most similar first.

    `likeness` is the least similarity, from 0 to 1 (equal).
    """
    return difflib.get_close_matches(str(name), list(known), n=most, cutoff=likeness)


def suggestion(name: object, known: Iterable[str], likeness: float = 0.5) -> str:
    """Return the end of an error message, which suggests the most similar known name, or "" if none is similar."""
    return "".join(f"; did you mean {near}?" for near in nearest(name, known, likeness=likeness))
