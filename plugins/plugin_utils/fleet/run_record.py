# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The record of one playbook: phases, changes and failures of every cluster, and its final state.

The callback `phases` writes the record while a playbook runs. An action adds to it by keys of its result:
`run_record` is the path of a record that becomes part of this one; `fleet_result` is a dict with `kind` (such as
"drift"), `ok` and `text` about the cluster of the host.

A record holds no secrets: it leaves out diffs and the results of tasks with no_log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.files import replace_file

#: A written record, see ``RunRecord.document``.
Record = dict[str, Any]

#: Folder of the fleet's records in the state directory. Cluster names contain no dots, so no cluster has this folder.
FLEET_FOLDER = "fleet.d"
#: Number of records to keep.
KEPT_RUNS = 50
#: Environment variable with the path of the record, for the other processes of the run.
CURRENT = "KUBESCALE_RUN_RECORD"
#: Longest message of a failure, in characters.
LONGEST_MESSAGE = 4000
#: Final states of a cluster, from good to bad.
STATES = ("ok", "failed", "unreachable")
#: Keys that a record keeps of a changed object.
_OBJECT_KEYS = ("apiVersion", "kind", "namespace", "name", "action", "fields", "restarts")
_UNCHANGED = ("unchanged", "kept")


@dataclass
class Phase:
    """One phase on one cluster. Times are seconds since 1970; counts are task results per host."""

    phase: str
    play: str
    cluster: str
    started: float
    ended: float
    tasks: int = 0
    changed: int = 0
    failed: int = 0

    @property
    def seconds(self) -> float:
        """Seconds that the phase took on this cluster."""
        return self.ended - self.started


@dataclass
class RunRecord:
    """The record of a run in progress."""

    ident: str
    playbook: str
    started: float
    check: bool = False
    phases: list[Phase] = field(default_factory=list)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    others: list[Record] = field(default_factory=list)

    def add_cluster(self, name: str, ring: int | None, environment: str | None) -> None:
        """Add a cluster of the run, in state "ok"."""
        self.clusters.setdefault(name, {"ring": ring, "environment": environment, "state": STATES[0]})

    def add_change(
        self, cluster: str, host: str, role: str, task: str, result: Mapping[str, Any], secret: bool
    ) -> None:
        """Add a task that changed objects or would change them. A `secret` task is recorded without its objects."""
        change: dict[str, Any] = {"cluster": cluster, "host": host, "role": role, "task": task}
        if result.get("objects") and not secret:
            change["set"] = result.get("set", "")
            change["objects"] = [
                {key: found[key] for key in _OBJECT_KEYS if key in found}
                for found in result["objects"]
                if found["action"] not in _UNCHANGED
            ]
        if result.get("would_be_made"):
            change["would_be_made"] = True
        self.changes.append(change)

    def add_failure(self, cluster: str, host: str, task: str, message: str, state: str = "failed") -> None:
        """Add a failed task or an unreachable host."""
        text = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]} …"
        self.failures.append({"cluster": cluster, "host": host, "task": task, "message": text})
        self.set_state(cluster, state)

    def set_state(self, cluster: str, state: str) -> None:
        """Set the state of a cluster, unless its state is worse already."""
        if known := self.clusters.get(cluster):
            known["state"] = _worse(known["state"], state)

    def forgive(self, host: str, cluster: str, others: bool) -> None:
        """Remove the rescued failures of a host. Its cluster is "ok" unless `others` of its hosts failed."""
        self.failures = [failure for failure in self.failures if failure["host"] != host]
        if not others and cluster in self.clusters:
            self.clusters[cluster]["state"] = STATES[0]

    def document(self, ended: float | None) -> Record:
        """Return the record as data. `ended` is None while the playbook runs, and stays None if it was killed."""
        own: Record = {
            "id": self.ident,
            "playbook": self.playbook,
            "started": self.started,
            "ended": ended,
            "check": self.check,
            "clusters": self.clusters,
            "phases": [asdict(phase) for phase in self.phases],
            "changes": self.changes,
            "failures": self.failures,
            "results": self.results,
        }
        if not self.others:
            return own
        about = ("id", "playbook", "started", "ended")
        return merge([own, *self.others], **{key: own[key] for key in about})


def merge(records: Iterable[Record], **about: object) -> Record:
    """Return one record of several, such as those of a rollout's child runs; `about` replaces keys of the result.

    Each cluster gets its worst state. The result has no end while one part has none. `records` must not be empty.
    """
    parts = list(records)
    clusters: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, entry in part["clusters"].items():
            known = clusters.setdefault(name, dict(entry))
            known["state"] = _worse(known["state"], entry["state"])
    ends = [part["ended"] for part in parts]
    merged = {
        **parts[0],
        "started": min(part["started"] for part in parts),
        "ended": None if None in ends else max(ends),
        "check": any(part["check"] for part in parts),
        "clusters": clusters,
    }
    for key in ("phases", "changes", "failures", "results"):
        merged[key] = [entry for part in parts for entry in part[key]]
    return merged | about


def read(path: Path) -> Record | None:
    """Return the record in a file, or None if it is missing or incomplete."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        complete = {"id", "playbook", "started", "ended", "check", "clusters", "phases", "changes", "failures"}
        if not complete <= record.keys():
            return None
    except (OSError, ValueError, AttributeError):
        return None
    return {"results": [], **record}


def save(path: Path, record: Record) -> None:
    """Write a record. Raise OSError if that fails."""
    replace_file(path, json.dumps(record) + "\n")


def runs_folder(fleet_dir: Path) -> Path:
    """Return the folder of the records of a fleet."""
    return fleet_dir / FLEET_FOLDER / "runs"


def prepare_run(fleet_dir: Path, ident: str) -> Path:
    """Make the folder, delete the oldest records beyond the limit, and return the path of a new record.

    Raise OSError if that fails.
    """
    folder = runs_folder(fleet_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.json"), key=_written)[: -(KEPT_RUNS - 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{ident}.json"


def read_runs(fleet_dir: Path) -> list[Record]:
    """Return the records of the fleet's last runs, the oldest first."""
    found = (read(path) for path in runs_folder(fleet_dir).glob("*.json"))
    return sorted((record for record in found if record), key=lambda record: record["started"])


def current() -> Record | None:
    """Return the record of this process's run at the start of its play, or None without the callback."""
    path = os.environ.get(CURRENT)
    return read(Path(path)) if path else None


def clusters_of(record: Record) -> list[str]:
    """Return the clusters of a run by ring, or the hosts of its phases if it has no clusters."""
    known = record["clusters"]
    if known:
        return sorted(known, key=lambda name: ring_order(known[name].get("ring")))
    return list(dict.fromkeys(phase["cluster"] for phase in record["phases"]))


def ring_order(ring: object) -> tuple[int, str]:
    """Return a key that sorts rings as numbers and clusters without a ring last."""
    text = "" if ring is None else str(ring)
    return (int(text), "") if text.isdecimal() else (1 << 30, text)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another run has just deleted it
        return 0


def _worse(one: str, other: str) -> str:
    """Return the worse of two states. An unknown state, such as "not started", is worse than "ok" only."""
    ranks = {state: rank * 2 for rank, state in enumerate(STATES)}
    return max(one, other, key=lambda state: ranks.get(state, 1))
