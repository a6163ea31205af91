"""A rollout's order, limit and memory, with clusters that are functions which take their time."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import rollout
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.child_runs import INTERRUPTED, Outcome
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.rollout import Ring, Rollout, RolloutError, Target


class Fleet:
    """Clusters that take ``seconds`` and fail as told; remembers when each was worked on."""

    def __init__(self, seconds: Mapping[str, float] | None = None, failing: tuple[str, ...] = ()) -> None:
        self.seconds = dict(seconds or {})
        self.failing = set(failing)
        self.not_undone: set[str] = set()
        self.times: list[tuple[float, str, str]] = []
        self.undone: list[str] = []
        self.said: list[str] = []
        self.saved: list[dict[str, Any]] = []
        self.stopped = threading.Event()
        self.wanted = True
        self.state: dict[str, Any] = {}

    def work(self, ring: Ring, target: Target) -> Outcome:
        self.times.append((time.monotonic(), "begin", target.name))
        interrupted = self.stopped.wait(self.seconds.get(target.name, 0.01))
        self.times.append((time.monotonic(), "end", target.name))
        if interrupted:
            return Outcome(INTERRUPTED, reason="interrupted")
        if target.name in self.failing:
            return Outcome("failed", 3, 0.1, f"{target.name} is ill")
        return Outcome("passed", 2, 0.1)

    def undo(self, ring: Ring, target: Target) -> Outcome:
        self.undone.append(target.name)
        return Outcome("failed", reason="no answer") if target.name in self.not_undone else Outcome("passed", 3, 0.1)

    def save(self, state: Mapping[str, Any]) -> None:
        self.saved.append(json.loads(json.dumps(state)))

    def roll(self, *rings: Ring, state: dict[str, Any] | None = None) -> str:
        self.state = state or rollout.new_state("r1", "d", rings, 0.0)
        order = Rollout(
            self.state, self.work, self.undo, self.save, self.said.append, lambda: self.wanted, self.stopped.set
        )
        return order.run(rings)

    @property
    def states(self) -> dict[str, str]:
        return {name: entry["state"] for name, entry in self.state["clusters"].items()}

    @property
    def begun(self) -> list[str]:
        return [name for _at, what, name in sorted(self.times) if what == "begin"]

    def most_at_once(self) -> int:
        steps = (1 if what == "begin" else -1 for _at, what, _name in sorted(self.times))
        return max(itertools.accumulate(steps), default=0)


def ring(number: int, count: int, **terms: Any) -> Ring:
    return Ring(number, tuple(Target(f"r{number}c{one}") for one in range(count)), **terms)


@pytest.mark.parametrize("seed", range(6))
def test_order_and_limit_hold_however_slow_clusters_are(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    rings = [ring(number, chance.randint(1, 8), parallel=chance.randint(1, 4)) for number in range(4)]
    names = [target.name for one in rings for target in one.targets]
    fleet = Fleet({name: chance.choice((0.0, 0.01, 0.05, 0.2)) for name in names})
    # The order is that of the numbers, not of the list.
    assert fleet.roll(*chance.sample(rings, len(rings))) == "done"
    assert set(fleet.states.values()) == {"passed"}
    assert sorted(fleet.begun) == sorted(names)
    for one, later in itertools.pairwise(rings):
        mine, theirs = ({target.name for target in each.targets} for each in (one, later))
        last = max(at for at, what, name in fleet.times if name in mine and what == "end")
        first = min(at for at, what, name in fleet.times if name in theirs and what == "begin")
        assert last < first
    for one in rings:
        alone = Fleet()
        alone.times = [entry for entry in fleet.times if entry[2] in {target.name for target in one.targets}]
        assert alone.most_at_once() <= one.parallel


def test_as_many_clusters_as_allowed_are_worked_on_at_once() -> None:
    together = threading.Barrier(3)

    class Meeting(Fleet):
        def work(self, ring: Ring, target: Target) -> Outcome:
            # Raises an error if the three clusters of a turn are not worked on at the same time.
            together.wait(timeout=20)
            return super().work(ring, target)

    assert Meeting().roll(ring(0, 6, parallel=3)) == "done"


def test_one_slow_cluster_holds_up_no_other_of_its_ring() -> None:
    fleet = Fleet({"r0c0": 0.6})
    fleet.roll(ring(0, 6, parallel=2))
    ends = [name for _at, what, name in sorted(fleet.times) if what == "end"]
    assert ends == ["r0c1", "r0c2", "r0c3", "r0c4", "r0c5", "r0c0"]


def test_a_failure_ends_what_runs_and_begins_nothing_more() -> None:
    fleet = Fleet({"r0c0": 0.02, "r0c1": 0.3}, failing=("r0c0",))
    assert fleet.roll(ring(0, 4, parallel=2), ring(1, 2)) == "halted"
    assert fleet.states == {
        "r0c0": "failed", "r0c1": "passed", "r0c2": "waiting", "r0c3": "waiting", "r1c0": "waiting", "r1c1": "waiting"
    }  # fmt: skip
    assert fleet.state["clusters"]["r0c0"]["reason"] == "r0c0 is ill"
    assert "ring 0 r0c0: failed after 0 s, changed=3: r0c0 is ill" in fleet.said
    assert fleet.undone == []


def test_as_many_failures_as_are_allowed_do_not_halt_and_are_not_forgotten() -> None:
    fleet = Fleet(failing=("r0c0", "r1c0", "r1c1"))
    assert fleet.roll(ring(0, 3, max_failures=1), ring(1, 2, max_failures=1), ring(2, 1)) == "halted"
    assert [fleet.states[name] for name in ("r0c0", "r0c1", "r2c0")] == ["failed", "passed", "waiting"]


def test_only_what_failed_is_rolled_back() -> None:
    fleet = Fleet(failing=("r0c0", "r0c2"))
    fleet.not_undone = {"r0c2"}
    assert fleet.roll(ring(0, 3, parallel=3, roll_back=True), ring(1, 1)) == "halted"
    assert sorted(fleet.undone) == ["r0c0", "r0c2"]
    assert fleet.states == {"r0c0": "rolled back", "r0c1": "passed", "r0c2": "failed", "r1c0": "waiting"}
    assert fleet.state["clusters"]["r0c2"]["reason"] == "r0c2 is ill; rollback failed: no answer"


def test_every_step_is_on_disk_before_the_next() -> None:
    fleet = Fleet()
    fleet.roll(ring(0, 2, parallel=1))
    steps = [tuple(entry["state"] for entry in state["clusters"].values()) for state in fleet.saved]
    assert steps == [
        ("running", "waiting"),
        ("passed", "waiting"),
        ("passed", "running"),
        ("passed", "passed"),
        ("passed", "passed"),
    ]
    assert [state["result"] for state in fleet.saved][-2:] == ["unfinished", "done"]


def test_an_interruption_ends_what_runs_and_rolls_nothing_back() -> None:
    fleet = Fleet({"r0c0": 30, "r0c1": 30}, failing=("r0c0",))
    threading.Timer(0.2, lambda: setattr(fleet, "wanted", False)).start()
    begin = time.monotonic()
    assert fleet.roll(ring(0, 3, parallel=2, roll_back=True)) == INTERRUPTED
    assert time.monotonic() - begin < 3
    assert fleet.states == {"r0c0": "interrupted", "r0c1": "interrupted", "r0c2": "waiting"}
    assert fleet.undone == []
    assert fleet.saved[-1]["result"] == INTERRUPTED


def test_what_passed_is_not_done_again(tmp_path: Path) -> None:
    rings = (ring(0, 2), ring(1, 2, parallel=1))
    fleet = Fleet(failing=("r1c0",))
    assert fleet.roll(*rings) == "halted"
    file = tmp_path / "rollout.json"
    rollout.save_state(file, fleet.state)
    state = rollout.read_state(file)
    assert state
    assert rollout.restart_reason(state, "d") == ""
    assert "inventory, variables, clusters or collection" in rollout.restart_reason(state, "other")
    assert rollout.resume(state) == ["r0c0", "r0c1"]
    again = Fleet()
    assert again.roll(*rings, state=state) == "done"
    assert again.begun == ["r1c0", "r1c1"]
    assert "reason" not in rollout.new_state("r", "d", rings, 0)["clusters"]["r1c0"]
    assert rollout.restart_reason(again.state, "d") == "the last rollout is done"
    assert rollout.restart_reason(None, "d") == "there is no earlier rollout"


def test_a_killed_rollout_goes_on_with_what_was_running() -> None:
    fleet = Fleet()
    fleet.roll(ring(0, 2, parallel=1))
    killed = fleet.saved[2]
    assert [entry["state"] for entry in killed["clusters"].values()] == ["passed", "running"]
    assert rollout.resume(killed) == ["r0c0"]
    assert killed["clusters"]["r0c1"] == {"ring": 0, "state": "waiting"}


@pytest.mark.parametrize("again", [True, False])
def test_a_full_disk_begins_nothing_and_counts_nothing(again: bool, tmp_path: Path) -> None:
    fleet = Fleet({"r0c1": 0.2})
    file = tmp_path / "rollout.json"
    full = itertools.count()

    def save(state: Mapping[str, Any]) -> None:
        number = next(full)
        if number == 2 or (number > 2 and not again):  # the first end cannot be noted
            raise RolloutError("no space") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rollout.save_state(file, state)

    fleet.save = save  # type: ignore[method-assign]
    with pytest.raises(RolloutError):
        fleet.roll(ring(0, 4, parallel=2), ring(1, 1))
    assert fleet.begun == ["r0c0", "r0c1"]
    assert len(fleet.times) == 4  # what had begun was waited for
    known = rollout.read_state(file)
    assert known
    # What can be written again later is so.
    assert {entry["state"] for entry in known["clusters"].values()} == {"passed" if again else "running", "waiting"}
    assert rollout.restart_reason(known, "d") == ""
    assert rollout.resume(known) == (["r0c0", "r0c1"] if again else [])


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=16k tmpfs {folder}") != 0:  # noqa: S605
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        os.system(f"umount {folder}")  # noqa: S605


def test_a_disk_that_is_full_is_named_and_leaves_the_last_state(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        file = disk / "rollout.json"
        state = rollout.new_state("r1", "d", [ring(0, 2)], 0.0)
        rollout.save_state(file, state)
        with pytest.raises(OSError, match="No space"):
            (disk / "other").write_bytes(b"0" * 20000)
        state["clusters"]["r0c0"]["reason"] = "x" * 5000
        with pytest.raises(
            RolloutError, match=r"cannot be written to .*rollout.json: No space left on device. Free disk space"
        ):
            rollout.save_state(file, state)
        assert rollout.read_state(file) == rollout.new_state("r1", "d", [ring(0, 2)], 0.0)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"clusters": null, "digest": "d", "id": "i"}'])
def test_a_state_that_is_none_is_refused_by_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "rollout.json"
    assert rollout.read_state(file) is None
    file.write_text(content)
    with pytest.raises(RolloutError, match=r"rollout.json is not the state .* delete the file"):
        rollout.read_state(file)


def test_inputs_are_told_apart(tmp_path: Path) -> None:
    source = tmp_path / "clusters.yml"
    source.write_text("clusters: {}")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("a: 1")

    def digest(*others: object) -> str:
        return rollout.digest_of(rollout.inventory_places([str(source), "a,b,"]), *others)

    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: (tmp_path / "group_vars/all.yml").write_text("a: 2"),
        lambda: (tmp_path / "group_vars/ring_0.yml").write_text("a: 2"),
        lambda: source.write_text("clusters: {a: {}}"),
    ]
    seen = []
    for change in changes:
        change()
        seen.append(digest({"x": "1"}))
    seen.append(digest({"x": "2"}))
    assert len(set(seen)) == 5
    # Environments may share variables by a link.
    (tmp_path / "shared").mkdir()
    (tmp_path / "group_vars/ring_1").symlink_to("../shared")
    linked = digest({"x": "2"})
    (tmp_path / "shared/all.yml").write_text("a: 3")
    seen.append(digest({"x": "2"}))
    assert linked != seen[-1]
    # How a cluster is reached may have to be mended in the middle.
    (tmp_path / "group_vars/berlin.kubeconfig").write_text("token")
    assert digest({"x": "2"}) == seen[-1]


def test_the_state_is_told_ring_by_ring() -> None:
    fleet = Fleet(failing=("r0c0",))
    fleet.roll(ring(0, 2), ring(1, 1))
    assert rollout.describe(fleet.state).splitlines() == [
        "rollout r1: halted",
        "  ring 0  r0c0  failed  0.1 s, changed=3  r0c0 is ill",
        "  ring 0  r0c1  passed  0.1 s, changed=2",
        "  ring 1  r1c0  waiting",
    ]


def test_the_record_tells_of_everyone_even_who_was_never_begun() -> None:
    fleet = Fleet(failing=("r0c1",))
    fleet.roll(ring(0, 2), ring(1, 1))
    fleet.state["clusters"]["r0c1"]["state"] = INTERRUPTED
    clusters = {name: {"ring": 0, "environment": "e", "state": "ok"} for name in ("r0c0", "r0c1")}
    child = {
        "id": "x", "playbook": "p", "started": 1.0, "ended": None, "check": False, "clusters": clusters,
        "phases": [{"phase": "cni", "cluster": "r0c0"}], "changes": [], "failures": [], "results": [],
    }  # fmt: skip
    record = rollout.record_of(fleet.state, [child])
    assert {name: entry["state"] for name, entry in record["clusters"].items()} == {
        "r0c0": "ok", "r0c1": "failed", "r1c0": "not started"
    }  # fmt: skip
    assert [(entry["cluster"], entry["message"]) for entry in record["failures"]] == [("r0c1", "r0c1 is ill")]
    assert [entry["text"] for entry in record["results"]] == [
        "ring 0: passed",
        "ring 0: interrupted",
        "ring 1: waiting",
    ]
    assert (record["id"], len(record["phases"]), record["ended"]) == ("r1", 1, fleet.state["ended"])
