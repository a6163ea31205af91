# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""A rollout: ring after ring, a few clusters of a ring at a time, with its state in a file.

A caller gives the function that changes one cluster and waits for the end of that change.
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

#: Seconds between two checks whether the rollout must stop.
LOOK = 0.5
#: Suffixes of files beside an inventory that do not describe clusters: credentials, and files that Ansible ignores.
NOT_INPUTS = (".kubeconfig", ".pyc", ".swp", "~")


class RolloutError(FleetError):
    """A rollout cannot start or continue. The message names the reason and the remedy."""


@dataclass(frozen=True)
class Target:
    """A cluster of a rollout. ``hosts`` are its inventory hosts, ``timeout`` is in seconds."""

    name: str
    hosts: tuple[str, ...] = ()
    timeout: float = 3600.0


@dataclass(frozen=True)
class Ring:
    """Clusters of one ring: ``parallel`` run at a time; the ring halts when more than ``max_failures`` have failed."""

    number: int
    targets: tuple[Target, ...]
    parallel: int = 5
    max_failures: int = 0
    roll_back: bool = False


#: Changes one cluster of a ring, and returns at the end of that change.
Work = Callable[[Ring, Target], Outcome]


# -- state of a rollout ------------------------------------------------------------------------------------------------


def new_state(ident: str, digest: str, rings: Iterable[Ring], now: float) -> dict[str, Any]:
    """Return the state of a rollout before its start. ``digest`` is the digest of all inputs."""
    clusters = {target.name: {"ring": ring.number, "state": "waiting"} for ring in rings for target in ring.targets}
    return {"id": ident, "digest": digest, "started": now, "ended": None, "result": "unfinished", "clusters": clusters}


def read_state(file: Path) -> dict[str, Any] | None:
    """Return the state of the last rollout, or None if there is none. Raise RolloutError if the file is not valid."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        if {"id", "digest", "result"} <= state.keys() and all("state" in each for each in state["clusters"].values()):
            return state
        raise ValueError("keys are missing")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise RolloutError(
            f"{file} is not the state of a rollout ({error}). To start with the first ring, delete the file"
        ) from error


def save_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically. Raise RolloutError if that fails; then no further cluster may start."""
    try:
        replace_file(file, json.dumps(state, indent=1) + "\n")
    except OSError as error:
        raise RolloutError(
            f"the state of the rollout cannot be written to {file}: {error.strerror or error}. Free disk space and run "
            "it again: it continues, and repeats clusters whose end is not in the file"
        ) from error


def restart_reason(state: Mapping[str, Any] | None, digest: str) -> str:
    """Return why a rollout starts with the first ring, or "" if it continues an unfinished one."""
    if state is None:
        return "there is no earlier rollout"
    if state["result"] == "done":
        return "the last rollout is done"
    if state["digest"] != digest:
        return "inventory, variables, clusters or collection have changed since the last, unfinished rollout"
    return ""


def resume(state: dict[str, Any]) -> list[str]:
    """Reset the state of an unfinished rollout so that it can continue. Return the clusters that already passed."""
    state |= {"ended": None, "result": "unfinished"}
    for name, entry in state["clusters"].items():
        if entry["state"] != "passed":
            state["clusters"][name] = {"ring": entry["ring"], "state": "waiting"}
    return [name for name, entry in state["clusters"].items() if entry["state"] == "passed"]


def left_out(state: Mapping[str, Any] | None, rings: Iterable[Ring]) -> str:
    """Return the clusters that did not pass in the last rollout and are not in this one, with their last states."""
    known = {target.name for ring in rings for target in ring.targets}
    last = state["clusters"] if state else {}
    states = {name: entry["state"] for name, entry in last.items() if name not in known}
    return ", ".join(f"{name} ({state})" for name, state in states.items() if state != "passed")


def files_below(places: Iterable[Path]) -> Iterator[Path]:
    """Return files at ``places`` and below them, in a stable order."""
    for place in places:
        # Environments may share folders of variables through symbolic links.
        below = (Path(top) / name for top, _unused, names in os.walk(place, followlinks=True) for name in names)
        for path in [place] if place.is_file() else sorted(below):
            if path.is_file() and not path.name.startswith(".") and not path.name.endswith(NOT_INPUTS):
                yield path


def inventory_places(sources: Iterable[str]) -> list[Path]:
    """Return the sources of an inventory, and the folders of variables beside sources that are files."""
    places: list[Path] = []
    for source in map(Path, sources):
        places.append(source)
        if source.is_file():
            places += [source.parent / name for name in ("group_vars", "host_vars")]
    return places


