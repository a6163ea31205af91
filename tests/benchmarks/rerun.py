# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The API part of a converged run from two checkouts, as ratios of this one to the other.

Each checkout has a control plane of its own on this machine, so that a run stays converged where their objects differ.
The checkouts take turns, so that both meet the same machine.
Run: python3 -m tests.benchmarks.rerun OTHER [--runs 9], on a machine that does nothing else meanwhile. OTHER is the
folder of another checkout, such as one of `git worktree add`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from conftest import REPOSITORY
from tests.benchmarks.fleet import Measurement, control_planes, play

FIGURES: dict[str, Callable[[Measurement], float]] = {
    "wall s": lambda each: each.seconds,
    "CPU s": lambda each: each.controller,
}


def compare(checkouts: Sequence[Path], folder: Path, runs: int) -> list[list[Measurement]]:
    """Return the runs of each checkout: the one from scratch, then the converged ones."""
    names = [str(number) for number in range(len(checkouts))]
    with control_planes(folder, names) as kubeconfigs:
        found: list[list[Measurement]] = [[] for _ in checkouts]
        for number in range(1 + runs):
            run = "converged" if number else "from scratch"
            # Every second time the other one goes first.
            for place in sorted(range(len(checkouts)), reverse=bool(number % 2)):
                kubeconfig = kubeconfigs[place]
                found[place].append(play(kubeconfig.parent, [kubeconfig], run, 0.0, 1, checkouts[place]))
        return found


def table(found: Sequence[Sequence[Measurement]]) -> str:
    """Return a line for each figure of the converged runs. Raise RuntimeError if one of them changed something."""
    converged = [runs[1:] for runs in found]
    if changed := [each.changed for runs in converged for each in runs if each.changed]:
        raise RuntimeError(f"converged runs changed something: {changed} tasks")
    lines = [f"{'':16}{'this':>9}{'other':>9}{'ratio':>9}"]
    for title, figure in FIGURES.items():
        for name, choose in (("median", statistics.median), ("best", min)):
            ours, theirs = (float(choose([figure(each) for each in runs])) for runs in converged)
            lines.append(f"{f'{title}, {name}':16}{ours:>9.2f}{theirs:>9.2f}{ours / theirs:>9.3f}")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="converged runs of each checkout (default 9)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kubescale-bench-") as scratch:
        try:
            print(table(compare([REPOSITORY, options.other.resolve()], Path(scratch), options.runs)))
        except RuntimeError as error:
            sys.exit(f"rerun: {error}")


if __name__ == "__main__":
    main()
