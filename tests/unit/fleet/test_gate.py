"""The gate: what holds, for how long, and what was so before."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import gate
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.gate import Baseline, Look
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.checks.nodes import nodes_ready
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.doctor import Diagnosis, Patient, examine
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.link import Finding
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import SERVICES, PrometheusError

from tests.unit.health.recording import NODES, Stub, conditions


class Time:
    """A clock that pauses move, and looks that come out as told: good (True) or bad, the last one for ever."""

    def __init__(self, *looks: bool, takes: float = 0.0) -> None:
        self.now = 100.0
        self.looks = list(looks)
        self.takes = takes
        self.patience: list[float] = []
        self.said: list[str] = []

    def look(self, patience: float) -> Sequence[Look]:
        self.patience.append(patience)
        self.now += self.takes
        ok = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return [Look("nodes", True, "3 ready"), Look("apps", ok, "shop is ill" if not ok else "1 app")]

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def wait(self, timeout: float, soak: float) -> tuple[bool, float]:
        passed, looks = gate.wait_until_all_hold(
            self.look, timeout, soak, self.said.append, lambda: self.now, self.pause
        )
        assert all(each.ok for each in looks) == passed
        return passed, self.now - 100


@pytest.mark.parametrize(
    ("looks", "timeout", "soak", "passed", "seconds"),
    [
        ([True], 120, 0, True, 0),  # at the first look
        ([True], 120, 60, True, 60),
        ([False, False, True], 120, 60, True, 66),
        ([False], 10, 0, False, 10),
        ([False], 0, 0, False, 0),
        ([False, False, False, True], 9, 30, True, 39),  # it held from within the time on
        ([True, False, True], 120, 6, True, 12),  # what does not hold in between begins anew
        ([True, True, True, True, False], 9, 60, False, 12),  # and is too late then
    ],
)
def test_all_must_hold_on_end_from_within_the_time(
    looks: list[bool], timeout: float, soak: float, passed: bool, seconds: float
) -> None:
    assert Time(*looks).wait(timeout, soak) == (passed, seconds)


def test_a_look_may_wait_for_what_is_coming_but_not_over_a_lapse() -> None:
    time = Time(False, True, takes=2.0)
    assert time.wait(60, 6)[0]
    assert time.patience == [60, 55, 1, 1]


def test_what_is_waited_for_is_said_now_and_then() -> None:
    time = Time(False)
    time.wait(25, 0)
    assert time.said == ["waiting since 12 s for apps: shop is ill", "waiting since 24 s for apps: shop is ill"]


class Cluster:
    """Alerts as Prometheus gives them."""

    def __init__(self, *alerts: Mapping[str, str]) -> None:
        self.answer: dict[str, Any] = {
            "status": "success",
            "data": {"result": [{"metric": {"alertstate": "firing", **alert}} for alert in alerts]},
        }

    def raw(self, path: str) -> Any:
        assert quote('ALERTS{alertstate="firing"}', safe="") in path
        return self.answer


@pytest.mark.parametrize("ready", [True, False])
def test_every_node_must_be_ready(ready: bool) -> None:
    stub = Stub()
    stub.answers[NODES]["items"][0]["status"] = conditions(Ready=str(ready))
    found = gate.look_at_nodes(examine(stub, [], stub.settings, [nodes_ready]))
    evidence = "1 nodes Ready" if ready else "w1 is not Ready (Because: it is so)"
    assert found == Look("nodes", ready, evidence)


def patient(name: str, *findings: Finding) -> Patient:
    return Patient(name, "shop", (Finding("workload", "ok", "runs"), *findings))


WELL = patient("well", Finding("series", "skipped", ""))
ILL = patient("ill", Finding("target", "unknown", "too early"), Finding("series", "broken", "none", "series_absent"))
UNTOLD = patient("untold", Finding("values", "unknown", "its pods are ready for less than 30 s"))
FULL = patient("full", Finding("limits", "broken", "20 of at most 20", "max_reached"))


@pytest.mark.parametrize(
    ("apps", "ok", "words"),
    [
        ((), True, "0 with"),
        ((WELL, FULL), True, "2 with metrics and autoscaler"),
        ((WELL, ILL), False, "ill, series: series_absent: "),
        ((UNTOLD,), False, "untold, values: cause unknown (its pods are ready for less than 30 s)"),
    ],
)
def test_an_app_is_well_when_it_has_its_metric_and_can_scale(apps: tuple[Patient, ...], ok: bool, words: str) -> None:
    found = gate.look_at_apps(Diagnosis(apps, patient(""), 0.1))
    assert found.ok == ok
    assert words in found.evidence


OLD = {"alertname": "PodDown", "severity": "warning", "namespace": "shop", "pod": "shop-1"}
WATCHDOG = {"alertname": "Watchdog", "severity": "none"}
NOTE = {"alertname": "Upgrade", "severity": "info"}


def fire(*alerts: Mapping[str, str]) -> frozenset[str]:
    return gate.firing_alerts(Cluster(*alerts), SERVICES["operator"])


def test_only_alerts_that_did_not_fire_before_count() -> None:
    before = fire(OLD, WATCHDOG, NOTE)
    assert len(before) == 1
    assert gate.look_at_alerts(fire(WATCHDOG, NOTE), before) == Look("alerts", True, "none fires")
    replaced = fire(OLD | {"pod": "shop-2", "instance": "10.0.0.2:80"})
    assert gate.look_at_alerts(replaced, before) == Look("alerts", True, "1 fire, none of them new")
    for new in ({**OLD, "namespace": "bank"}, {**OLD, "alertname": "Other"}, {**OLD, "severity": "critical"}):
        found = gate.look_at_alerts(fire(OLD, new), before)
        assert not found.ok
        assert f"new: {new['alertname']}" in found.evidence
    unknown = gate.look_at_alerts(fire(OLD), None)
    assert not unknown.ok
    assert "the alerts before the run are unknown" in unknown.evidence


def test_a_prometheus_that_cannot_tell_is_no_silence() -> None:
    cluster = Cluster()
    cluster.answer = {"status": "error", "error": "shutting down"}
    with pytest.raises(PrometheusError, match="shutting down"):
        gate.firing_alerts(cluster, SERVICES["operator"])


def test_what_was_before_is_kept_for_its_own_cluster_only(tmp_path: Path) -> None:
    file = tmp_path / "berlin/gate.json"
    assert gate.read_baseline(file, "uid") is None
    baseline = Baseline("uid", "run", fire(OLD))
    gate.write_baseline(file, baseline)
    assert gate.read_baseline(file, "uid") == baseline
    assert gate.read_baseline(file, "other") is None
    file.write_text("{")
    assert gate.read_baseline(file, "uid") is None


def test_only_a_run_that_is_known_to_have_changed_nothing_need_not_hold() -> None:
    phases = [{"cluster": "a", "changed": 0}, {"cluster": "b", "changed": 1}]
    record: dict[str, Any] = {"id": "run", "started": 5.0, "phases": phases}
    baseline = Baseline("uid", gate.run_of(record), frozenset())
    changed = copy.deepcopy(record)
    changed["phases"][0]["changed"] = 1
    assert gate.is_unchanged(record, "a", baseline)
    assert not gate.is_unchanged(record, "b", baseline)
    assert not gate.is_unchanged(changed, "a", baseline)
    assert not gate.is_unchanged(None, "a", baseline)
    assert not gate.is_unchanged(record, "a", None)
    assert not gate.is_unchanged(record | {"id": "later"}, "a", baseline)
    # A second try, whose first one may have changed something.
    assert not gate.is_unchanged(record | {"started": 6.0}, "a", baseline)