def digest_of(places: Iterable[Path], *others: object) -> str:
    """Return a digest of all files and other values. Secrets among the values cannot be read from it."""
    total = hashlib.sha256(json.dumps(others, sort_keys=True, default=str).encode())
    for file in files_below(places):
        total.update(f"\0{file}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


# -- the order ---------------------------------------------------------------------------------------------------------


@dataclass
class Rollout:
    """One rollout. It updates ``state`` and calls ``save`` with it before and after every step.

    ``work`` and ``undo`` run in threads. ``wanted`` returns whether the rollout may continue, ``stop`` ends all running
    work.
    """

    state: dict[str, Any]
    work: Work
    undo: Work
    save: Callable[[Mapping[str, Any]], None]
    say: Callable[[str], None] = lambda text: None
    wanted: Callable[[], bool] = lambda: True
    stop: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.time

    def run(self, rings: Sequence[Ring]) -> str:
        """Run all rings in order; return done, halted or interrupted.

        Raise the exceptions of ``save``, after all running work has ended.
        """
        result = "done"
        for ring in sorted(rings, key=lambda ring: ring.number):
            result = self._work_on(ring)
            if result != "done":
                break
        self.state |= {"result": result, "ended": self.now()}
        self.save(self.state)
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
                        self._note(target.name, state="running", started=self.now())
                        running[pool.submit(self._one, ring, waiting.pop(0))] = target
                except Exception as error:
                    problem = error
                if not running:
                    break
                ended, _unused = wait(running, LOOK, FIRST_COMPLETED)
                for future in ended:
                    outcome, state = future.result()
                    failures += outcome.state == "failed"
                    entry = {"state": state, "ended": self.now(), "seconds": round(outcome.seconds, 1)}
                    entry |= {"changed": outcome.changed, "reason": outcome.reason}
                    try:
                        self._note(running.pop(future).name, **entry)
                    except Exception as error:
                        problem = error
                if wanted and not self.wanted():
                    wanted = False
                    self.stop()
        if problem:
            raise problem
        if not wanted:
            return INTERRUPTED
        return "done" if failures <= ring.max_failures else "halted"

    def _one(self, ring: Ring, target: Target) -> tuple[Outcome, str]:
        """Change a cluster, and roll it back if it failed and the ring has ``roll_back``. Runs in its own thread."""
        title = f"ring {ring.number} {target.name}:"
        self.say(f"{title} started")
        outcome = self.work(ring, target)
        took = f"after {outcome.seconds:.0f} s, changed={outcome.changed}"
        if outcome.state == "passed":
            self.say(f"{title} passed {took}")
        if outcome.state != "failed":
            return outcome, outcome.state
        self.say(f"{title} failed {took}: {outcome.reason}")
        if not ring.roll_back or not self.wanted():
            return outcome, "failed"
        self.say(f"{title} rollback started")
        undone = self.undo(ring, target)
        if undone.state == "passed":
            self.say(f"{title} rolled back after {undone.seconds:.0f} s, changed={undone.changed}")
            return outcome, "rolled back"
        reason = f"{outcome.reason}; rollback failed: {undone.reason}"
        self.say(f"{title} rollback failed: {undone.reason}")
        return Outcome("failed", outcome.changed, outcome.seconds, reason), "failed"

    def _note(self, name: str, **entry: object) -> None:
        self.state["clusters"][name] |= entry
        self.save(self.state)


def record_of(state: Mapping[str, Any], records: Iterable[Record]) -> Record:
    """Return the record of a rollout: the merged records of its children, and clusters that never started."""
    about = {"id": state["id"], "started": state["started"], "ended": state["ended"]}
    own: Record = {**about, "playbook": "rollout", "check": False, "clusters": {}, "phases": [], "changes": []}
    own |= {"failures": [], "results": []}
    parts = list(records)
    reported = {failure["cluster"] for part in parts for failure in part["failures"]}
    for name, entry in state["clusters"].items():
        ended = {"passed": "ok", "waiting": "not started"}.get(entry["state"], "failed")
        own["clusters"][name] = {"ring": entry["ring"], "environment": None, "state": ended}
        text = f"ring {entry['ring']}: {entry['state']}"
        own["results"].append({"cluster": name, "kind": "rollout", "ok": ended == "ok", "text": text})
        if ended == "failed" and name not in reported:
            message = entry.get("reason") or entry["state"]
            own["failures"].append({"cluster": name, "host": name, "task": "rollout", "message": message})
    return merge([own, *parts], **about)


def describe(state: Mapping[str, Any]) -> str:
    """Return the state of a rollout as lines for people, ring by ring."""
    lines = [f"rollout {state['id']}: {state['result']}"]
    width = max(map(len, state["clusters"]), default=0)
    for name, entry in sorted(state["clusters"].items(), key=lambda item: item[1]["ring"]):
        took = f"  {entry['seconds']:.1f} s, changed={entry['changed']}" if "seconds" in entry else ""
        why = (entry.get("reason") or "").strip().partition("\n")[0]
        lines.append(f"  ring {entry['ring']}  {name:{width}}  {entry['state']}{took}{f'  {why}' if why else ''}")
    return "\n".join(lines)
