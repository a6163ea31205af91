"""playbooks/doctor.yml as a person runs it, and as a program does: against a server that answers from a recording."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.health import recording as recorded
from tests.unit.health.served import Run
from tests.unit.health.served import served as serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[recorded.Stub, Run]]:
    """A recording, to be changed, and a function that runs the playbook against it."""
    with serve(tmp_path, "doctor") as (stub, run, _state):
        yield stub, run


def test_a_healthy_cluster_is_a_table_and_success(served: tuple[recorded.Stub, Run]) -> None:
    done = served[1]()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "berlin: 1 of 1 apps healthy" in done.stdout
    assert "shop  ✓" in done.stdout
    assert "changed=0" in done.stdout
    assert "port web" not in done.stdout


def test_one_app_is_shown_with_what_was_seen(served: tuple[recorded.Stub, Run]) -> None:
    done = served[1]("-e", "app=shop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ pods        port web" in done.stdout


def test_what_is_broken_fails_the_run_with_the_whole_text(served: tuple[recorded.Stub, Run]) -> None:
    stub, run = served
    recorded.scrape_fails("server returned HTTP status 404 Not Found")(stub)
    done = run()
    assert done.returncode == 2
    said = done.stdout + done.stderr
    for line in (
        "✗ shop: broken at target, target_not_found",
        "seen:  http://10.244.1.7:8000/metrics: server returned HTTP status 404 Not Found",
        "do:    correct `scrape.path` of entry shop in autoscaled_apps",
    ):
        assert line in said
    assert "Traceback" not in said


def test_programs_get_one_line_of_json_or_a_file(served: tuple[recorded.Stub, Run], tmp_path: Path) -> None:
    stub, run = served
    file = tmp_path / "doctor.json"
    done = run("-e", "output=json", "-e", f"output_file={file}")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    document = json.loads(line)
    assert (document["cluster"], document["healthy"]) == ("berlin", True)
    assert json.loads(file.read_text()) == document
    recorded.scrape_fails("connection refused")(stub)
    done = run("-e", "output=json")
    assert done.returncode == 2
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(line)["apps"][0]["diagnosis"]["cause"] == "target_refused"
    assert "berlin: shop (target_refused)" in done.stdout + done.stderr


def test_an_app_without_entry_and_an_entry_that_is_wrong_are_told(served: tuple[recorded.Stub, Run]) -> None:
    done = served[1]("-e", "app=shp")
    assert done.returncode == 2
    assert (
        "app = 'shp' has no entry in autoscaled_apps; there are shop; did you mean shop?" in done.stdout + done.stderr
    )
    wrong = json.dumps({"autoscaled_apps": [{**recorded.ENTRY, "workload": "shop"}]})
    done = served[1]("-e", wrong)
    assert done.returncode == 2
    assert "autoscaled_apps[0].workload = 'shop'" in done.stdout + done.stderr


def test_a_cluster_out_of_reach_is_told(served: tuple[recorded.Stub, Run], tmp_path: Path) -> None:
    file = tmp_path / "state/berlin/kubeconfig"
    file.write_text(re.sub(r"127.0.0.1:\d+", "127.0.0.1:9", file.read_text()))
    done = served[1]()
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "http://127.0.0.1:9 cannot be reached: Connection refused" in done.stdout + done.stderr
