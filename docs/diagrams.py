#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write the report's colours into the diagrams of docs/.

A diagram uses the variables of the page around it. A page without them, such as a git host, needs the colours.

docs/diagrams.py           write the diagrams that are out of date
docs/diagrams.py --check   write nothing; fail if a diagram is out of date
"""

from __future__ import annotations

import re
import sys

from pages import REPOSITORY, keep

STYLE = (REPOSITORY / "plugins/plugin_utils/report/templates/page.css.j2").read_text(encoding="utf-8")
#: Colours of a light page. The colours of a dark page follow behind them.
LIGHT = dict(re.findall(r"--([\w-]+): (#\w+);", STYLE.partition("prefers-color-scheme")[0]))


def coloured(diagram: str) -> str:
    """Return the diagram with the colours of the report."""
    return re.sub(r"var\(--([\w-]+), #\w+\)", lambda found: f"var(--{found[1]}, {LIGHT[found[1]]})", diagram)


if __name__ == "__main__":
    files = (REPOSITORY / "docs").glob("*.svg")
    sys.exit(keep({file: coloured(file.read_text(encoding="utf-8")) for file in files}, sys.argv[1:]))
