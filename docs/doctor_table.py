#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write the tables of docs/doctor.md from the doctor's causes and from the faults that scenario `doctor` injects.

docs/doctor_table.py           write the page if its tables are out of date
docs/doctor_table.py --check   write nothing; fail if they are
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "doctor.md"
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "molecule" / "doctor" / "tests")]

import faults  # noqa: E402
from pages import keep, table  # noqa: E402

from plugins.plugin_utils.health.chain import ALL  # noqa: E402

BEGIN = "<!-- Made from plugins/plugin_utils/health/checks/ and molecule/doctor/tests/faults.py by `make docs`. -->\n"


def causes() -> str:
    """Return a table of all causes, in the order of the links."""
    rows = []
    for link in ALL.values():
        for name, cause in link.causes.items():
            proven = [fault.name for fault in faults.FAULTS if (fault.link, fault.cause) == (link.name, name)]
            # Values that a finding fills in look like the reader's own names.
            advice = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), cause.advice)
            rows.append([f"`{link.name}`", f"`{name}`", cause.meaning, advice, ", ".join(proven)])
    return table(["link", "cause", "meaning", "remedy", "fault in scenario `doctor`"], rows)


def links() -> str:
    """Return a table of the links."""
    return table(["link", "condition"], [[f"`{link.name}`", link.title] for link in ALL.values()])


def page(text: str) -> str:
    """Return the page with current tables."""
    parts = re.split(rf"({re.escape(BEGIN)}\n(?:\|.*\n)+)", text)
    made = [f"{BEGIN}\n{links()}", f"{BEGIN}\n{causes()}"]
    return "".join(made.pop(0) if part.startswith(BEGIN) else part for part in parts)


if __name__ == "__main__":
    sys.exit(keep({PAGE: page(PAGE.read_text(encoding="utf-8"))}, sys.argv[1:]))
