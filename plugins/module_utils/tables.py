# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines as columns, of which the first `left` start at the left and the others end at the right."""
    widths = [max(len(line[n]) for line in lines if n < len(line)) for n in range(max(map(len, lines)))]
    return [
        "  ".join(cell.ljust(widths[n]) if n < left else cell.rjust(widths[n]) for n, cell in enumerate(line)).rstrip()
        for line in lines
    ]
