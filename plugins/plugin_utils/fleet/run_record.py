# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What one playbook did, as data: phases, changes and failures of every cluster, and how each of them ended.

The callback `phases` writes such a record while a playbook runs. An action may give the callback more to write down,
by keys of its result: `run_record`, the path of a record (that of a merge, for instance) which becomes part of its
run; and `fleet_result`, a dict with `kind` (such as "drift"), `ok` and `text`: what was found out about the cluster of
the host.

Nothing here may hold a secret: results of tasks with no_log and diffs are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common.files import replace_file

#: A record as it is written, see ``RunRecord.document``.
Record = dict[str, Any]

#: Folder of the fleet's records below the state directory. No cluster's folder is in its way: names have no dots.
FLEET_FOLDER = "fleet.d"
#: Runs whose records are kept.
KEPT_RUNS = 50
#: Environment variable in which the callback tells the other processes of its run where its record is.
CURRENT = "KUBESCALE_RUN_RECORD"
#: Characters of a failure's message that are kept.
LONGEST_MESSAGE = 4000
#: How a cluster can end, from good to bad.
STATES = ("ok", "failed", "unreachable")
#: What is known of an object that a set changed, besides its identity.
_OBJECT_KEYS = ("apiVersion", "kind", "namespace", "name", "action", "fields", "restarts")
_UNCHANGED = ("unchanged", "kept")


@dataclass
class Phase:
    """One phase on one cluster; times in seconds since 1970, counts are of task results per host."""

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
        """How long the phase took on this cluster."""
        return self.ended - self.started


@dataclass
class RunRecord:
    """The record of a run that goes on."""

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
        """Note that the run works on a cluster; all is well with it until something fails."""
        self.clusters.setdefault(name, {"ring": ring, "environment": environment, "state": STATES[0]})

    def add_change(
        self, cluster: str, host: str, role: str, task: str, result: Mapping[str, Any], secret: bool
    ) -> None:
        """Note a task that changed something, or would; of a `secret` one no more than that."""
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
        """Note a task that failed, or a host that was not reached."""
        text = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]} …"
        self.failures.append({"cluster": cluster, "host": host, "task": task, "message": text})
        self.set_state(cluster, state)

    def set_state(self, cluster: str, state: str) -> None:
        """Note how a cluster ended in an action's own words, unless it has failed."""
        if known := self.clusters.get(cluster):
            known["state"] = _worse(known["state"], state)

    def forgive(self, host: str, cluster: str, others: bool) -> None:
        """Forget failures of a host that were rescued; its cluster is well unless `others` of its hosts failed."""
        self.failures = [failure for failure in self.failures if failure["host"] != host]
        if not others and cluster in self.clusters:
            self.clusters[cluster]["state"] = STATES[0]

    def document(self, ended: float | None) -> Record:
        """The record as it is written; `ended` is None as long as the playbook runs, and for ever if it was killed."""
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
    """One record of several, such as those of a rollout's children; `about` replaces keys of the result.

    A cluster has its worst state; the whole has not ended while one part has not. There must be at least one record.
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
    """The record in a file; None if there is none, or half of one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        complete = {"id", "playbook", "started", "ended", "check", "clusters", "phases", "changes", "failures"}
        if not complete <= record.keys():
            return None
    except (OSError, ValueError, AttributeError):
        return None
    return {"results": [], **record}


def save(path: Path, record: Record) -> None:
    """Write a record. Raises OSError."""
    replace_file(path, json.dumps(record) + "\n")


def runs_folder(fleet_dir: Path) -> Path:
    """Where the records of a fleet's runs are."""
    return fleet_dir / FLEET_FOLDER / "runs"


def prepare_run(fleet_dir: Path, ident: str) -> Path:
    """Path for a run's record in the fleet's folder, where room is made for it. Raises OSError."""
    folder = runs_folder(fleet_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.json"), key=_written)[: -(KEPT_RUNS - 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{ident}.json"


def read_runs(fleet_dir: Path) -> list[Record]:
    """Records of the fleet's last runs, the oldest first."""
    found = (read(path) for path in runs_folder(fleet_dir).glob("*.json"))
    return sorted((record for record in found if record), key=lambda record: record["started"])


def current() -> Record | None:
    """The record of the run that this process belongs to, as it was when its play began; None without the callback."""
    path = os.environ.get(CURRENT)
    return read(Path(path)) if path else None


def clusters_of(record: Record) -> list[str]:
    """The clusters of a run by ring; the hosts that its phases ran on where there are no clusters."""
    known = record["clusters"]
    if known:
        return sorted(known, key=lambda name: ring_order(known[name].get("ring")))
    return list(dict.fromkeys(phase["cluster"] for phase in record["phases"]))


def ring_order(ring: object) -> tuple[int, str]:
    """Sorts rings as numbers where they are some, and what has none last."""
    text = "" if ring is None else str(ring)
    return (int(text), "") if text.isdecimal() else (1 << 30, text)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another run has just made room, too
        return 0


def _worse(one: str, other: str) -> str:
    """The worse of two states; one that is not known here, such as "not started", is only worse than a good one."""
    ranks = {state: rank * 2 for rank, state in enumerate(STATES)}
    return max(one, other, key=lambda state: ranks.get(state, 1))
