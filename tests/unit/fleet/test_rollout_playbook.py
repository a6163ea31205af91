"""Rollouts with real children: playbooks that need no cluster, and that fail, hang and are killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.action import rollout as action
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import keeper, rollout
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.child_runs import (
    ChildError,
    Children,
    Files,
    child_options,
    judge,
    tag_options,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.rollout import Ring, Target

REPOSITORY = Path(__file__).resolve().parents[3]
# The variables of a cluster choose its behaviour.
CHILD = """
- name: Work
  hosts: clusters
  gather_facts: false
  tasks:
    - name: Take time
      ansible.builtin.command:
        argv: ["{{ ansible_python_interpreter }}", -c, "import sys, time; time.sleep(float(sys.argv[1]))",
               "{{ takes | default(0) }}", "{{ marks }}"]
    - name: Do it
      ansible.builtin.fail:
        msg: "{{ inventory_hostname }} is ill"
      when: ill | default(false)
    - name: Leave a mark
      ansible.builtin.copy:
        content: "{{ fleet_run }} {{ run | default('') }}"
        dest: "{{ marks }}/{{ inventory_hostname }}{{ '.undone' if run is defined else '' }}"
        mode: "0644"
"""
PARENT = """
- import_playbook: kubescale.fleet.inputs
- hosts: clusters
  gather_facts: false
  tasks:
    - kubescale.fleet.rollout:
        playbook: "{{ playbook_dir }}/child.yml"
        rollback_playbook: "{{ playbook_dir }}/undo.yml"
        restart: "{{ rollout_restart | default(false) }}"
      run_once: true
