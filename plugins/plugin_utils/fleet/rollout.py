# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The order of a rollout: ring after ring, a few clusters of a ring at a time, and what is known of it on disk.

Nothing here knows how a cluster is worked on: that is a function which waits until it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import FleetError
from ..common.files import replace_file
from .child_runs import INTERRUPTED, Outcome
from .run_record import Record, merge

#: Seconds between two looks at whether the rollout is still wanted.
LOOK = 0.5
#: Files beside an inventory that say how clusters are reached, not how they are to be; and what is not read at all.
NOT_INPUTS = (".kubeconfig", ".pyc", ".swp", "~")


class RolloutError(FleetError):
    """A rollout cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Target:
    """A cluster of a rollout. ``hosts`` are its hosts in the inventory, ``timeout`` is in seconds."""

    name: str
    hosts: tuple[str, ...] = ()
    timeout: float = 3600.0


@dataclass(frozen=True)
class Ring:
    """Clusters that are worked on together: ``parallel`` at a time, until more than ``max_failures`` have failed."""

    number: int
    targets: tuple[Target, ...]
    parallel: int = 5
    max_failures: int = 0
    roll_back: bool = False


#: Works on a cluster of a ring, and returns when that has ended.
Work = Callable[[Ring, Target], Outcome]


# -- what is known of a rollout ----------------------------------------------------------------------------------------


def new_state(ident: str, digest: str, rings: Iterable[Ring], now: float) -> dict[str, Any]:
    """State of a rollout that has not begun. ``digest`` stands for all that it is made from."""
    clusters = {target.name: {"ring": ring.number, "state": "waiting"} for ring in rings for target in ring.targets}
    return {"id": ident, "digest": digest, "started": now, "ended": None, "result": "unfinished", "clusters": clusters}


def read_state(file: Path) -> dict[str, Any] | None:
    """State of the last rollout; None if there is none. Raises RolloutError if the file is no such state."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        if {"id", "digest", "result"} <= state.keys() and all("state" in each for each in state["clusters"].values()):
            return state
        raise ValueError("it is another kind of file")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise RolloutError(
            f"{file} does not say how far the last rollout came ({error}); to begin from the start, delete it"
        ) from error


