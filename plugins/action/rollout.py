# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Run a playbook on all clusters of the play, ring after ring."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ansible import constants, context
from ansible.utils.vars import load_extra_vars

from ..plugin_utils.common.action import Action, display
from ..plugin_utils.common.paths import COLLECTION
from ..plugin_utils.common.runs import RUN_VARIABLE
from ..plugin_utils.fleet import rollout, run_record
from ..plugin_utils.fleet.child_runs import (
    INTERRUPTED,
    Children,
    Files,
    Outcome,
    child_environment,
    child_options,
    tag_options,
)
from ..plugin_utils.fleet.preflight import SHARED_VARIABLES
from ..plugin_utils.fleet.rollout import Ring, Rollout, RolloutError, Target
from ..plugin_utils.fleet.values import Setting, check_option

#: Folders of the collection that determine the work of a run.
PARTS = ("files", "playbooks", "plugins", "roles")
STATE, LOCK, FOLDER, MERGED = "rollout.json", "rollout.lock", "rollout", "rollout.record"
#: Variables that must be the same for all clusters of a ring, with their defaults.
RING_DEFAULTS = {"rollout_parallel": 5, "rollout_max_failures": 0, "rollout_on_failure": "halt"}
TIMEOUT = "rollout_timeout"


class Place(NamedTuple):
    """Files of a rollout; ``lock`` is a file descriptor."""

    folder: Path
    lock: int

    @property
    def state(self) -> Path:
        """Return the path of the rollout's state."""
        return self.folder / STATE

    def files(self, name: str) -> Files:
        """Return the paths of a child's log and record."""
        return Files(self.folder / FOLDER / f"{name}.log", self.folder / FOLDER / f"{name}.json")


