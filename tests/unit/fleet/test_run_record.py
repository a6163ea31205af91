"""Records of runs: merged, kept, read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import files
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import run_record
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.run_record import Phase, RunRecord


def make(ident: str, cluster: str, state: str, started: float) -> RunRecord:
    record = RunRecord(ident, "site.yml", started)
    record.add_cluster(cluster, 0, "default")
    record.clusters[cluster]["state"] = state
    record.phases = [Phase("cni", "p", cluster, started, started + 1)]
    return record


def test_merge_has_the_worst_state_and_the_longest_time() -> None:
    parts = [make("a", "one", "ok", 5).document(9), make("b", "one", "failed", 3).document(7)]
    parts.append(make("c", "two", "unreachable", 4).document(6))
    merged = run_record.merge(parts, id="whole")
    assert (merged["id"], merged["started"], merged["ended"]) == ("whole", 3, 9)
    assert {name: entry["state"] for name, entry in merged["clusters"].items()} == {
        "one": "failed",
        "two": "unreachable",
    }
    assert len(merged["phases"]) == 3
    assert parts[0]["clusters"]["one"]["state"] == "ok"


@pytest.mark.parametrize(
    ("states", "worst"), [(("ok", "not started"), "not started"), (("not started", "failed"), "failed")]
)
def test_states_of_others_are_between_good_and_bad(states: tuple[str, str], worst: str) -> None:
    for pair in (states, states[::-1]):
        parts = [make("a", "one", state, 0).document(1) for state in pair]
        assert run_record.merge(parts)["clusters"]["one"]["state"] == worst


def test_merge_has_not_ended_while_a_part_has_not() -> None:
    assert (
        run_record.merge([make("a", "one", "ok", 5).document(9), make("b", "two", "ok", 3).document(None)])["ended"]
        is None
    )


def test_records_are_read_in_order_and_only_the_last_ones_kept(tmp_path: Path) -> None:
    for number in range(run_record.KEPT_RUNS + 5):
        path = run_record.prepare_run(tmp_path, f"run-{number}")
        run_record.save(path, make(f"run-{number}", "one", "ok", number).document(number + 1))
        os.utime(path, (number, number))
    runs = run_record.read_runs(tmp_path)
    assert [run["id"] for run in runs] == [f"run-{number}" for number in range(5, run_record.KEPT_RUNS + 5)]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"'])
def test_file_that_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert run_record.read(tmp_path / "x.json") is None
    assert run_record.read(tmp_path / "missing.json") is None


def test_file_is_replaced_in_one_step_and_a_device_is_written_to(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text("old")
    with file.open() as reader:
        run_record.save(file, {"new": 1})
        assert reader.read() == "old"
    assert json.loads(file.read_text()) == {"new": 1}
    assert list(tmp_path.iterdir()) == [file]
    files.replace_file(Path("/dev/null"), "x")
    assert not Path("/dev/null").is_file()


def test_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "r.json"
    file.write_text("old")

    def full(*_unused: object) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.replace_file(file, "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_current_record_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(run_record.CURRENT, raising=False)
    assert run_record.current() is None
    run_record.save(tmp_path / "r.json", make("a", "one", "ok", 0).document(None))
    monkeypatch.setenv(run_record.CURRENT, str(tmp_path / "r.json"))
    found = run_record.current()
    assert found is not None
    assert found["id"] == "a"


def test_long_messages_are_cut() -> None:
    record = make("a", "one", "ok", 0)
    record.add_failure("one", "host", "task", "x" * 10_000)
    assert len(record.failures[0]["message"]) < 5_000