def save_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write a state in one step. Raises RolloutError, after which nothing more may be begun."""
    try:
        replace_file(file, json.dumps(state, indent=1) + "\n")
    except OSError as error:
        raise RolloutError(
            f"how far the rollout came cannot be written to {file}: {error.strerror or error}. Make room and run it "
            "again: it goes on where it was, and clusters whose end could not be written down are done again"
        ) from error


def goes_on(state: Mapping[str, Any] | None, digest: str) -> str:
    """Why a rollout begins anew; nothing if it goes on with the clusters that have not passed."""
    if state is None:
        return "there is no earlier one"
    if state["result"] == "done":
        return "the last one was done"
    if state["digest"] != digest:
        return "inventory, variables, clusters or collection are not those of the last one, which was not finished"
    return ""


def resume(state: dict[str, Any]) -> list[str]:
    """Make a state of an unfinished rollout ready to go on; names the clusters that have passed already."""
    state |= {"ended": None, "result": "unfinished"}
    for name, entry in state["clusters"].items():
        if entry["state"] != "passed":
            state["clusters"][name] = {"ring": entry["ring"], "state": "waiting"}
    return [name for name, entry in state["clusters"].items() if entry["state"] == "passed"]


def left_out(state: Mapping[str, Any] | None, rings: Iterable[Ring]) -> str:
    """Clusters that have not passed in the last rollout and are not in this one, with how they ended there."""
    known = {target.name for ring in rings for target in ring.targets}
    last = state["clusters"] if state else {}
    open_ends = {name: entry["state"] for name, entry in last.items() if name not in known}
    return ", ".join(f"{name} ({ended})" for name, ended in open_ends.items() if ended != "passed")


def files_below(places: Iterable[Path]) -> Iterator[Path]:
    """Files at places and below them, in an order that does not change."""
    for place in places:
        # Folders of variables may be links, so that environments share them.
        below = (Path(top) / name for top, _unused, names in os.walk(place, followlinks=True) for name in names)
        for path in [place] if place.is_file() else sorted(below):
            if path.is_file() and not path.name.startswith(".") and not path.name.endswith(NOT_INPUTS):
                yield path


def inventory_places(sources: Iterable[str]) -> list[Path]:
    """What an inventory is made of: its sources, and the folders of variables beside those that are files."""
    places: list[Path] = []
    for source in map(Path, sources):
        places.append(source)
        if source.is_file():
            places += [source.parent / name for name in ("group_vars", "host_vars")]
    return places


def digest_of(places: Iterable[Path], *others: object) -> str:
    """What changes when a file or one of the other values does; secrets among them cannot be told from it."""
    total = hashlib.sha256(json.dumps(others, sort_keys=True, default=str).encode())
    for file in files_below(places):
        total.update(f"\0{file}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


# -- the order ---------------------------------------------------------------------------------------------------------


class Rollout:
    """One rollout. ``state`` is kept up to date, and given to ``save`` before and after every step.

    ``work`` and ``undo`` are called in threads of their own; ``wanted`` tells whether to go on, and ``stop`` has all
    running work end.
    """

    def __init__(
        self,
        state: dict[str, Any],
        work: Work,
        undo: Work,
        save: Callable[[Mapping[str, Any]], None],
        say: Callable[[str], None] = lambda text: None,
        wanted: Callable[[], bool] = lambda: True,
        stop: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.state = state
        self._work = work
        self._undo = undo
        self._save = save
        self._say = say
        self._wanted = wanted
        self._stop = stop
        self._now = now

    def run(self, rings: Sequence[Ring]) -> str:
        """Work on all rings in order; return done, halted or interrupted.

        Raises what ``save`` does, when all that was running has ended.
        """
        result = "done"
        for ring in sorted(rings, key=lambda ring: ring.number):
            result = self._work_on(ring)
            if result != "done":
                break
        self.state |= {"result": result, "ended": self._now()}
        self._save(self.state)
        return result

    def _work_on(self, ring: Ring) -> str:
        waiting = [target for target in ring.targets if self.state["clusters"][target.name]["state"] != "passed"]
        running: dict[Future[tuple[Outcome, str]], Target] = {}
        failures, wanted = 0, True
        problem: Exception | None = None
        with ThreadPoolExecutor(ring.parallel) as pool:
            while True:
                go_on = wanted and problem is None and failures <= ring.max_failures
                try:
                    while go_on and waiting and len(running) < ring.parallel:
                        target = waiting[0]
                        self._note(target.name, state="running", started=self._now())
                        running[pool.submit(self._one, ring, waiting.pop(0))] = target
                except Exception as error:
                    problem = error
                if not running:
                    break
                ended, _unused = wait(running, LOOK, FIRST_COMPLETED)
                for future in ended:
                    outcome, state = future.result()
                    failures += outcome.state == "failed"
                    entry = {"state": state, "ended": self._now(), "seconds": round(outcome.seconds, 1)}
                    entry |= {"changed": outcome.changed, "reason": outcome.reason}
                    try:
                        self._note(running.pop(future).name, **entry)
                    except Exception as error:
                        problem = error
                if wanted and not self._wanted():
                    wanted = False
                    self._stop()
        if problem:
            raise problem
        if not wanted:
            return INTERRUPTED
        return "done" if failures <= ring.max_failures else "halted"

    def _one(self, ring: Ring, target: Target) -> tuple[Outcome, str]:
        """Work on a cluster, and undo it if it failed and the ring wants so. Runs in a thread of its own."""
        title = f"ring {ring.number} {target.name}:"
        self._say(f"{title} begins")
        outcome = self._work(ring, target)
        took = f"after {outcome.seconds:.0f} s, changed={outcome.changed}"
        if outcome.state == "passed":
            self._say(f"{title} passed {took}")
        if outcome.state != "failed":
            return outcome, outcome.state
        self._say(f"{title} failed {took}: {outcome.reason}")
        if not ring.roll_back or not self._wanted():
            return outcome, "failed"
        self._say(f"{title} is rolled back")
        undone = self._undo(ring, target)
        if undone.state == "passed":
            self._say(f"{title} was rolled back in {undone.seconds:.0f} s, changed={undone.changed}")
            return outcome, "rolled back"
        reason = f"{outcome.reason}; it could not be rolled back: {undone.reason}"
        self._say(f"{title} could not be rolled back: {undone.reason}")
        return Outcome("failed", outcome.changed, outcome.seconds, reason), "failed"

    def _note(self, name: str, **entry: object) -> None:
        self.state["clusters"][name] |= entry
        self._save(self.state)


def record_of(state: Mapping[str, Any], records: Iterable[Record]) -> Record:
    """The record of a rollout: those of its children, and what they do not know, such as who was never begun."""
    about = {"id": state["id"], "started": state["started"], "ended": state["ended"]}
    own: Record = {**about, "playbook": "rollout", "check": False, "clusters": {}, "phases": [], "changes": []}
    own |= {"failures": [], "results": []}
    parts = list(records)
    told = {failure["cluster"] for part in parts for failure in part["failures"]}
    for name, entry in state["clusters"].items():
        ended = {"passed": "ok", "waiting": "not started"}.get(entry["state"], "failed")
        own["clusters"][name] = {"ring": entry["ring"], "environment": None, "state": ended}
        text = f"ring {entry['ring']}: {entry['state']}"
        own["results"].append({"cluster": name, "kind": "rollout", "ok": ended == "ok", "text": text})
        if ended == "failed" and name not in told:
            message = entry.get("reason") or entry["state"]
            own["failures"].append({"cluster": name, "host": name, "task": "rollout", "message": message})
    return merge([own, *parts], **about)


def describe(state: Mapping[str, Any]) -> str:
    """How a rollout stands, ring by ring, for a person."""
    lines = [f"rollout {state['id']}: {state['result']}"]
    width = max(map(len, state["clusters"]), default=0)
    for name, entry in sorted(state["clusters"].items(), key=lambda item: item[1]["ring"]):
        took = f"  {entry['seconds']:.1f} s, changed={entry['changed']}" if "seconds" in entry else ""
        why = (entry.get("reason") or "").strip().partition("\n")[0]
        lines.append(f"  ring {entry['ring']}  {name:{width}}  {entry['state']}{took}{f'  {why}' if why else ''}")
    return "\n".join(lines)
