# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Run the steps that fill the cache: dependencies first, several at once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ..common.files import replace_file
from .cache import Step
from .pins import ArtifactError

#: How many steps of a kind run at once. A Go build keeps all cores busy only while it compiles; a second build uses
#: them while the first one links.
PARALLEL = {"build": 2, "fetch": 4, "note": 4}
#: How a step of a kind is reported when it starts and when it is done. Notes are not reported.
STATES = {"build": ("building", "built"), "fetch": ("fetching", "fetched")}

#: Called with a step's name, its state, and when it is done with the seconds it took and the product's bytes.
Report = Callable[[str, str, float, int], None]


def silent(_name: str, _state: str, _seconds: float, _size: int) -> None:
    """Report nothing."""


def missing_tools(steps: list[Step]) -> list[str]:
    """Return the commands that these steps need and this machine does not have."""
    if not any(step.kind == "build" for step in steps):
        return []
    wanted = dict.fromkeys(["go", "gcc", "npm", "mmdebstrap", *(tool for step in steps for tool in step.tools)])
    return [tool for tool in wanted if shutil.which(tool) is None]


def execute(steps: list[Step], report: Report) -> list[str]:
    """Run the steps whose products are missing, dependencies first, and return their names.

    The first failure stops new steps, lets running ones end, and is raised. Finished products stay in the cache.
    """
    todo = {step.name: step for step in steps if not step.is_made()}
    made: list[str] = []
    running: dict[Future[None], Step] = {}
    with ThreadPoolExecutor(sum(PARALLEL.values())) as pool:
        while todo or running:
            unfinished = {*todo, *(step.name for step in running.values())}
            for step in [step for step in todo.values() if not unfinished.intersection(step.needs)]:
                if sum(other.kind == step.kind for other in running.values()) < PARALLEL[step.kind]:
                    running[pool.submit(_run, todo.pop(step.name), report)] = step
            finished, _unfinished = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                if error := future.exception():
                    raise ArtifactError(f"{step.name}: {error}") from error
                made.append(step.name)
    return made


def _run(step: Step, report: Report) -> None:
    """Run one step and write its record, which marks the product as complete."""
    if step.kind in STATES:
        report(step.name, STATES[step.kind][0], 0.0, 0)
    started = time.monotonic()
    content = step.make()
    seconds = round(time.monotonic() - started, 1)
    record = {**content, "digest": step.digest, "seconds": seconds}
    replace_file(step.record, json.dumps(record, indent=1, sort_keys=True))
    if step.kind in STATES:
        report(step.name, STATES[step.kind][1], seconds, content["size"])