class ActionModule(Action):
    """The action of the module `rollout`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the rollout. Raise RolloutError or ChildError if it cannot start."""
        hosts = {name: self.variables["hostvars"][name] for name in self.variables["ansible_play_hosts_all"]}
        rings = rings_of(hosts)
        if self.check:
            show(plan(rings))
            return {"msg": "check mode: no cluster was started; playbooks/plan.yml reports what would change"}
        options = child_options(context.CLIARGS)
        state_dir = Path(next(iter(hosts.values()))["cluster_state_dir"]).parent
        digest = self.digest(rings, args)
        with locked_place(state_dir / run_record.FLEET_FOLDER) as place:
            state = begin(place, rings, digest, args["restart"], self.run_id)
            return self.roll(place, rings, state, args, options)

    def digest(self, rings: Sequence[Ring], args: Mapping[str, Any]) -> str:
        """Return the digest of all inputs of a rollout."""
        arguments = context.CLIARGS
        extra_vars = {
            name: value
            for name, value in load_extra_vars(self._loader).items()
            if not name.startswith("rollout_") and name != RUN_VARIABLE
        }
        places = rollout.inventory_places(arguments.get("inventory") or ())
        clusters = [[ring.number, sorted(target.name for target in ring.targets)] for ring in rings]
        selection = [args["playbook"], list(arguments.get("tags") or ()), list(arguments.get("skip_tags") or ())]
        return rollout.digest_of([*places, *(COLLECTION / part for part in PARTS)], extra_vars, clusters, selection)

    def roll(
        self, place: Place, rings: Sequence[Ring], state: dict[str, Any], args: Mapping[str, Any],
        options: Sequence[str],
    ) -> dict[str, Any]:  # fmt: skip
        """Run all clusters that have not passed. Return the result of the task."""
        children = Children(show, [place.lock])
        ident = state["id"]

        def child(
            ring: Ring, target: Target, playbook: str, name: str, tags: Sequence[str], **extra: str
        ) -> Outcome:  # fmt: skip
            files = place.files(name)
            limit = ["--limit", ",".join(target.hosts), "--extra-vars", json.dumps({RUN_VARIABLE: ident, **extra})]
            return children.run(
                [*options, *tags, *limit, playbook],
                target.name,
                f"ring {ring.number} {target.name}",
                files,
                child_environment(files.record, constants.CALLBACKS_ENABLED, os.environ),
                target.timeout,
            )

        def work(ring: Ring, target: Target) -> Outcome:
            return child(ring, target, args["playbook"], target.name, tag_options(context.CLIARGS))

        def undo(ring: Ring, target: Target) -> Outcome:
            # Without tags, so that it reverts every change of this rollout.
            return child(ring, target, args["rollback_playbook"], f"{target.name}.rollback", [], run=ident)

        def save(now: Mapping[str, Any]) -> None:
            rollout.save_state(place.state, now)

        show(f"rollout {ident}: logs of the clusters are in {place.folder / FOLDER}")
        try:
            with signals() as wanted:
                order = Rollout(state, work, undo, save, show, wanted, children.end_all)
                order.run(rings)
        finally:
            show(rollout.describe(state))
        return self.outcome(place, state)

    @staticmethod
    def outcome(place: Place, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of the task."""
        clusters: dict[str, dict[str, Any]] = state["clusters"]
        result: dict[str, Any] = {
            "changed": any(entry.get("changed") for entry in clusters.values()),
            "rollout": {key: state[key] for key in ("id", "result", "clusters")},
        }
        names = [name + part for name in clusters for part in ("", ".rollback")]
        records = [record for name in names if (record := run_record.read(place.files(name).record))]
        with suppress(OSError):  # without the record only fleet.html lacks the rollout
            run_record.save(place.folder / MERGED, rollout.record_of(state, records))
            result["run_record"] = str(place.folder / MERGED)
        bad = {name: entry for name, entry in clusters.items() if entry["state"] != "passed"}
        if not bad:
            return result | {"msg": "all clusters passed"}
        lines = [f"- ring {entry['ring']} {name}: {entry['state']}{why(entry)}" for name, entry in bad.items()]
        end = {"done": "is done", INTERRUPTED: "was interrupted"}.get(state["result"], "was halted")
        advice = "" if state["result"] == "done" else " Run the same command to continue with these clusters."
        title = f"The rollout {end}; {len(bad)} of {len(clusters)} clusters have not passed.{advice}"
        return result | {"failed": True, "msg": "\n".join([title, *lines])}


def why(entry: Mapping[str, Any]) -> str:
    """Return the reason of a cluster's state as the end of a sentence."""
    return f": {entry['reason']}" if entry.get("reason") else ""


def show(text: str) -> None:
    """Show a line. The terminal may be gone; the rollout continues without it."""
    with suppress(OSError):
        display.display(text)


def rings_of(hosts: Mapping[str, Mapping[str, Any]]) -> list[Ring]:
    """Return the rings of clusters; ``hosts`` are their API hosts with variables.

    Raise RolloutError with all wrong values.
    """
    rings: dict[int, Ring] = {}
    wrong: list[str] = []
    terms_of: dict[int, tuple[str, dict[str, Any]]] = {}
    for host, known in hosts.items():
        number = int(known["cluster_ring"])
        terms: dict[str, Any] = {}
        for name, default in {**RING_DEFAULTS, TIMEOUT: Target.timeout}.items():
            setting, problems = check_option(Setting(name, known.get(name, default)), SHARED_VARIABLES[name])
            terms[name] = setting.value
            wrong += [f"{problem} [{host}]" for problem in problems]
        first, others = terms_of.setdefault(number, (host, terms))
        wrong += [
            f"{host}: {name} is {terms[name]!r}, but {others[name]!r} for {first}; all clusters of ring {number} must "
            f"have the same value (set it in group_vars/ring_{number}.yml)"
            for name in RING_DEFAULTS
            if terms[name] != others[name]
        ]
        target = Target(
            str(known["cluster_name"]),
            (host, *known["cluster_control_plane"], *known["cluster_workers"]),
            terms[TIMEOUT],
        )
        ring = rings.get(number) or Ring(
            number,
            (),
            terms["rollout_parallel"],
            terms["rollout_max_failures"],
            terms["rollout_on_failure"] == "rollback",
        )
        rings[number] = replace(ring, targets=(*ring.targets, target))
    if wrong:
        raise RolloutError("no cluster was started:\n" + "\n".join(f"- {text}" for text in dict.fromkeys(wrong)))
    return [rings[number] for number in sorted(rings)]


def plan(rings: Sequence[Ring]) -> str:
    """Return the order of a rollout as lines for people."""
    lines = []
    for ring in rings:
        names = ", ".join(target.name for target in ring.targets)
        undo = ", failed clusters are rolled back" if ring.roll_back else ""
        limit = f"halts if more than {ring.max_failures} fail{undo}"
        lines.append(f"ring {ring.number}: {names}; {ring.parallel} at a time; {limit}")
    return "\n".join(lines)


def begin(place: Place, rings: Sequence[Ring], digest: str, restart: bool, ident: str) -> dict[str, Any]:
    """Return the state of the rollout that continues, or of a new one. Raise OSError or RolloutError."""
    state = None if restart else rollout.read_state(place.state)
    reason = "rollout_restart is set" if restart else rollout.restart_reason(state, digest)
    if state and not reason:
        passed = rollout.resume(state)
        names = ", ".join(passed) or "none"
        show(f"rollout {state['id']} continues; clusters that already passed: {names}")
        return state
    show(f"rollout {ident} starts with the first ring: {reason}")
    if names := rollout.left_out(state, rings):
        show(f"Not in this rollout, so they stay as the last one left them: {names}")
    shutil.rmtree(place.folder / FOLDER, ignore_errors=True)
    (place.folder / FOLDER).mkdir()
    return rollout.new_state(ident, digest, rings, time.time())


@contextmanager
def locked_place(folder: Path) -> Iterator[Place]:
    """Yield the files of a fleet's rollout under a lock. Children inherit the lock and hold it until they end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RolloutError(
                f"another rollout runs on this fleet, or its last clusters are still ending ({folder / LOCK}). "
                "Wait for its end"
            ) from None
        yield Place(folder, file.fileno())


@contextmanager
def signals() -> Iterator[Any]:
    """Yield a function that returns whether the run may continue: no signal came, and its main process lives."""
    ended = threading.Event()
    parent = os.getppid()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda _number, _frame: ended.set()) for number in numbers]
    try:
        yield lambda: not ended.is_set() and os.getppid() == parent
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
