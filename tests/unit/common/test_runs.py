"""Which run something belongs to: the same for all its tasks, another for any other run."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import runs
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import lease


def in_a_worker(_number: int) -> str:
    return runs.run_id({})


def test_all_workers_of_a_process_and_itself_are_one_run():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = {*pool.map(in_a_worker, range(4), chunksize=1), runs.run_id()}
    assert len(found) == 1
    assert len(found.pop()) == 12


def test_another_process_is_another_run():
    code = f"import runpy; print(runpy.run_path({runs.__file__!r})['run_id']())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert len(other) == 12
    assert other != runs.run_id()


def test_the_number_of_a_process_may_come_again(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "_PROCESSES", tmp_path)
    (tmp_path / "7").mkdir()
    found = set()
    for started in (100, 200):
        (tmp_path / "7" / "stat").write_text(f"7 (a) b) c) S {' '.join(map(str, range(1, 19)))} {started} 0 0\n")
        runs._derived.cache_clear()
        found.add(runs._derived(7))
    assert len(found) == 2
    assert runs._started(7) == "200"


def test_without_a_proc_ps_is_asked(monkeypatch):
    monkeypatch.setattr(runs, "_PROCESSES", Path("/nowhere"))
    asked = []

    def run(command, **_options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "Sat Nov 21 17:00:00 2026\n")

    monkeypatch.setattr(runs.subprocess, "run", run)
    assert runs._started(7) == "Sat Nov 21 17:00:00 2026"
    assert asked == [["ps", "-o", "lstart=", "-p", "7"]]


def test_a_run_can_be_named():
    assert runs.run_id({"fleet_run": "rollout-7"}) == "rollout-7"
    assert runs.run_id({"fleet_run": 7}) == "7"
    assert runs.run_id({"fleet_run": ""}) == runs.run_id({})


@pytest.mark.parametrize("name", ["a b", "-a", "a/b", "x" * 64, "a\n"])
def test_a_run_cannot_be_named_anything(name):
    with pytest.raises(ValueError, match="fleet_run is"):
        runs.run_id({"fleet_run": name})


def test_who(monkeypatch):
    monkeypatch.setattr(runs.getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(runs.socket, "gethostname", lambda: "laptop")
    assert runs.who() == "ada@laptop"

    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(runs.getpass, "getuser", nameless)
    monkeypatch.setattr(runs.os, "getuid", lambda: 1234)
    assert runs.who() == "1234@laptop"


def test_a_lease_names_who_runs_as_records_do(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(runs.getpass, "getuser", nameless)
    monkeypatch.setattr(runs.os, "getuid", lambda: 1234)
    monkeypatch.setattr(runs.socket, "gethostname", lambda: "laptop")
    assert lease.this_run(77).identity == "1234@laptop (process 77)"
