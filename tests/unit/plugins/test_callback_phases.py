"""The phases callback: what it says, when, and what it writes down."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.callback import phases
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import runs
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import run_record


def make_host(name: str, cluster: str | None = None, **variables: Any) -> Any:
    group = SimpleNamespace(vars={"cluster_name": cluster, **variables} if cluster else {})
    return SimpleNamespace(name=name, vars={}, get_groups=lambda: [group])


def make_task(name: str, role: str | None = None, **more: Any) -> Any:
    role_object = SimpleNamespace(get_name=lambda include_role_fqcn: role) if role else None
    return SimpleNamespace(_uuid=name, _role=role_object, get_name=lambda: name, **more)


class Run:
    """A callback with a clock that only moves when told, and what it showed."""

    def __init__(self, tmp_path: Path) -> None:
        self.time = 1000.0
        self.shown: list[str] = []
        self.file = tmp_path / "phases.json"
        self.callback = phases.CallbackModule(now=lambda: self.time)
        self.extra: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.fleet = tmp_path / "state"
        self.callback._plugin_options = {"heartbeat": 0, "file": str(self.file), "fleet_dir": None}
        self.callback._display = SimpleNamespace(
            display=lambda text, color: self.shown.append(text), warning=self.warnings.append
        )
        self.callback.v2_playbook_on_start(SimpleNamespace(_file_name="site.yml"))

    def play(self, name: str, hosts: list[Any], roles: bool = True, check: bool = False) -> None:
        inventory = SimpleNamespace(get_hosts=lambda _pattern: hosts)
        self.callback.v2_playbook_on_play_start(
            SimpleNamespace(
                hosts="x",
                check_mode=check,
                _removed_hosts=["gone"],
                get_name=lambda: name,
                get_roles=lambda: ["role"] if roles else [],
                get_variable_manager=lambda: SimpleNamespace(_inventory=inventory, extra_vars=self.extra),
            )
        )

    def start(self, host: Any, task: Any) -> None:
        self.callback.v2_runner_on_start(host, task)

    def end(self, host: Any, task: Any, outcome: str = "ok", **result: Any) -> None:
        getattr(self.callback, f"v2_runner_on_{outcome}")(SimpleNamespace(_host=host, _task=task, _result=result))

    def stats(self, failures: dict[str, int] | None = None, dark: dict[str, int] | None = None) -> list[dict[str, Any]]:
        self.callback.v2_playbook_on_stats(SimpleNamespace(failures=failures or {}, dark=dark or {}))
        return self.record()["phases"]

    def record(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv(run_record.CURRENT, "")  # the callback sets it; put back after the test
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


def test_record_says_how_each_cluster_ended_and_what_changed(run: Run) -> None:
    one, two, three = (
        make_host(f"host-{name}", name, cluster_ring=ring, cluster_environment="staging")
        for name, ring in (("a", 0), ("b", 1), ("c", 1))
    )
    run.play("Set up", [one, two, three])
    assert run.record()["ended"] is None
    task = make_task("Apply", "cni")
    objects = [
        {
            "kind": "Deployment",
            "namespace": "x",
            "name": "web",
            "action": "configured",
            "fields": ["spec"],
            "diff": "no",
        },
        {"kind": "Service", "namespace": "x", "name": "web", "action": "unchanged"},
    ]
    run.end(one, task, changed=True, set="web", objects=objects, diff=[{"after": "secret"}])
    run.end(two, task, outcome="failed", msg="conflict")
    run.end(three, task, outcome="unreachable", msg="no route")
    run.time += 5
    run.stats(failures={"host-b": 1}, dark={"host-c": 1})
    record = run.record()
    assert record["clusters"] == {
        "a": {"ring": 0, "environment": "staging", "state": "ok"},
        "b": {"ring": 1, "environment": "staging", "state": "failed"},
        "c": {"ring": 1, "environment": "staging", "state": "unreachable"},
    }
    found = {"kind": "Deployment", "namespace": "x", "name": "web", "action": "configured", "fields": ["spec"]}
    assert record["changes"] == [
        {"cluster": "a", "host": "host-a", "role": "cni", "task": "Apply", "set": "web", "objects": [found]}
    ]
    assert record["failures"] == [
        {"cluster": "b", "host": "host-b", "task": "Apply", "message": "conflict"},
        {"cluster": "c", "host": "host-c", "task": "Apply", "message": "no route"},
    ]
    assert (record["started"], record["ended"], record["check"]) == (1000.0, 1005.0, False)


def test_record_of_a_secret_task_says_only_that_it_changed(run: Run) -> None:
    run.play("Set up", [CP])
    found = {"kind": "Secret", "name": "s", "action": "created"}
    run.end(CP, make_task("Keys", "cni", no_log=True), changed=True, objects=[found], msg="password")
    run.end(CP, make_task("Hidden", "cni"), changed=True, objects=[found], censored="hidden")
    run.end(CP, make_task("Fails", "cni"), outcome="failed", censored="hidden", msg="password")
    run.stats(failures={"cp": 1})
    text = run.file.read_text()
    assert "password" not in text
    assert "Secret" not in text
    assert [change["task"] for change in run.record()["changes"]] == ["Keys", "Hidden"]
    assert run.record()["failures"][0]["message"] == "hidden"


def test_what_one_host_does_for_all_fails_all_clusters(run: Run) -> None:
    run.play("Check inputs", [CP, OTHER])
    run.end(CP, make_task("Check", run_once=True), outcome="failed", msg="wrong variable")
    run.stats(failures={"cp": 1})
    assert {name: entry["state"] for name, entry in run.record()["clusters"].items()} == {"a": "failed", "b": "failed"}


def test_failure_that_was_rescued_is_none(run: Run) -> None:
    run.play("Set up", [CP, WORKER, OTHER])
    for host in (CP, WORKER, OTHER):
        run.end(host, make_task("Install", "node_prep"), outcome="failed", msg="no")
    run.stats(failures={"w": 1})
    record = run.record()
    assert [failure["host"] for failure in record["failures"]] == ["w"]
    assert {name: entry["state"] for name, entry in record["clusters"].items()} == {"a": "failed", "b": "ok"}


def test_check_mode_is_that_of_all_plays(run: Run) -> None:
    for check, whole in ((True, True), (True, True), (False, False), (True, False)):
        run.play("Some", [CP], check=check)
        run.end(CP, make_task("x", "cni"))
        assert run.record()["check"] is whole


def test_record_is_kept_beside_the_folders_of_clusters(run: Run) -> None:
    host = make_host("a", "a", cluster_state_dir=str(run.fleet / "a"))
    run.play("Set up", [host])
    run.end(host, make_task("x", "cni"))
    (kept,) = (run.fleet / "fleet.d" / "runs").glob("*.json")
    assert os.environ["KUBESCALE_RUN_RECORD"] == str(run.file)
    assert json.loads(kept.read_text())["ended"] is None
    run.stats()
    assert json.loads(kept.read_text()) == run.record()


def test_empty_fleet_dir_means_no_fleet(run: Run) -> None:
    run.callback._plugin_options["fleet_dir"] = ""
    run.play("Set up", [make_host("a", "a", cluster_state_dir=str(run.fleet / "a"))])
    run.stats()
    assert not run.fleet.exists()
    assert run.record()["ended"] == 1000.0


@pytest.mark.parametrize("wrong", ["file", "fleet_dir"])
def test_place_that_cannot_be_written_is_one_warning(run: Run, tmp_path: Path, wrong: str) -> None:
    (tmp_path / "occupied").write_text("")
    run.callback._plugin_options[wrong] = str(tmp_path / "occupied" / "x")
    for number in range(3):
        run.play(f"Play {number}", [CP])
        run.end(CP, make_task("x", "cni"), changed=True)
    run.callback.v2_playbook_on_stats(SimpleNamespace(failures={}, dark={}))
    assert len(run.warnings) == 1
    assert "whole run" in run.shown[-1]


def test_record_of_others_becomes_part_of_the_run(run: Run, tmp_path: Path) -> None:
    child = run_record.RunRecord("c", "child.yml", 1001.0)
    child.add_cluster("b", 1, "production")
    child.phases = [run_record.Phase("cni", "p", "b", 1001, 1004, 1, 1)]
    child.results = [{"cluster": "b", "kind": "gate", "ok": True, "text": "held"}]
    run_record.save(tmp_path / "child.json", child.document(1005))
    run.play("Roll out", [CP])
    found = {"kind": "drift", "ok": False, "text": "1 drifted"}
    run.end(CP, make_task("x", "cni"), run_record=str(tmp_path / "child.json"), fleet_result=found)
    run.time += 9
    run.stats()
    record = run.record()
    assert (record["playbook"], record["ended"]) == ("site.yml", 1009.0)
    assert sorted(record["clusters"]) == ["a", "b"]
    # What it says is all there is to say of that task.
    assert [phase["cluster"] for phase in record["phases"]] == ["b"]
    assert record["results"] == [{"cluster": "a", **found}, *child.results]


def test_id_is_the_one_that_tasks_use_and_another_for_a_second_playbook(run: Run) -> None:
    run.play("One", [CP])
    assert run.record()["id"] == runs.run_id()
    run.callback.v2_playbook_on_start(SimpleNamespace(_file_name="second.yml"))
    run.play("Two", [CP])
    assert run.record()["id"] == f"{runs.run_id()}-2"


def test_id_may_be_given(run: Run) -> None:
    run.extra["fleet_run"] = "rollout-7"
    run.play("One", [CP])
    assert run.record()["id"] == "rollout-7"


def test_id_that_is_none_is_for_the_tasks_to_refuse(run: Run) -> None:
    run.extra["fleet_run"] = "no/id"
    run.play("One", [CP])
    assert run.record()["id"] == runs.run_id()


def test_a_phase_that_is_named_again_and_skipped_has_not_lasted_until_then(run: Run) -> None:
    host = make_host("berlin")
    run.play("Metrics", [host])
    for role, outcome in (("prometheus", "ok"), ("grafana", "ok"), ("prometheus", "skipped")):
        task = make_task(f"apply {role} {outcome}", role)
        run.start(host, task)
        run.time += 10
        run.end(host, task, outcome)
    assert [(phase["phase"], phase["ended"] - phase["started"]) for phase in run.stats()] == [
        ("prometheus", 10),
        ("grafana", 10),
    ]


def test_a_record_that_a_task_brings_tells_all_of_that_task(run: Run, tmp_path: Path) -> None:
    about = {"playbook": "child", "started": 1.0, "ended": 2.0, "check": False}
    clusters = {
        "a": {"ring": 0, "environment": "e", "state": "ok"},
        "b": {"ring": 1, "environment": "e", "state": "failed"},
    }
    failure = {"cluster": "b", "host": "b", "task": "t", "message": "no answer"}
    child = {
        "id": "x",
        **about,
        "clusters": clusters,
        "phases": [],
        "changes": [],
        "failures": [failure],
        "results": [],
    }
    run_record.save(tmp_path / "child.json", child)
    run.play("Roll out", [CP, OTHER], roles=False)
    task = make_task("Roll out")
    run.start(CP, task)
    run.end(CP, task, outcome="failed", changed=True, msg="1 has not passed", run_record=str(tmp_path / "child.json"))
    assert run.stats() == []
    record = json.loads(run.file.read_text())
    assert {name: entry["state"] for name, entry in record["clusters"].items()} == {"a": "ok", "b": "failed"}
    assert record["failures"] == [failure]
    assert record["changes"] == []
