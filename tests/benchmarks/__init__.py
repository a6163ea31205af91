# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Measurements of runs, as ratios. Start each program in the repository: `python3 -m tests.benchmarks.fleet`."""

from __future__ import annotations

import json
from pathlib import Path

import conftest  # noqa: F401 - makes the collection importable


def changes_of(phases: Path) -> int:
    """Return how many tasks changed something, from the file that the callback kubescale.fleet.phases wrote."""
    return sum(phase["changed"] for phase in json.loads(phases.read_text(encoding="utf-8"))["phases"])