"""
KUBECONFIG = (
    "current-context: a\nclusters: [{name: a, cluster: {server: 'https://192.0.2.9:6443'}}]\n"
    "contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n"
)


class Fleet:
    """An inventory whose clusters do as they are told, and the playbook that rolls out to them."""

    def __init__(self, folder: Path, **rings: int) -> None:
        self.folder = folder
        for name in ("marks", "group_vars"):
            (folder / name).mkdir()
        (folder / "a.kubeconfig").write_text(KUBECONFIG)
        clusters = {name: {"ring": ring, "kubeconfig": "a.kubeconfig"} for name, ring in rings.items()}
        content = {"plugin": "kubescale.fleet.clusters", "clusters": clusters}
        (folder / "clusters.yml").write_text(yaml.safe_dump(content))
        (folder / "rollout.yml").write_text(PARENT)
        (folder / "child.yml").write_text(CHILD)
        (folder / "undo.yml").write_text(CHILD.replace("when: ill | default(false)", "when: false"))
        self.set("all", marks=str(folder / "marks"))

    def set(self, group: str, **variables: Any) -> None:
        (self.folder / f"group_vars/{group}.yml").write_text(yaml.safe_dump(variables))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"KUBESCALE_STATE_DIR": str(self.folder / "state"), "ANSIBLE_NOCOLOR": "1"}
        del environment["KUBESCALE_FLEET_DIR"]
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        # A session of its own stands for a terminal: a signal to its group is Ctrl-C.
        return subprocess.Popen(
            [program, str(self.folder / "rollout.yml"), "-i", str(self.folder / "clusters.yml"), *arguments],
            cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _unused = process.communicate(timeout=300)
        return process.returncode, said

    @property
    def file(self) -> Path:
        return self.folder / "state/fleet.d/rollout.json"

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())  # type: ignore[no-any-return]

    @property
    def states(self) -> dict[str, str]:
        return {name: entry["state"] for name, entry in self.state["clusters"].items()}

    @property
    def record(self) -> dict[str, Any]:
        """Record of the only run."""
        (file,) = (self.folder / "state/fleet.d/runs").glob("*.json")
        return json.loads(file.read_text())  # type: ignore[no-any-return]

    @property
    def marks(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "marks").iterdir())

    def until(self, what: Callable[[], object], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                if what():
                    return
            time.sleep(0.1)
        raise AssertionError("it did not come to pass")

    def processes(self) -> list[str]:
        """Commands of all processes that have to do with this fleet."""
        listing = subprocess.run(["ps", "-Aww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
        return [line for line in listing.splitlines() if str(self.folder) in line]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, a=0, b=0, c=1)
    yield made
    assert made.processes() == []


def test_rings_in_order_with_progress(fleet: Fleet) -> None:
    fleet.set("cluster_a", takes=2)
    status, said = fleet.run("-e", "extra=1")
    assert status == 0, said
    assert fleet.states == {"a": "passed", "b": "passed", "c": "passed"}
    known = fleet.state["clusters"]
    assert max(known["a"]["ended"], known["b"]["ended"]) <= known["c"]["started"]
    assert known["b"]["started"] < known["a"]["ended"]
    assert "ring 0 a [00:00] Work: a" in said
    assert "ring 1 c: passed after" in said
    assert (fleet.folder / "marks/c").read_text() == f"{fleet.state['id']} "
    record = fleet.record
    assert {name: entry["state"] for name, entry in record["clusters"].items()} == dict.fromkeys("abc", "ok")
    assert {phase["cluster"] for phase in record["phases"] if phase["phase"] == "Work"} == set("abc")


def test_a_failure_halts_with_its_reason_and_the_same_command_goes_on(fleet: Fleet) -> None:
    fleet.set("cluster_a", ill="{{ (marks ~ '/../cured') is not exists }}")
    status, said = fleet.run()
    assert status == 2
    assert fleet.states == {"a": "failed", "b": "passed", "c": "waiting"}
    assert "ring 0 a: failed" in said
    assert "- ring 0 a: failed: a, Do it: a is ill" in said
    first = fleet.state["id"]
    record = fleet.record
    assert {name: entry["state"] for name, entry in record["clusters"].items()} == {
        "a": "failed", "b": "ok", "c": "not started"
    }  # fmt: skip
    (fleet.folder / "marks/b").unlink()
    (fleet.folder / "cured").touch()
    status, said = fleet.run()
    assert status == 0, said
    assert f"rollout {first} continues; clusters that already passed: b" in said
    assert fleet.marks == ["a", "c"]
    assert fleet.state["id"] == first


def test_other_inputs_begin_anew_and_other_terms_do_not(fleet: Fleet) -> None:
    fleet.set("cluster_a", ill=True)
    fleet.set("all", marks=str(fleet.folder / "marks"), rollout_parallel=1)
    assert fleet.run()[0] == 2
    _unused, said = fleet.run("-e", "rollout_parallel=2")
    assert "continues; clusters that already passed: none" in said
    status, said = fleet.run("-e", "else=1", "--limit", "ring_1")
    assert status == 0, said
    assert "starts with the first ring: inventory, variables, clusters or collection have changed" in said
    assert list(fleet.states) == ["c"]


def test_a_word_begins_anew(tmp_path: Path) -> None:
    place = action.Place(tmp_path, 0)
    rings = [Ring(0, (Target("a"),))]
    state = action.begin(place, rings, "d", False, "first")
    state["clusters"]["a"]["state"] = "passed"
    rollout.save_state(place.state, state)
    (tmp_path / "rollout/a.log").write_text("said")
    assert action.begin(place, rings, "d", False, "second")["id"] == "first"
    assert (tmp_path / "rollout/a.log").exists()
    anew = action.begin(place, rings, "d", True, "third")
    assert (anew["id"], anew["clusters"]["a"]["state"]) == ("third", "waiting")
    assert not (tmp_path / "rollout/a.log").exists()


def test_a_failure_in_a_later_ring_is_no_other_clusters(fleet: Fleet) -> None:
    fleet.set("cluster_c", ill=True)
    status, _said = fleet.run()
    assert status == 2
    assert {name: entry["state"] for name, entry in fleet.record["clusters"].items()} == {
        "a": "ok", "b": "ok", "c": "failed"
    }  # fmt: skip
    assert [(entry["cluster"], entry["message"]) for entry in fleet.record["failures"]] == [("c", "c is ill")]
    assert {phase["phase"] for phase in fleet.record["phases"]} == {"Check inputs", "Work"}


def test_failed_clusters_are_rolled_back_and_others_stay(fleet: Fleet) -> None:
    fleet.set("cluster_a", ill=True)
    fleet.set("all", marks=str(fleet.folder / "marks"), rollout_on_failure="rollback")
    status, said = fleet.run()
    assert status == 2
    assert fleet.states == {"a": "rolled back", "b": "passed", "c": "waiting"}
    assert fleet.marks == ["a.undone", "b"]
    ident = fleet.state["id"]
    assert (fleet.folder / "marks/a.undone").read_text() == f"{ident} {ident}"
    assert "- ring 0 a: rolled back: a, Do it: a is ill" in said


def test_a_cluster_that_hangs_fails_in_time_and_leaves_nothing_behind(fleet: Fleet) -> None:
    fleet.set("cluster_a", takes=77, rollout_timeout=15)
    fleet.set("ring_0", rollout_max_failures=1)
    status, said = fleet.run()
    assert status == 2
    assert fleet.states == {"a": "failed", "b": "passed", "c": "passed"}
    assert "it had not ended after 15 s (rollout_timeout)" in said
    assert "The rollout is done; 1 of 3 clusters have not passed." in said


@pytest.mark.parametrize("how", ["ctrl-c", "term", "kill", "kill worker"])
def test_a_rollout_that_is_ended_takes_its_children_along_and_goes_on_later(fleet: Fleet, how: str) -> None:
    fleet.set("cluster_a", takes="{{ 77 if (marks ~ '/../quick') is not exists else 0 }}")
    process = fleet.start()
    fleet.until(lambda: fleet.states["b"] == "passed" and any("time.sleep" in line for line in fleet.processes()))
    if how == "ctrl-c":
        other, said = fleet.run()
        assert other == 2
        assert "another rollout runs on this fleet" in said
        os.killpg(process.pid, signal.SIGINT)
    elif how == "kill worker":
        workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
        for worker in workers.split():
            os.kill(int(worker), signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    fleet.until(lambda: not fleet.processes())
    assert fleet.states == {"a": "running" if how == "kill worker" else "interrupted", "b": "passed", "c": "waiting"}
    assert fleet.marks == ["b"]
    if how == "kill":
        (fleet.folder / "quick").touch()
        status, said = fleet.run()
        assert status == 0, said
        assert "continues; clusters that already passed: b" in said


def test_wrong_terms_and_a_file_that_is_none_are_named_before_anything_begins(fleet: Fleet) -> None:
    fleet.set("cluster_a", rollout_max_failures=1)
    status, said = fleet.run()
    assert status == 2
    assert "b: rollout_max_failures is 0, but 1 for a; all clusters of ring 0 must have the same" in said
    status, said = fleet.run("-e", "rollout_parallel=0")
    assert status == 2
    assert "must be 1 or more" in said
    fleet.set("cluster_a")
    fleet.file.parent.mkdir(parents=True, exist_ok=True)
    fleet.file.write_text("half")
    status, said = fleet.run()
    assert status == 2
    assert "is not the state of a rollout" in " ".join(said.split())
    assert fleet.marks == []


def test_check_mode_says_the_order_and_begins_nothing(fleet: Fleet) -> None:
    status, said = fleet.run("--check")
    assert status == 0, said
    assert "ring 0: a, b; 5 at a time; halts if more than 0 fail" in said
    assert not fleet.file.exists()
    assert fleet.marks == []


@contextlib.contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False)
    if mount.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_said_and_nothing_counts_as_success(fleet: Fleet) -> None:
    with tiny_disk(fleet.folder / "state"):
        filler = fleet.folder / "state/filler"
        fleet.set("cluster_a", takes=3)
        process = fleet.start()
        fleet.until(lambda: fleet.states["a"] == "running" and fleet.states["b"] == "running")
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 512)
        said, _unused = process.communicate(timeout=300)
        assert process.returncode == 2
        text = " ".join(said.split())
        assert "No space left on device" in text
        assert fleet.states == {"a": "running", "b": "running", "c": "waiting"}
        filler.unlink()
        status, said = fleet.run()
        assert status == 0, said
        assert "continues; clusters that already passed: none" in said


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_children_are_told_what_the_run_was_told() -> None:
    told = {
        "inventory": ("/i/one", "/i/two"), "extra_vars": ("a=1", "@file.yml"), "vault_password_files": ["/v"],
        "vault_ids": ["prod@/v2"], "tags": ["hpa", "grafana"], "skip_tags": ["verify"], "forks": 7, "verbosity": 2,
        "diff": True, "subset": "ring_0", "connection": "ssh", "private_key_file": None, "ask_vault_pass": False,
    }  # fmt: skip
    assert child_options(told) == [
        "--forks=7", "--connection=ssh", "--inventory=/i/one", "--inventory=/i/two", "--extra-vars=a=1",
        "--extra-vars=@file.yml", "--vault-id=prod@/v2", "--vault-password-file=/v", "--diff", "-vv",
    ]  # fmt: skip
    assert tag_options(told) == ["--tags=hpa,grafana", "--skip-tags=verify"]
    assert tag_options({"tags": ["all"], "skip_tags": ()}) == []
    for asked in ({"ask_vault_pass": True}, {"ask_pass": True}, {"become_ask_pass": True}, {"vault_ids": ["a@prompt"]}):
        with pytest.raises(ChildError, match="cannot prompt"):
            child_options(asked)


RECORD: dict[str, Any] = {
    "id": "r", "playbook": "p", "started": 1, "ended": 2, "check": False, "clusters": {"a": {"state": "ok"}},
    "phases": [{"cluster": "a", "changed": 2}, {"cluster": "a", "changed": 1}], "changes": [], "failures": [],
}  # fmt: skip
FAILURE = {"cluster": "a", "host": "a-cp", "task": "Reach", "message": "no answer"}


@pytest.mark.parametrize(
    ("status", "record", "state", "reason"),
    [
        (0, {}, "passed", ""),
        (0, {"ended": None}, "failed", "without its record: the end"),
        (0, None, "failed", "without its record: the end"),
        (0, {"phases": []}, "failed", "did nothing on this cluster"),
        (0, {"clusters": {"a": {"state": "failed"}}}, "failed", "status 0: the end"),
        (2, {}, "failed", "status 2: the end"),
        (2, {"failures": [FAILURE]}, "failed", "a-cp, Reach: no answer"),
        (0, {"failures": [FAILURE]}, "failed", "a-cp, Reach: no answer"),
    ],
)
def test_a_child_has_passed_only_if_all_say_so(
    status: int, record: dict[str, Any] | None, state: str, reason: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("\n\nthe end\n")
    outcome = judge("a", status, None if record is None else RECORD | record, log)
    assert outcome.state == state
    assert reason in outcome.reason
    assert outcome.changed == (0 if record is None or "ended" in record or "phases" in record else 3)


def test_a_child_that_cannot_be_started_has_failed(tmp_path: Path) -> None:
    files = Files(tmp_path / "none/log", tmp_path / "record")
    outcome = Children(print).run([], "a", "a", files, {}, 5)
    assert outcome.state == "failed"
    assert "cannot start: [Errno 2]" in outcome.reason


STUBBORN = "import signal, subprocess, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
STUBBORN += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(66)', 'deep'], start_new_session=True)\n"
STUBBORN += "print('up', flush=True)\ntime.sleep(66)"


@pytest.mark.parametrize("how", ["let go", "term"])
def test_a_command_that_ignores_interrupts_is_killed_with_all_below_it(how: str, tmp_path: Path) -> None:
    command = [sys.executable, keeper.__file__, "0.5", sys.executable, "-c", STUBBORN, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as kept:
        assert kept.stdin
        assert kept.stdout
        assert kept.stdout.readline() == "up\n"
        below = keeper.descendants(kept.pid)
        assert len(below) == 3
        if how == "term":
            kept.terminate()
        else:
            kept.stdin.close()
        assert kept.wait(10) != 0
    for _attempt in itertools.repeat(None, 50):
        alive = [pid for pid in below if Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid)]
        if not alive:
            break
        time.sleep(0.1)
    assert alive == []


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.parametrize(("program", "status"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
def test_a_command_that_ends_by_itself_is_told(program: str, status: int) -> None:
    command = [sys.executable, keeper.__file__, "1", "sh", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as kept:
        assert kept.wait(10) == status
