"""The verify role as a person runs it: ansible-playbook against a server that answers from the recording."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.health import recording as recorded
from tests.unit.health.served import Run
from tests.unit.health.served import served as serve

Served = tuple[recorded.Stub, Run, Path]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A recording, to be changed, a function that runs the playbook, and the state folder."""
    with serve(tmp_path, "verify") as all_of_it:
        yield all_of_it


def checks_of(state: Path) -> list[dict[str, Any]]:
    """The checks in the report."""
    checks: list[dict[str, Any]] = json.loads((state / "report.json").read_text())["verify"]["checks"]
    return checks


def test_converged_cluster_is_verified_without_a_change(served: Served) -> None:
    _stub, run, state = served
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    report = json.loads((state / "report.json").read_text())
    assert len(report["verify"]["checks"]) > 10
    assert all(check["ok"] for check in report["verify"]["checks"])
    assert report["verify"]["seconds"] < 1.5
    assert [node["roles"] for node in report["nodes"]] == [["worker"]]
    assert "Healthy" in (state / "report.html").read_text()


def test_failing_run_lists_every_failed_check_with_reason_and_next_step(served: Served) -> None:
    stub, run, state = served
    recorded.cannot_scale("ScalingActive")(stub)
    stub.answers[recorded.VALUES] = {"items": []}
    stub.answers[recorded.GRAFANA] = {"database": "failing"}
    done = run("-e", "verify_timeout=1")
    assert done.returncode == 2
    said = done.stdout + done.stderr
    failed = {check["id"]: check for check in checks_of(state) if not check["ok"]}
    assert set(failed) == {"grafana", "app_shop"}
    assert f"2 of {len(checks_of(state))} checks of berlin do not hold" in said
    assert failed["app_shop"]["evidence"].startswith("values: /apis/custom.metrics.k8s.io/")
    assert "(then hpa (autoscaler_blind))" in failed["app_shop"]["evidence"]
    assert failed["app_shop"]["reason"].startswith("value_missing: ")
    assert failed["grafana"]["next"].startswith(f"kubectl --kubeconfig {state}/kubeconfig --namespace monitoring logs")
    for check in failed.values():
        for words in (f"seen: {check['evidence']}", f"why it matters: {check['reason']}", f"next: {check['next']}"):
            assert words in said
    assert "Not healthy" in (state / "report.html").read_text()


def test_check_mode_looks_once_warns_and_writes_nothing(served: Served) -> None:
    stub, run, state = served
    stub.answers[recorded.VALUES] = {"items": []}
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 12 checks of berlin do not hold" in done.stdout + done.stderr
    assert not (state / "report.json").exists()


def test_absent_component_is_not_checked(served: Served) -> None:
    stub, run, state = served
    del stub.answers[recorded.GRAFANA]
    assert run("-e", "grafana_state=absent").returncode == 0
    assert "grafana" not in {check["id"] for check in checks_of(state)}


def test_apps_are_not_checked_where_nothing_scales_them(served: Served) -> None:
    stub, run, state = served
    del stub.answers[recorded.HPA]
    assert run("-e", "hpa_state=absent").returncode == 0
    assert "app_shop" not in {check["id"] for check in checks_of(state)}


def test_certificates_must_be_valid_for_the_days_of_the_variable(served: Served) -> None:
    _stub, run, state = served
    assert run("-e", "verify_certificate_days=500", "-e", "verify_timeout=0").returncode == 2
    assert [check["id"] for check in checks_of(state) if not check["ok"]] == ["certificates"]
