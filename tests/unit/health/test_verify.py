"""Verify: it waits for the links of the cluster and the chain of every app, and reports each as one check."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import verify
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.chain import ALL, GENERAL
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.checks.adapter import series_query
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.facts import Facts
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.link import Finding
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.settings import Case
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError

from tests.unit.health.recording import (
    ALERTMANAGER,
    ALL_PODS,
    AUTOSCALERS,
    CPU,
    CSRS,
    CUSTOM_API,
    DASHBOARDS,
    DEPLOYMENT,
    DEPLOYMENTS,
    ENTRY,
    HPA,
    JUST_NOW,
    LONG_AGO,
    METRIC,
    NODES,
    POD,
    PODS,
    QUEUE,
    SERIES,
    VALUES,
    Stub,
    cannot_scale,
    conditions,
    gone,
    no_series,
    request,
    scrape_fails,
    set_at,
)


def run(
    stub: Stub, timeout: float = 0, progress: Callable[[str], None] = print, only: str = ""
) -> dict[str, verify.Result]:
    """The results by id."""
    results = verify.verify(stub, [stub.app], stub.settings, timeout, progress)
    return {result.id: result for result in results if not only or result.id == only}


def failed(stub: Stub) -> dict[str, str]:
    """Evidence of the checks that do not hold."""
    return {name: result.evidence for name, result in run(stub).items() if not result.ok}


def look(stub: Stub, name: str) -> Finding:
    """The finding of one link."""
    subject = stub.settings if name in GENERAL else Case.of(stub.app, stub.settings)
    return ALL[name].look(Facts(stub), subject)


def test_a_healthy_cluster_passes_every_check_and_no_path_is_read_twice() -> None:
    stub, asked = Stub(), []
    answer = stub.raw
    stub.raw = lambda path: (asked.append(path), answer(path))[1]  # type: ignore[method-assign]
    results = run(stub)
    assert {name: result.evidence for name, result in results.items() if not result.ok} == {}
    assert list(results) == [*(name for name, link in GENERAL.items() if not link.advisory), "app_shop"]
    assert len(asked) == len(set(asked))
    assert results["app_shop"].evidence == f"1 of 1 pods ready; {METRIC} {POD} 3; 1 replicas, 1 desired"


#: The checks that verify had when it and the doctor were two: what breaks the chain at each, and where it is found now.
PROBES: dict[str, tuple[Callable[[Stub], Any], str]] = {
    "nodes_ready": (set_at(NODES, "items", 0, "status")(conditions(Ready="False")), "nodes_ready"),
    "kubelet_certificates": (set_at(CSRS, "items")([request()]), "certificates"),
    "workloads_available": (set_at(DEPLOYMENTS, "items", 0, "status", "availableReplicas")(0), "workloads_available"),
    "apiservices_available": (
        lambda stub: stub.edit("/apis/apiregistration.k8s.io/v1/apiservices")["items"].append(
            {"metadata": {"name": "v1.apps"}, "spec": {}, "status": {}}
        ),
        "apiservices_available",
    ),
    "resource_metrics_verified": (
        lambda stub: stub.edit("/apis/apiregistration.k8s.io/v1/apiservices")["items"][0]["spec"].pop("caBundle"),
        "owners",
    ),
    "resource_metrics": (gone("/apis/metrics.k8s.io/v1beta1/nodes"), "resource_metrics"),
    "prometheus_ready": (lambda stub: setattr(stub, "prometheus_error", ApiError("x", 503)), "prometheus_ready"),
    "prometheus_targets": (lambda stub: stub.active[-1].update(health="down"), "prometheus_targets"),
    "prometheus_targets of an app": (scrape_fails("connection refused"), "app_shop"),
    "alertmanager": (lambda stub: stub.alertmanagers.clear(), "alertmanager"),
    "adapter_certificate": (
        set_at("/api/v1/namespaces/custom-metrics/secrets/cm-adapter-serving-certs", "data")({}),
        "owners",
    ),
    "custom_metrics_verified": (
        lambda stub: stub.edit("/apis/apiregistration.k8s.io/v1/apiservices")["items"].pop(2),
        "owners",
    ),
    "autoscaler_exists": (gone(HPA), "app_shop"),
    "series_present": (no_series("up"), "app_shop"),
    "metric_discovered": (set_at(f"/apis/{CUSTOM_API}/v1beta1", "resources")([]), "app_shop"),
    "metric_values": (set_at(VALUES, "items")([]), "app_shop"),
    "autoscaler_active": (cannot_scale("ScalingActive"), "app_shop"),
    "autoscaler_active, not judged": (lambda stub: stub.edit(HPA)["status"].pop("conditions"), "app_shop"),
    "grafana": (lambda stub: stub.answers[DASHBOARDS].clear(), "grafana"),
}


@pytest.mark.parametrize("name", PROBES)
def test_nothing_is_lost_of_the_checks_that_verify_had(name: str) -> None:
    change, check = PROBES[name]
    stub = Stub()
    change(stub)
    result = run(stub, only=check)[check]
    assert not result.ok
    assert result.evidence and result.reason and result.next


def test_a_failed_check_has_the_doctors_cause_and_advice() -> None:
    stub = Stub()
    scrape_fails("connection refused")(stub)
    result, finding = run(stub)["app_shop"], stub.examine().apps[0].diagnosis
    assert finding
    assert result.evidence == f"target: {finding.evidence}"
    assert (result.reason, result.next) == (f"target_refused: {finding.meaning}", finding.advice)


def test_what_only_the_owner_decides_fails_nothing() -> None:
    stub = Stub(ENTRY | {"replicas": {"min": 3, "max": 3}})
    assert stub.examine().apps[0].state == "broken"
    assert failed(stub) == {}


def test_a_request_that_others_lack_is_for_the_doctor_alone() -> None:
    stub = Stub()
    other = copy.deepcopy(stub.answers[HPA])
    other["metadata"] = {"namespace": "shop", "name": "other"}
    target = {"type": "Utilization", "averageUtilization": 60}
    other["spec"] |= {
        "scaleTargetRef": {"kind": "Deployment", "name": "other"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    stub.edit(AUTOSCALERS)["items"].append(other)
    stub.answers[DEPLOYMENT.replace("shop/deployments/shop", "shop/deployments/other")] = {
        "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}
    }
    assert stub.examine().cluster.diagnosis.cause == "target_without_request"
    assert failed(stub) == {}


EXPRESSIONS = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop", "other"]}]}


def test_values_are_asked_for_with_all_of_a_workloads_selector() -> None:
    stub = Stub()
    stub.edit(DEPLOYMENT)["spec"]["selector"] = EXPRESSIONS
    stub.answers[VALUES.replace("app=shop", "app in (shop,other)")] = stub.answers.pop(VALUES)
    assert run(stub)["app_shop"].ok


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": {}}])
def test_without_a_selector_the_pods_of_the_whole_namespace_are_never_asked_for(selector: Any) -> None:
    stub = Stub()
    stub.edit(DEPLOYMENT)["spec"]["selector"] = selector
    stub.answers[VALUES.replace("app=shop", "")] = stub.answers.pop(VALUES)
    finding = look(stub, "values")
    assert finding.state == "unknown" and "chooses no pods in particular" in finding.evidence


def test_only_the_newest_request_of_a_kubelet_counts() -> None:
    stub = Stub()
    old, new = request("csr-1"), request("csr-2", JUST_NOW, certificate="LS0=")
    stub.answers[CSRS]["items"] = [new, old]
    assert look(stub, "certificates").state == "ok"
    new["metadata"]["creationTimestamp"], old["metadata"]["creationTimestamp"] = LONG_AGO, JUST_NOW
    assert look(stub, "certificates").cause == "kubelet_certificate_waiting"


def test_a_pod_that_crashes_is_quoted_for_its_workload() -> None:
    stub = Stub()
    set_at(DEPLOYMENTS, "items", 0, "status", "availableReplicas")(0)(stub)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    state = {
        "name": "app",
        "state": {"waiting": waiting},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    stub.answers[ALL_PODS]["items"][0]["status"] = conditions(Ready="False") | {"containerStatuses": [state]}
    evidence = look(stub, "workloads_available").evidence
    assert "pod grafana-1: app CrashLoopBackOff: back-off 10s, last exit 1 Error" in evidence


def test_dashboards_behind_a_login_are_counted_by_what_is_mounted() -> None:
    stub = Stub()
    stub.answers[DASHBOARDS] = ApiError("no", 401)
    sources = [
        {"configMap": {"name": "grafana-dashboard-demo-app"}},
        {"configMap": {"name": "grafana-dashboard-cluster"}},
    ]
    volumes = [{"name": "data"}, {"name": "dashboards", "projected": {"sources": sources}}]
    deployment = {"spec": {"template": {"spec": {"volumes": volumes}}}}
    stub.answers["/apis/apps/v1/namespaces/monitoring/deployments/grafana"] = deployment
    assert look(stub, "grafana").evidence == "version 13.1.3, 2 dashboards"


def test_apps_on_resources_alone_have_no_metric_to_look_for() -> None:
    stub = Stub(CPU)
    del stub.answers[f"/apis/{CUSTOM_API}/v1beta2"]
    assert failed(stub) == {}


def without_its_workload() -> Stub:
    """An app that is deployed later."""
    stub = Stub()
    message = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "shop" not found'
    stub.edit(HPA)["status"] = conditions(AbleToScale=("False", "FailedGetScale", message))
    gone(DEPLOYMENT, "/api/v1/namespaces/shop")(stub)
    stub.active.pop(0)
    return stub


def test_apps_that_come_later_break_nothing() -> None:
    stub = without_its_workload()
    assert failed(stub) == {}
    assert run(stub)["app_shop"].evidence == "its workload does not exist yet"


def test_apps_that_come_later_have_their_autoscaler() -> None:
    stub = without_its_workload()
    del stub.answers[HPA]
    assert failed(stub) == {"app_shop": "hpa: there is no HorizontalPodAutoscaler in shop"}


def test_apps_scaled_to_nothing_break_nothing() -> None:
    scale_on = [ENTRY["scale_on"], QUEUE["scale_on"]]
    stub = Stub(ENTRY | {"replicas": {"min": 0, "max": 20}, "scale_on": scale_on})
    stub.edit(HPA)["status"]["currentReplicas"] = 0
    stub.edit(DEPLOYMENT)["spec"]["replicas"] = 0
    stub.active.pop(0)
    stub.answers[PODS]["items"].clear()
    stub.answers[VALUES]["items"].clear()
    assert failed(stub) == {}


def test_checks_of_absent_components_are_left_out() -> None:
    stub = Stub()
    stub.absent = frozenset({"prometheus", "grafana"})
    stub.prometheus_error = ApiError("there is no Prometheus", 404)
    results = run(stub)
    assert not {*results} & {"prometheus_ready", "prometheus_targets", "alertmanager", "grafana"}
    assert "nodes_ready" in results
    assert failed(stub) == {}


def test_an_answer_of_an_unexpected_shape_is_evidence_not_an_accident() -> None:
    stub = Stub()
    stub.answers[ALERTMANAGER] = {"cluster": {}}
    result = run(stub)["alertmanager"]
    assert not result.ok
    assert "not what was expected" in result.evidence
    assert result.reason and result.next


def test_waiting_ends_when_a_watched_list_changes() -> None:
    stub = Stub()
    stub.answers[NODES]["items"][0]["status"] = conditions(Ready="False")

    def heal() -> None:
        # On a busy machine the first look may take longer than any fixed time.
        while not stub.watched:
            time.sleep(0.01)
        stub.answers[NODES]["items"][0]["status"] = conditions(Ready="True")
        stub.changed.set()

    threading.Thread(target=heal, daemon=True).start()
    result = run(stub, timeout=30)["nodes_ready"]
    assert result.ok
    # Without the event the next look would come after PROGRESS_SECONDS.
    assert result.seconds < verify.PROGRESS_SECONDS
    assert ("v1", "Node", "7") in stub.watched


def test_what_cannot_be_watched_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "POLL_SECONDS", 0.05)
    stub, asked = Stub(), []
    answer = stub._prometheus
    stub._prometheus = lambda *question: (asked.append(question[0]), answer(*question))[1]  # type: ignore[method-assign]
    stub.active[-1]["health"] = "down"

    def heal() -> None:
        while asked.count("targets") < 3:
            time.sleep(0.01)
        stub.active[-1]["health"] = "up"

    threading.Thread(target=heal, daemon=True).start()
    assert run(stub, timeout=30)["prometheus_targets"].ok
    assert asked.count("targets") > 2
    # Checks that hold are not looked at again.
    assert asked.count("alertmanagers") == 1


def test_a_new_app_is_waited_for_until_it_had_time_to_be_scraped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "await_change", lambda *_arguments: None)
    stub, now = Stub(), iter(range(0, 1000, 5))
    stub.edit(PODS)["items"][0]["status"] = {
        "phase": "Running",
        **conditions(JUST_NOW, PodScheduled="True", Ready="True"),
    }
    stub.active.pop(0)
    said: list[str] = []
    results = verify.verify(stub, [stub.app], stub.settings, 60, said.append, lambda: float(next(now)))
    # First it may be too early for a target, then it is not.
    assert "app_shop (target: no target yet" in said[0]
    assert results[-1].reason.startswith("target_missing: ")


def test_progress_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "await_change", lambda *_arguments: None)
    stub, said, now = Stub(), [], iter(range(0, 1000, 2))
    scrape_fails("connection refused")(stub)
    results = verify.verify(stub, [stub.app], stub.settings, 60, said.append, lambda: float(next(now)))
    assert not results[-1].ok
    assert 1 < len(said) < 6
    assert "waiting for app_shop (target: http://10.244.1.7:8000/metrics: connection refused" in said[0]


QUERY = f'{SERIES}{{namespace!="",pod!=""}}'


@pytest.mark.parametrize(
    ("rule", "metric"),
    [
        ({"seriesQuery": QUERY, "name": {"matches": "^(.*)_total$", "as": "${1}_per_second"}}, METRIC),
        ({"seriesQuery": QUERY, "name": {"matches": "^(.*)_total$"}}, "http_requests"),
        ({"seriesQuery": QUERY}, SERIES),
        ({"seriesQuery": QUERY, "name": {"as": "clicks"}}, "clicks"),
    ],
)
def test_rule_that_makes_a_metric_is_found_as_the_adapter_names_it(rule: dict[str, Any], metric: str) -> None:
    assert series_query([{"seriesQuery": '{__name__=~"x"}'}, rule], metric) == QUERY
    assert series_query([rule], "another") == ""
