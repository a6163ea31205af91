#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/tags-and-faults.md from what scenario `faults` proves (molecule/faults/tests/outcomes.py).

docs/tags_and_faults.py           write the page if it is out of date
docs/tags_and_faults.py --check   write nothing; fail if it is
"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "tags-and-faults.md"
sys.path.insert(0, str(REPOSITORY / "molecule" / "faults" / "tests"))

import outcomes  # noqa: E402
from pages import keep, table  # noqa: E402

HEADER = """\
<!-- Made from molecule/faults/tests/outcomes.py by `make docs`; edit that file instead. -->

# What a run does when something is wrong

Scenario `faults` breaks machines and clusters in these ways and proves what is said here. Nothing has to be cleaned up
by hand: when the reason is gone, the same run succeeds.

## Faults of machines

All machines are examined before the first change on any of them. A cluster that lost a machine stops; the other
clusters go on.

"""
TAGS = """
## One tag alone

`ansible-playbook site.yml --tags TAG`; `load`, `artifacts` and `sandbox` are playbooks of their own. A tag that fails
because its objects are not ready waits for them first, 300 seconds or `-e site_ready_timeout=SECONDS`. What a tag does
once those that repair have run comes after the word afterwards.

"""


def words(state: outcomes.State, tag: str) -> str:
    """Say what a tag does in a state, and what it does when other tags have mended that."""
    at_once = state.together[tag].word if tag in state.together else ""
    mending = [outcome for name, outcome in state.then if name == tag]
    if not at_once and mending and (mending[0].changes or not mending[0].succeeds):
        at_once = mending.pop(0).word
    return (
        "; ".join([*([at_once] if at_once else []), *(f"afterwards: {outcome.word}" for outcome in mending)])
        or "not concerned"
    )


def page() -> str:
    """Make the text of the page."""
    faults = [[fault.name, fault.outcome, fault.advice or "nothing"] for fault in outcomes.FAULTS]
    tags = [[f"`{tag}`", *(words(state, tag) for state in outcomes.STATES)] for tag in outcomes.TAGS]
    return (
        HEADER
        + table(["fault", "what the run does", "what to do"], faults)
        + TAGS
        + table(["tag", *(state.name for state in outcomes.STATES)], tags)
    )


if __name__ == "__main__":
    sys.exit(keep({PAGE: page()}, sys.argv[1:]))
