"""The phases callback: what it says, when, and what it writes down."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.callback import phases


def make_host(name: str, cluster: str | None = None) -> Any:
    group = SimpleNamespace(vars={"cluster_name": cluster} if cluster else {})
    return SimpleNamespace(name=name, vars={}, get_groups=lambda: [group])


def make_task(name: str, role: str | None = None) -> Any:
    role_object = SimpleNamespace(get_name=lambda include_role_fqcn: role) if role else None
    return SimpleNamespace(_uuid=name, _role=role_object, get_name=lambda: name)


class Run:
    """A callback with a clock that only moves when told, and what it showed."""

    def __init__(self, tmp_path: Path) -> None:
        self.time = 1000.0
        self.shown: list[str] = []
        self.file = tmp_path / "phases.json"
        self.callback = phases.CallbackModule(now=lambda: self.time)
        self.callback._plugin_options = {"heartbeat": 0, "file": str(self.file)}
        self.callback._display = SimpleNamespace(display=lambda text, color: self.shown.append(text))
        self.callback.v2_playbook_on_start(SimpleNamespace(_file_name="site.yml"))

    def play(self, name: str, hosts: list[Any], roles: bool = True) -> None:
        inventory = SimpleNamespace(get_hosts=lambda _pattern: hosts)
        self.callback.v2_playbook_on_play_start(
            SimpleNamespace(
                hosts="x",
                _removed_hosts=["gone"],
                get_name=lambda: name,
                get_roles=lambda: ["role"] if roles else [],
                get_variable_manager=lambda: SimpleNamespace(_inventory=inventory),
            )
        )

    def start(self, host: Any, task: Any) -> None:
        self.callback.v2_runner_on_start(host, task)

    def end(self, host: Any, task: Any, outcome: str = "ok", **result: Any) -> None:
        getattr(self.callback, f"v2_runner_on_{outcome}")(SimpleNamespace(_host=host, _task=task, _result=result))

    def stats(self) -> list[dict[str, Any]]:
        self.callback.v2_playbook_on_stats(SimpleNamespace())
        return json.loads(self.file.read_text())["phases"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


CP, WORKER, OTHER, GONE = make_host("cp", "a"), make_host("w", "a"), make_host("b", "b"), make_host("gone", "c")


def test_phase_is_said_once_with_the_clusters_that_are_left(run: Run) -> None:
    run.play("Prepare", [CP, WORKER, OTHER, GONE])
    run.time += 65
    for task in (make_task("one", "node_prep"), make_task("two", "node_prep")):
        for host in (CP, WORKER):
            run.start(host, task)
            run.end(host, task)
    assert run.shown == ["[01:05] node_prep: a, b"]


def test_phases_are_timed_per_cluster_and_counted(run: Run) -> None:
    run.play("Prepare", [CP, OTHER])
    task = make_task("one", "node_prep")
    run.start(CP, task)
    run.start(OTHER, task)
    run.time += 2
    run.end(CP, task, changed=True)
    run.time += 3
    run.end(OTHER, task, outcome="failed")
    first, second = run.stats()
    assert first == {
        "phase": "node_prep", "play": "Prepare", "cluster": "a", "started": 1000.0, "ended": 1002.0,
        "tasks": 1, "changed": 1, "failed": 0,
    }  # fmt: skip
    assert (second["cluster"], second["ended"], second["failed"]) == ("b", 1005.0, 1)


def test_plays_of_one_name_are_not_one_long_phase(run: Run) -> None:
    task = make_task("check")
    for pause in (1, 100):
        run.time += pause
        run.play("Gate", [CP], roles=False)
        run.start(CP, task)
        run.time += 1
        run.end(CP, task)
    assert [phase["ended"] - phase["started"] for phase in run.stats()] == [1, 1]
    assert "Gate" in run.shown[-1]
    assert " 2.0" in run.shown[-1]


@pytest.mark.parametrize(("roles", "name"), [(True, "Wait"), (False, "Metrics")])
def test_task_without_role_is_named_by_itself_beside_roles(run: Run, roles: bool, name: str) -> None:
    run.play("Metrics", [CP], roles=roles)
    run.start(CP, make_task("Wait"))
    assert run.shown == [f"[00:00] {name}: a"]


def test_heartbeat_names_task_and_hosts_that_still_run(run: Run) -> None:
    run.play("Prepare", [CP, WORKER])
    task = make_task("Initialise", "control_plane")
    for host in (CP, WORKER):
        run.start(host, task)
    run.time += 12
    assert run.callback.still(run.time) == "[00:12]   still at 'Initialise' on cp, w (12 s)"
    run.end(CP, task)
    assert run.callback.still(run.time) == "[00:12]   still at 'Initialise' on w (12 s)"
    run.end(WORKER, task, outcome="unreachable")
    assert run.callback.still(run.time) is None


def test_heartbeat_comes_only_after_silence_and_less_often_with_time(run: Run) -> None:
    run.play("Prepare", [CP])
    run.start(CP, make_task("Initialise", "control_plane"))
    waits: list[float] = []

    class Stop:
        def wait(self, seconds: float) -> bool:
            run.time += seconds
            waits.append(seconds)
            return len(waits) > 200

    run.callback._beat(Stop(), 8)  # type: ignore[arg-type]
    assert [line[:7] for line in run.shown[1:]] == ["[00:08]", "[00:24]", "[00:56]", "[01:56]", "[02:56]"]


def test_host_without_cluster_stands_for_itself(run: Run) -> None:
    host = make_host("laptop")
    run.play("Local", [host])
    run.start(host, make_task("x", "artifacts"))
    assert run.shown == ["[00:00] artifacts: laptop"]


def test_summary_has_a_column_per_cluster_and_folds_short_phases() -> None:
    lines = phases.summary(
        [
            phases.Phase("node_prep", "p", "a", 0, 10),
            phases.Phase("node_prep", "p", "b", 0, 2.25),
            phases.Phase("cni", "p", "b", 2, 2.01),
        ],
        12,
    )
    assert lines == [
        "seconds per phase          a    b",
        "node_prep               10.0  2.2",
        "(1 phases under 0.1 s)",
        "whole run: 12.0",
    ]


def test_summary_of_many_clusters_stays_short() -> None:
    lines = phases.summary([phases.Phase("cni", "p", f"c{n}", 0, n) for n in range(1, 8)], 7)
    assert lines[1].split() == ["cni", "7", "4.0", "7.0", "c7"]
    assert len(lines) == 3


def test_names_of_many_clusters_are_counted() -> None:
    assert phases.name_some(["a", "b", "a"]) == "a, b"
    assert phases.name_some(f"c{n}" for n in range(7)) == "c0, c1, c2 and 4 more"
