#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write docs/tags-and-faults.md from the outcomes that scenario `faults` proves (molecule/faults/tests/outcomes.py).

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

# Tags and faults

Look up the effect of one tag, and the effect of a fault on a run. Scenario `faults` injects these faults and proves
each row. You do not have to clean up: remove the cause, and the same run succeeds.

## Faults of machines

A run examines all machines before the first change on any of them. The run of a cluster that lost a machine stops; the
other clusters continue.

"""
TAGS = """
## One tag alone

Run `ansible-playbook site.yml --tags TAG`. `load`, `artifacts` and `sandbox` are separate playbooks. If a tag fails
because its objects are not ready, it has waited for them for 300 seconds, or for `-e site_ready_timeout=SECONDS`. The
text after *afterwards* is the result of the tag after the repairing tags have run.

"""


def words(state: outcomes.State, tag: str) -> str:
    """Return the effect of a tag in a state, and its effect after other tags have repaired that state."""
    at_once = state.together[tag].word if tag in state.together else ""
    mending = [outcome for name, outcome in state.then if name == tag]
    if not at_once and mending and (mending[0].changes or not mending[0].succeeds):
        at_once = mending.pop(0).word
    return (
        "; ".join([*([at_once] if at_once else []), *(f"afterwards: {outcome.word}" for outcome in mending)])
        or "no effect"
    )


def page() -> str:
    """Return the text of the page."""
    faults = [[fault.name, fault.outcome, fault.advice or "nothing"] for fault in outcomes.FAULTS]
    tags = [[f"`{tag}`", *(words(state, tag) for state in outcomes.STATES)] for tag in outcomes.TAGS]
    return (
        HEADER
        + table(["fault", "effect on the run", "remedy"], faults)
        + TAGS
        + table(["tag", *(state.name for state in outcomes.STATES)], tags)
    )


if __name__ == "__main__":
    sys.exit(keep({PAGE: page()}, sys.argv[1:]))
