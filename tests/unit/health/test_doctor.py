"""The doctor: each cause is found at its link, in answers as a cluster gives them."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import doctor_table
import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.scraping import standalone_scrape_config
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import doctor
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.chain import ALL, CAUSES, GENERAL, LINKS
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.facts import Facts
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.link import Finding, broken, link
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.settings import CUSTOM_API, RESOURCE_API
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError

from tests.unit.health.recording import (
    ADAPTER_PODS,
    ALERTMANAGER,
    ALL_PODS,
    APISERVICES,
    CONFIG,
    CPU,
    CSRS,
    DASHBOARDS,
    DEPLOYMENT,
    DEPLOYMENTS,
    ENTRY,
    GRAFANA,
    HPA,
    HPAS,
    INGRESS,
    JOBS,
    JUST_NOW,
    LEASES,
    LONG_AGO,
    METRIC,
    MONITOR,
    MONITORING,
    NODE_USAGE,
    NODES,
    NOW,
    OTHER_AUTHORITY,
    POD,
    POD_USAGE,
    PODS,
    POLICIES,
    POOL,
    QUEUE,
    SERIES,
    SERVED,
    SERVERS,
    SERVING,
    SLICES,
    USAGE,
    VALUES,
    Change,
    Stub,
    another_pod,
    at,
    cannot_scale,
    conditions,
    day,
    encoded,
    entry,
    gone,
    limited,
    make_certificate,
    no_series,
    not_ready,
    pem,
    pod,
    refused,
    registration,
    request,
    rival,
    scrape_fails,
    secret,
    seen,
    set_at,
    statefulset,
    status_of_pod,
    unowned,
    unregistered,
)

REPOSITORY = Path(__file__).resolve().parents[3]
NO_CPU = set_at(DEPLOYMENT, "spec", "template", "spec", "containers", 0, "resources")({})
#: Cause, link, entry, what is done to a healthy cluster, words of the evidence.
CASES: list[tuple[str, str, dict[str, Any], Change, str]] = [
    ("namespace_missing", "workload", ENTRY, gone(DEPLOYMENT, "/api/v1/namespaces/shop"), "no namespace shop"),
    ("workload_missing", "workload", ENTRY, gone(DEPLOYMENT), "no Deployment shop in namespace shop; there is shopp"),
    ("workload_at_zero", "workload", ENTRY, set_at(DEPLOYMENT, "spec", "replicas")(0), "is 0"),
    (
        "image_not_pulled",
        "workload",
        ENTRY,
        status_of_pod(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
        f"pod {POD}: web ImagePullBackOff: Back-off pulling image",
    ),
    (
        "container_not_created",
        "workload",
        ENTRY,
        another_pod(waiting={"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}),
        'secret "x" not found',
    ),
    ("crash_loop", "workload", ENTRY, status_of_pod(waiting={"reason": "CrashLoopBackOff"}), "CrashLoopBackOff"),
    (
        "crash_loop",
        "workload",
        ENTRY,
        lambda stub: stub.edit(PODS)["items"][0].update(
            status={
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "web",
                        "restartCount": 2,
                        "state": {"terminated": {"exitCode": 1, "reason": "Error"}},
                        "lastState": {"terminated": {"exitCode": 1}},
                    }
                ],
                **conditions(Ready="False"),
            }
        ),
        f"pod {POD}: web ended, exit code 1: Error, 2 restarts",
    ),
    ("pods_refused", "workload", ENTRY, refused("violates PodSecurity", ready=True), "violates PodSecurity"),
    ("quota_exceeded", "workload", ENTRY, refused("exceeded quota: few"), "exceeded quota: few"),
    (
        "unschedulable",
        "workload",
        ENTRY,
        status_of_pod(PodScheduled=("False", "Unschedulable", "0/2 nodes are available: 2 Insufficient cpu.")),
        "2 Insufficient cpu",
    ),
    ("pods_not_ready", "workload", ENTRY, another_pod(), "ContainersNotReady"),
    ("pods_not_ready", "workload", ENTRY, set_at(PODS, "items")([]), "no pods yet"),
    (
        "port_name_unknown",
        "pods",
        ENTRY,
        entry(scrape={"port": "wbe"}),
        "no container has a port named wbe; there are web (8000) of web",
    ),
    (
        "container_unknown",
        "pods",
        CPU,
        entry(scale_on={"resource": "cpu", "container": "wbe", "target": "60%"}),
        "no container wbe; there are web",
    ),
    ("request_missing", "pods", CPU, NO_CPU, "web requests no cpu"),
    ("service_missing", "endpoints", SERVED, gone("/api/v1/namespaces/shop/services/shop"), "no Service shop"),
    (
        "service_port_unknown",
        "endpoints",
        SERVED,
        set_at("/api/v1/namespaces/shop/services/shop", "spec", "ports")([{"name": "http", "port": 80}]),
        "Service shop has no port web; it has http (80)",
    ),
    ("service_without_endpoints", "endpoints", SERVED, set_at(SLICES, "items")([]), "none of the 1 ready pods"),
    (
        "service_lacks_pods",
        "endpoints",
        SERVED,
        lambda stub: stub.edit(PODS)["items"].append(pod("shop-5d8f7c9b6-other")),
        "does not lead to shop-5d8f7c9b6-other",
    ),
    (
        "no_prometheus",
        "scrape",
        ENTRY,
        lambda stub: setattr(stub, "prometheus_error", ApiError("no endpoints available for service", 503)),
        "no endpoints available",
    ),
    ("no_prometheus", "scrape", ENTRY, set_at(SERVERS, "items")([]), "no Prometheus object"),
    ("monitor_kind_missing", "scrape", ENTRY, gone(MONITORING, MONITOR), "does not know kind PodMonitor"),
    ("monitor_missing", "scrape", ENTRY, gone(MONITOR), "no PodMonitor shop/shop"),
    (
        "namespace_not_watched",
        "scrape",
        ENTRY,
        set_at(SERVERS, "items", 0, "spec", "podMonitorNamespaceSelector")({"matchLabels": {"watched": "yes"}}),
        "Prometheus monitoring/k8s watches namespaces with watched=yes only",
    ),
    (
        "namespace_not_watched",
        "scrape",
        ENTRY,
        set_at(SERVERS, "items", 0, "spec", "podMonitorNamespaceSelector")(None),
        "its own namespace only",
    ),
    (
        "monitor_not_selected",
        "scrape",
        ENTRY,
        set_at(SERVERS, "items", 0, "spec", "podMonitorSelector")({"matchLabels": {"release": "kps"}}),
        "release=kps",
    ),
    ("monitor_not_loaded", "scrape", ENTRY, lambda stub: stub.pools.clear(), f"0 jobs without {POOL}"),
    (
        "monitor_edited",
        "target",
        ENTRY,
        lambda stub: (
            stub.active.clear(),
            stub.edit(MONITOR)["spec"]["podMetricsEndpoints"][0].update(port="wbe"),
        ),
        "spec.podMetricsEndpoints[0].port is wbe, not web",
    ),
    (
        "targets_dropped",
        "target",
        ENTRY,
        lambda stub: (
            stub.active.clear(),
            stub.dropped.append(
                {
                    "discoveredLabels": {
                        "__meta_kubernetes_namespace": "shop",
                        "__meta_kubernetes_pod_name": POD,
                    }
                }
            ),
        ),
        "which ReplicaSet shop-5d8f7c9b6 controls",
    ),
    ("target_missing", "target", ENTRY, lambda stub: stub.active.clear(), "has none of them"),
    *[
        (cause, "target", ENTRY, scrape_fails(error), error)
        for cause, error in {
            "target_refused": "dial tcp 10.244.1.7:8000: connect: connection refused",
            "target_timed_out": "context deadline exceeded",
            "target_unreachable": "dial tcp 10.244.1.7:8000: connect: no route to host",
            "target_not_found": "server returned HTTP status 404 Not Found",
            "target_forbidden": "server returned HTTP status 401 Unauthorized",
            "target_http_error": "server returned HTTP status 500 Internal Server Error",
            "target_not_metrics": 'received unsupported Content-Type "text/html" and no fallback_scrape_protocol',
            "target_tls": "http: server gave HTTP response to HTTPS client",
            "target_down": "something new",
        }.items()
    ],
    (
        "scraped_twice",
        "target",
        ENTRY,
        lambda stub: stub.active.append({**stub.active[0], "scrapePool": "serviceMonitor/shop/by-hand/0"}),
        "scraped by podMonitor/shop/shop/0 and by serviceMonitor/shop/by-hand/0",
    ),
    ("series_renamed", "series", ENTRY, no_series("http_request_total", "up"), "the pod has http_request_total"),
    ("series_absent", "series", ENTRY, no_series("up", "process_cpu_seconds_total"), "the pod has 2 others"),
    (
        "series_incomplete",
        "series",
        ENTRY,
        lambda stub: (
            stub.edit(PODS)["items"].append(pod("shop-5d8f7c9b6-other")),
            stub.active.append({**stub.active[0], "labels": {"pod": "shop-5d8f7c9b6-other"}, "scrapeUrl": "b"}),
        ),
        "missing for pod shop-5d8f7c9b6-other, 1 have it",
    ),
    ("series_stale", "series", ENTRY, no_series(**{f"before__{SERIES}": [{"pod": POD}]}), "within the last 15 minutes"),
    (
        "series_unlabelled",
        "series",
        ENTRY,
        no_series(**{f"unlabelled__{SERIES}": [{"instance": "10.244.1.7:8000"}]}),
        "without label pod or namespace",
    ),
    ("series_renamed", "series", QUEUE, no_series("queue_lengths"), "there is queue_lengths"),
    ("series_absent", "series", QUEUE, no_series("up"), 'queue_length{queue="mail"} has no samples'),
    ("series_unlabelled", "series", QUEUE, no_series("queue_length"), "with other labels"),
    ("series_stale", "series", QUEUE, no_series(before__queue_length=[{"job": "mail"}]), "within the last"),
    ("rule_missing", "discovered", ENTRY, set_at(CONFIG, "data")({"config.yaml": "rules: []"}), f"makes {METRIC}"),
    ("rule_missing", "discovered", ENTRY, gone(CONFIG), "no rule"),
    (
        "adapter_not_restarted",
        "discovered",
        ENTRY,
        set_at(CONFIG, "metadata", "managedFields", 0, "time")(JUST_NOW),
        f"pod prometheus-adapter-1 started at {LONG_AGO}",
    ),
    *[
        (
            "metric_not_listed",
            "discovered",
            ENTRY,
            set_at(f"/apis/{CUSTOM_API}/{version}", "resources")([{"name": "pods/other"}]),
            f"{version} lists 1 metrics without {METRIC}",
        )
        for version in ("v1beta1", "v1beta2")
    ],
    ("api_not_registered", "apiservice", CPU, unregistered(RESOURCE_API), "no APIService of metrics.k8s.io"),
    (
        "api_not_registered",
        "apiservice",
        ENTRY,
        lambda stub: stub.edit(APISERVICES)["items"].pop(2),
        "no APIService v1beta2.custom.metrics.k8s.io",
    ),
    ("api_of_others", "apiservice", ENTRY, unowned, "belongs to Helm release ?/keda"),
    ("api_unverified", "apiservice", ENTRY, registration(1, insecureSkipTLSVerify=True), "insecureSkipTLSVerify"),
    ("api_unverified", "apiservice", ENTRY, registration(1, caBundle=""), "no caBundle"),
    ("server_down", "apiservice", ENTRY, set_at(ADAPTER_PODS, "items")([]), "it has no pods"),
    (
        "server_down",
        "apiservice",
        CPU,
        gone("/api/v1/namespaces/kube-system/services/metrics-server"),
        "Service kube-system/metrics-server, which does not exist",
    ),
    ("certificate_missing", "apiservice", ENTRY, set_at(SERVING, "data")({}), "cm-adapter-serving-certs: no cert"),
    ("certificate_missing", "apiservice", ENTRY, set_at(SERVING, "data", "tls.crt")("bm9uZQ=="), "no certificate"),
    (
        "certificate_expired",
        "apiservice",
        ENTRY,
        lambda stub: stub.answers.update({SERVING: secret(days=-1)}),
        f"to {day(-1):%Y-%m-%d %H:%M} UTC",
    ),
    (
        "ca_bundle_wrong",
        "apiservice",
        ENTRY,
        registration(1, caBundle=encoded(OTHER_AUTHORITY[0])),
        "signed by CN=kubernetes, the APIService's caBundle is another CA (CN=somebody else)",
    ),
    ("ca_bundle_wrong", "apiservice", ENTRY, registration(1, caBundle="bm9uZQ=="), "holds no certificate"),
    (
        "certificate_misnamed",
        "apiservice",
        ENTRY,
        lambda stub: stub.answers.update({SERVING: secret("localhost")}),
        "names localhost, not prometheus-adapter.custom-metrics.svc",
    ),
    (
        "api_unavailable",
        "apiservice",
        ENTRY,
        lambda stub: stub.edit(APISERVICES)["items"][1].update(
            status=conditions(Available=("False", "FailedDiscoveryCheck", "context deadline exceeded"))
        ),
        "FailedDiscoveryCheck: context deadline exceeded",
    ),
    (
        "adapter_asks_elsewhere",
        "apiservice",
        ENTRY,
        lambda stub: stub.edit(ADAPTER_PODS)["items"][0]["spec"]["containers"][0].update(
            args=["--prometheus-url=http://prometheus.prom.svc:9090"]
        ),
        "no Service prom/prometheus",
    ),
    ("value_missing", "values", ENTRY, set_at(VALUES, "items")([]), "empty list"),
    (
        "value_missing",
        "values",
        ENTRY,
        lambda stub: stub.answers.update({VALUES: ApiError("the server could not find the metric", 404)}),
        "could not find the metric",
    ),
    (
        "values_incomplete",
        "values",
        ENTRY,
        set_at(VALUES, "items", 0, "describedObject")({"name": "other"}),
        f"no value for pod {POD}",
    ),
    (
        "values_incomplete",
        "values",
        CPU,
        set_at(USAGE, "items", 0, "containers")([]),
        f"cpu has no value for pod {POD}",
    ),
    ("autoscaler_missing", "hpa", ENTRY, gone(HPA), "no HorizontalPodAutoscaler in shop"),
    ("autoscaler_of_others", "hpa", ENTRY, set_at(HPA, "metadata", "labels")({}), "shop/shop"),
    (
        "autoscaler_edited",
        "hpa",
        ENTRY,
        set_at(HPA, "spec", "metrics", 0, "pods", "metric", "name")("other"),
        f"spec.metrics[0].pods.metric.name is other, not {METRIC}",
    ),
    ("autoscaler_rival", "hpa", ENTRY, rival, "shop and by-hand scale Deployment shop"),
    ("autoscaler_unable", "hpa", ENTRY, cannot_scale("AbleToScale"), "AbleToScale=False: FailedGetPodsMetric"),
    ("autoscaler_blind", "hpa", ENTRY, cannot_scale("ScalingActive"), "ScalingActive=False: FailedGetPodsMetric"),
    ("max_reached", "limits", ENTRY, limited, "20 of at most 20 replicas desired: TooManyReplicas: more wanted"),
    ("size_fixed", "limits", ENTRY | {"replicas": {"min": 3, "max": 3}}, lambda _stub: None, "are 3"),
    (
        "scale_up_disabled",
        "limits",
        ENTRY | {"behavior": {"scaleUp": {"selectPolicy": "Disabled"}}},
        lambda _stub: None,
        "scaleUp.selectPolicy is Disabled",
    ),
    ("quota_reached", "limits", ENTRY, refused("exceeded quota: few", ready=True), "exceeded quota: few"),
    ("quota_reached", "limits", ENTRY, statefulset, "exceeded quota: few"),
    (
        "no_room",
        "limits",
        ENTRY,
        another_pod(PodScheduled=("False", "Unschedulable", "0/2 nodes are available")),
        "0/2 nodes are available",
    ),
    ("api_unverified", "owners", ENTRY, registration(0, insecureSkipTLSVerify=True), "v1beta1.metrics.k8s.io"),
    ("node_missing", "nodes_ready", ENTRY, set_at(NODES, "items", 0, "metadata", "name")("w2"), "w1 has not joined"),
    (
        "node_missing",
        "nodes_ready",
        ENTRY,
        lambda stub: (stub.machines.clear(), stub.answers[NODES]["items"].clear()),
        "no nodes",
    ),
    (
        "node_not_ready",
        "nodes_ready",
        ENTRY,
        set_at(NODES, "items", 0, "status")(conditions(Ready="Unknown")),
        "w1 is not Ready (Because: it is so)",
    ),
    (
        "workload_unavailable",
        "workloads_available",
        ENTRY,
        set_at(DEPLOYMENTS, "items", 0, "status", "availableReplicas")(0),
        "Deployment monitoring/grafana: 0 of 1 replicas are available",
    ),
    (
        "workload_unavailable",
        "workloads_available",
        ENTRY,
        set_at(DEPLOYMENTS, "items", 0, "metadata", "generation")(3),
        "has not seen the newest generation",
    ),
    (
        "apiservice_unavailable",
        "apiservices_available",
        ENTRY,
        lambda stub: stub.edit(APISERVICES)["items"].append(
            {"metadata": {"name": "v1.apps"}, "spec": {}, "status": conditions(Available="False")}
        ),
        "v1.apps: Because: it is so",
    ),
    (
        "resource_metrics_missing",
        "resource_metrics",
        ENTRY,
        set_at(NODE_USAGE, "items")([]),
        "no metrics of node w1",
    ),
    ("resource_metrics_missing", "resource_metrics", ENTRY, set_at(POD_USAGE, "items")(None), "no metrics of any pod"),
    (
        "no_prometheus",
        "prometheus_ready",
        ENTRY,
        lambda stub: setattr(stub, "prometheus_error", ApiError("no endpoints available for service", 503)),
        "no endpoints available",
    ),
    (
        "job_without_target",
        "prometheus_targets",
        ENTRY,
        lambda stub: stub.active.pop(),
        "ServiceMonitor monitoring/grafana has no target at port web",
    ),
    (
        "annotated_without_target",
        "prometheus_targets",
        ENTRY,
        lambda stub: (
            setattr(stub, "flavor", "standalone"),
            stub.edit(ALL_PODS)["items"].append(pod("other")),
            stub.edit(ALL_PODS)["items"][-1]["metadata"].update(annotations={"prometheus.io/scrape": "true"}),
        ),
        "pod shop/other is annotated, and has no target",
    ),
    (
        "target_down",
        "prometheus_targets",
        ENTRY,
        lambda stub: stub.active[-1].update(health="down", lastError="connection refused"),
        "serviceMonitor/monitoring/grafana/0 http://10.244.1.3:3000/metrics is down: connection refused",
    ),
    (
        "scraped_twice",
        "prometheus_targets",
        ENTRY,
        lambda stub: (
            setattr(stub, "flavor", "standalone"),
            stub.active.append({**stub.active[0], "scrapePool": "annotated-pods"}),
        ),
        "is scraped by annotated-pods and by podMonitor/shop/shop/0",
    ),
    (
        "alertmanager_unknown",
        "alertmanager",
        ENTRY,
        lambda stub: stub.alertmanagers.clear(),
        "knows no Alertmanager",
    ),
    (
        "alertmanager_not_ready",
        "alertmanager",
        ENTRY,
        set_at(ALERTMANAGER, "cluster", "status")("settling"),
        "settling",
    ),
    ("grafana_unhealthy", "grafana", ENTRY, set_at(GRAFANA, "database")("failing"), "failing"),
    ("dashboards_missing", "grafana", ENTRY, lambda stub: stub.answers[DASHBOARDS].clear(), "it has no dashboards"),
    (
        "kubelet_certificate_waiting",
        "certificates",
        ENTRY,
        set_at(CSRS, "items")([request(**conditions(Denied="True"))]),
        "csr-1 denied (Because: it is so)",
    ),
    (
        "certificate_ending",
        "certificates",
        ENTRY,
        lambda stub: stub.answers.update({SERVING: secret(days=3)}),
        f"Secret custom-metrics/cm-adapter-serving-certs ends first, on {day(3):%Y-%m-%d} (3 days)",
    ),
    (
        "certificate_ending",
        "certificates",
        ENTRY,
        seen(server_certificate=lambda: pem(make_certificate(days=2)[0])),
        "the API server's own ends first",
    ),
    (
        "certificate_ending",
        "certificates",
        ENTRY,
        lambda stub: stub.clocks.update(kubelet_certificate=str(86400)),
        "the kubelet's on w1 ends first",
    ),
    (
        "kubelet_certificate_waiting",
        "certificates",
        ENTRY,
        set_at(CSRS, "items")([request()]),
        "system:node:w1: csr-1 waits for approval",
    ),
    (
        "controller_clock_off",
        "clock",
        ENTRY,
        seen(now=NOW + datetime.timedelta(minutes=10)),
        "600 s ahead of the API server",
    ),
    ("node_clock_off", "clock", ENTRY, lambda stub: stub.clocks.update(node_time_seconds="-33.4"), "w1 is 33 s behind"),
    (
        "node_clock_off",
        "clock",
        ENTRY,
        set_at(LEASES, "items", 0, "spec", "renewTime")(at(120)),
        "w1 is 120 s ahead",
    ),
    ("target_without_request", "requests", CPU, NO_CPU, "shop/shop: web (cpu)"),
]
# Every cause at the server of an app's metrics is one at the cluster's servers, too.
CASES += [(cause, "owners", *rest) for cause, link, *rest in CASES if link == "apiservice"]


@pytest.mark.parametrize(
    ("cause", "link", "given", "change", "words"),
    CASES,
    ids=[f"{case[1]}-{case[0]}-{n}" for n, case in enumerate(CASES)],
)
def test_a_cause_is_found_at_its_link(cause: str, link: str, given: dict[str, Any], change: Change, words: str) -> None:
    stub = Stub(given)
    healthy = stub.examine()
    change(stub)
    diagnosis = stub.examine()
    patient = diagnosis.apps[0] if link in LINKS else diagnosis.cluster
    first = patient.diagnosis
    assert first, doctor.describe("berlin", diagnosis, detailed=True)
    assert (first.link, first.cause) == (link, cause), doctor.describe("berlin", diagnosis, detailed=True)
    assert words in first.evidence
    assert "{" not in first.advice.replace("{namespace=", "")
    # What the cluster is like without the change, so that it is the change that was found.
    if not given.get("behavior") and given["replicas"] == ENTRY["replicas"]:
        assert healthy.ill == [], doctor.describe("berlin", healthy, detailed=True)


@pytest.mark.parametrize("selector", [None, {}])
def test_a_service_without_a_selector_leads_to_no_pods_of_its_namespace(selector: dict[str, str] | None) -> None:
    stub = Stub()
    # Whoever made its endpoints by hand answers for them; pods beside it, with certificates of their own, do not count.
    stub.edit("/api/v1/namespaces/custom-metrics/services/prometheus-adapter")["spec"]["selector"] = selector
    stub.edit("/api/v1/namespaces/monitoring/services/prometheus-k8s")["spec"]["selector"] = selector
    stub.answers[SERVING] = secret("localhost", days=-1)
    assert stub.examine().ill == [], doctor.describe("berlin", stub.examine(), detailed=True)


def test_every_cause_is_tested_at_each_of_its_links() -> None:
    assert {(case[0], case[1]) for case in CASES} == {
        (name, each.name) for each in ALL.values() for name in each.causes
    }


def test_a_cause_that_is_not_of_its_link_is_an_error_of_the_program() -> None:
    wrong = link("something", {})(lambda _facts, _subject: broken("crash_loop", "evidence"))
    with pytest.raises(KeyError, match="crash_loop is no cause of link <lambda>"):
        wrong.look(Facts(Stub()), Stub().settings)


@pytest.mark.parametrize(
    "given", [ENTRY, SERVED, CPU, QUEUE, INGRESS], ids=["pods", "service", "cpu", "queue", "ingress"]
)
def test_a_healthy_app_of_each_kind_is_healthy(given: dict[str, Any]) -> None:
    stub = Stub(given)
    diagnosis = stub.examine()
    assert diagnosis.ill == [], doctor.describe("berlin", diagnosis, detailed=True)
    states = {finding.link: finding.state for finding in diagnosis.apps[0].findings}
    skipped = {link for link, state in states.items() if state == "skipped"}
    not_scraped = {"endpoints", "scrape", "target"}
    assert skipped == {
        id(ENTRY): {"endpoints"},
        id(SERVED): set(),
        id(CPU): not_scraped | {"series", "discovered"},
        id(QUEUE): not_scraped | {"pods"},
        id(INGRESS): not_scraped | {"pods"},
    }[id(given)] | ({"pods"} if given is SERVED else set())


def standalone() -> Stub:
    """A healthy cluster whose Prometheus runs without the operator."""
    stub = Stub(flavor="standalone")
    for kind in (MONITORING, MONITOR, SERVERS):
        del stub.answers[kind]
    stub.pools = ["app/shop/shop"]
    stub.active[0]["scrapePool"] = stub.pools[0]
    stub.answers[JOBS] = {
        "data": {
            "scrape.yml": yaml.safe_dump({"scrape_configs": [standalone_scrape_config(stub.app, stub.app.scrape)]})
        }
    }
    return stub


def test_without_the_operator_jobs_are_looked_for_in_the_file_that_prometheus_reads() -> None:
    stub = standalone()
    assert stub.examine().ill == [], doctor.describe("berlin", stub.examine(), detailed=True)
    stub.active.clear()
    stub.edit(JOBS)["data"]["scrape.yml"] = stub.edit(JOBS)["data"]["scrape.yml"].replace("/metrics", "/other")
    first = stub.examine().apps[0].diagnosis
    assert (first.link, first.cause) == ("target", "monitor_edited")
    assert "of app/shop/shop job.metrics_path is /other, not /metrics" in first.evidence
    del stub.answers[JOBS]
    first = stub.examine().apps[0].diagnosis
    assert (first.link, first.cause) == ("scrape", "monitor_missing")
    assert first.evidence == "ConfigMap prom/prometheus-apps has no job app/shop/shop"


def test_a_new_pod_beside_old_ones_has_time_to_get_ready_and_scraped() -> None:
    stub = Stub()
    starting, fresh = pod("shop-5d8f7c9b6-new"), pod("shop-5d8f7c9b6-fresh")
    starting["status"] = not_ready(JUST_NOW)
    fresh["status"] = {"phase": "Running", **conditions(JUST_NOW, PodScheduled="True", Ready="True")}
    stub.edit(PODS)["items"] += [starting, fresh]
    assert stub.examine().ill == []


def test_of_an_app_that_has_just_started_nothing_is_said_that_may_be_so_for_that_reason() -> None:
    stub = Stub()
    stub.edit(PODS)["items"][0]["status"] = {
        "phase": "Running",
        **conditions(JUST_NOW, PodScheduled="True", Ready="True"),
    }
    assert stub.examine().ill == []
    stub.active.clear()
    no_series("up")(stub)
    set_at(VALUES, "items")([])(stub)
    cannot_scale("ScalingActive")(stub)
    patient = stub.examine().apps[0]
    unknown = {finding.link for finding in patient.findings if finding.state == "unknown"}
    assert (patient.state, unknown) == ("unknown", {"target", "series", "values", "hpa"})
    assert "? shop: target cannot be told: no target yet: its pods are ready for less than 30 s" in doctor.describe(
        "berlin", stub.examine()
    )


def test_an_adapter_that_is_down_is_found_at_its_api_not_at_what_cannot_be_asked() -> None:
    stub = Stub()
    stub.edit(ADAPTER_PODS)["items"] = []
    stub.answers[f"/apis/{CUSTOM_API}/v1beta2"] = ApiError("service unavailable", 503)
    stub.answers[VALUES] = ApiError("service unavailable", 503)
    cannot_scale("ScalingActive")(stub)
    patient = stub.examine().apps[0]
    states = {finding.link: finding.state for finding in patient.findings}
    assert patient.diagnosis
    assert (patient.diagnosis.link, patient.diagnosis.cause) == ("apiservice", "server_down")
    assert (states["discovered"], states["values"], states["hpa"]) == ("unknown", "unknown", "broken")
    text = doctor.describe("berlin", stub.examine())
    assert "✗ shop: broken at apiservice, server_down" in text
    assert "then:  hpa (autoscaler_blind): most likely a consequence" in text


def test_what_cannot_be_read_is_unknown_and_not_healthy() -> None:
    stub = Stub()
    stub.answers[HPA] = ApiError("forbidden", 403)
    diagnosis = stub.examine()
    assert diagnosis.apps[0].state == "unknown"
    assert not diagnosis.document("berlin")["healthy"]
    assert "? shop: hpa cannot be told: forbidden" in doctor.describe("berlin", diagnosis)
    stub.answers[HPA] = {"spec": stub.answers[HPAS]["items"][0]["spec"]}
    assert "not what was expected" in doctor.describe("berlin", stub.examine())


def of_cluster(diagnosis: doctor.Diagnosis, name: str) -> Finding:
    """The finding of a link of the cluster."""
    (finding,) = [each for each in diagnosis.cluster.findings if each.link == name]
    return finding


def test_others_may_serve_an_api_that_is_not_ours_to_serve() -> None:
    stub = Stub(CPU)
    unowned(stub)
    registration(0, insecureSkipTLSVerify=True, caBundle=None)(stub)
    stub.owners = {}
    diagnosis = stub.examine()
    assert diagnosis.ill == [], doctor.describe("berlin", diagnosis, detailed=True)
    assert (
        "metrics.k8s.io: kube-system/metrics-server (not ours, not verified)"
        in of_cluster(diagnosis, "owners").evidence
    )


def test_an_entry_may_forbid_the_way_down() -> None:
    stub = Stub(ENTRY | {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}})
    diagnosis = stub.examine()
    assert diagnosis.ill == []
    assert "never fewer" in diagnosis.apps[0].findings[-1].evidence


def test_network_policies_are_named_when_a_scrape_gets_no_answer() -> None:
    stub = Stub()
    scrape_fails("context deadline exceeded")(stub)
    policy = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    out = {"metadata": {"name": "out"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    stub.edit(POLICIES)["items"] = [policy, out]
    assert "; NetworkPolicy deny limits who may reach these pods" in stub.examine().apps[0].diagnosis.evidence


def test_every_path_is_read_once() -> None:
    stub, asked = Stub(), []
    answer = stub.raw
    stub.raw = lambda path: (asked.append(path), answer(path))[1]  # type: ignore[method-assign]
    stub.examine()
    assert len(asked) == len(set(asked))
    assert stub.watched == []


def test_the_text_has_a_row_for_each_app_and_details_when_asked() -> None:
    stub = Stub()
    lines = doctor.describe("berlin", stub.examine()).splitlines()
    assert re.fullmatch(r"berlin: 1 of 1 apps healthy, examined in \d\.\d s", lines[0])
    assert lines[2].split() == ["app", *LINKS]
    assert lines[3].split() == ["shop", "✓", "✓", "-", *["✓"] * 8]
    assert lines[5].split() == ["cluster", *(word for name in GENERAL for word in ("✓", name))]
    details = doctor.describe("berlin", stub.examine(), detailed=True)
    assert "  ✓ target      1 pods up" in details
    assert "  ✓ clock         this machine within 0 s of the API server, 1 nodes within 0.0 s" in details


def test_the_document_is_plain_data() -> None:
    stub = Stub()
    scrape_fails("connection refused")(stub)
    document = json.loads(json.dumps(stub.examine().document("berlin")))
    (app,) = document["apps"]
    assert (document["cluster"], document["healthy"], app["name"], app["state"]) == ("berlin", False, "shop", "broken")
    assert app["diagnosis"]["cause"] == "target_refused"
    assert app["diagnosis"]["meaning"] == CAUSES["target_refused"].meaning
    assert [link["link"] for link in app["links"]] == list(LINKS)
    assert [each["link"] for each in document["general"]] == list(GENERAL)


def test_unknown_apps_are_named_with_those_that_there_are() -> None:
    apps = parse_apps([ENTRY, ENTRY | {"name": "node", "workload": "deployment/node"}])
    assert [app.name for app in doctor.choose(apps, ["node"])] == ["node"]
    assert doctor.choose(apps, []) == apps
    with pytest.raises(
        doctor.UnknownAppError, match=r"app = 'shp' has no entry.*there are shop, node; did you mean shop"
    ):
        doctor.choose(apps, ["shp"])
    with pytest.raises(doctor.UnknownAppError, match="there are no autoscaled apps"):
        doctor.choose([], ["shop"])


def test_paths_are_as_the_api_server_wants_them() -> None:
    stub, asked = Stub(SERVED), []
    answer = stub.raw
    stub.raw = lambda path: (asked.append(path), answer(path))[1]  # type: ignore[method-assign]
    stub.examine()
    assert not [path for path in asked if re.search(r"[ \"{}]", path) or urlsplit(path).fragment]


def test_the_page_has_every_link_and_cause_and_the_faults_that_prove_them() -> None:
    text = doctor_table.PAGE.read_text(encoding="utf-8")
    assert text == doctor_table.page(text), "run: make docs"
    assert [name for name in CAUSES if f"`{name}`" not in text] == []
    # Faults are of causes that there are, one app each, with an entry in the scenario's inventory.
    faults = doctor_table.faults
    assert [fault.name for fault in faults.FAULTS if fault.cause not in ALL[fault.link].causes] == []
    inventory = REPOSITORY / "molecule/doctor/inventory/group_vars/all.yml"
    entries = yaml.safe_load(inventory.read_text())["autoscaled_apps"]
    assert entries == [faults.entry(name) for name in faults.APPS]
    assert len(set(faults.APPS)) == len(faults.APPS)
    assert len(faults.FAULTS) >= 18
