"""The checks of the chain: what each says of answers as a cluster gives them, and how they wait."""

from __future__ import annotations

import base64
import copy
import datetime
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import checks as verify
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import service_path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROLE = Path(__file__).resolve().parents[3] / "roles" / "verify"
METRIC = "demo_app_button_clicks_per_second"
COUNTER = "demo_app_button_clicks_total"
QUERY = f'{COUNTER}{{namespace!="",pod!=""}}'
PROMETHEUS = verify.SERVICES["operator"]


def conditions(**states: str) -> dict[str, Any]:
    return {
        "conditions": [
            {"type": kind, "status": state, "reason": "Because", "message": "it is so"}
            for kind, state in states.items()
        ]
    }


def listing(api_version: str, kind: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": f"{kind}List",
        "metadata": {"resourceVersion": "7"},
        "items": list(items),
    }


def success(data: Any) -> dict[str, Any]:
    return {"status": "success", "data": data}


def certificate(
    issuer_key=None, issuer="ca", subject="adapter", host="prometheus-adapter.custom-metrics.svc", days=300
):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    )
    return builder.sign(issuer_key or key, hashes.SHA256()), key


def encoded(found: x509.Certificate) -> str:
    return base64.b64encode(found.public_bytes(serialization.Encoding.PEM)).decode()


AUTHORITY, AUTHORITY_KEY = certificate(subject="ca")
SERVING, _ = certificate(AUTHORITY_KEY)


def apiservice(name: str, local: bool = False) -> dict[str, Any]:
    spec = (
        {}
        if local
        else {"caBundle": encoded(AUTHORITY), "service": {"namespace": "custom-metrics", "name": "prometheus-adapter"}}
    )
    return {"metadata": {"name": name}, "spec": spec, "status": conditions(Available="True")}


def workload(namespace: str, name: str, **status: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name}
    ready = {"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1} | status
    return {
        "metadata": {"namespace": namespace, "name": name, "generation": 2},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}},
        "status": ready,
    }


def pod(namespace: str, name: str, app: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": app}
    return {"metadata": {"namespace": namespace, "name": name, "labels": labels}, "status": conditions(Ready="True")}


def healthy() -> dict[str, Any]:
    """Answers of a cluster on which everything works, by path."""
    monitor = {"metadata": {"namespace": "demo", "name": "demo-app"}, "spec": {"endpoints": [{"port": "web"}]}}
    target = {
        "scrapePool": "serviceMonitor/demo/demo-app/0",
        "scrapeUrl": "http://10.244.1.2:8000/metrics",
        "health": "up",
    }
    autoscaler = {
        "metadata": {"namespace": "demo", "name": "demo-app"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-app"},
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": METRIC}, "target": {"averageValue": "1"}}}],
        },
        "status": conditions(AbleToScale="True", ScalingActive="True") | {"currentReplicas": 1, "desiredReplicas": 1},
    }
    rules = yaml.safe_dump({"rules": [{"seriesQuery": QUERY, "name": {"matches": f"^{COUNTER}$", "as": METRIC}}]})
    request = {
        "metadata": {"name": "csr-1", "creationTimestamp": "2026-11-21T07:00:00Z"},
        "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:demo-cp1"},
        "status": conditions(Approved="True") | {"certificate": "LS0="},
    }
    series = [{"metric": {"namespace": "demo", "pod": "demo-app-1"}, "value": [1, "0"]}]
    values = [{"describedObject": {"name": "demo-app-1"}, "value": "980m"}]
    nodes = [
        {"metadata": {"name": name}, "status": conditions(Ready="True")} for name in ("demo-cp1", "demo-w1", "demo-w2")
    ]
    metrics = [{"metadata": {"name": node["metadata"]["name"]}} for node in nodes]
    resources = {"resources": [{"name": f"pods/{METRIC}"}]}
    custom = "/apis/custom.metrics.k8s.io"
    services = [apiservice("v1.apps", local=True), apiservice("v1beta1.metrics.k8s.io")]
    services += [apiservice("v1beta1.custom.metrics.k8s.io"), apiservice("v1beta2.custom.metrics.k8s.io")]
    return {
        verify.NODES: listing("v1", "Node", *nodes),
        verify.PODS: listing("v1", "Pod", pod("demo", "demo-app-1", "demo-app")),
        "/apis/certificates.k8s.io/v1/certificatesigningrequests": listing(
            "certificates.k8s.io/v1", "CertificateSigningRequest", request
        ),
        "/apis/apps/v1/deployments": listing(
            "apps/v1", "Deployment", workload("demo", "demo-app"), workload("other", "x", availableReplicas=0)
        ),
        "/apis/apps/v1/daemonsets": listing("apps/v1", "DaemonSet"),
        "/apis/apps/v1/statefulsets": listing("apps/v1", "StatefulSet"),
        "/apis/apps/v1/namespaces/demo/deployments/demo-app": workload("demo", "demo-app"),
        verify.APISERVICES: listing("apiregistration.k8s.io/v1", "APIService", *services),
        f"{verify.APISERVICES}/v1beta1.custom.metrics.k8s.io": services[2],
        "/api/v1/namespaces/custom-metrics/secrets/cm-adapter-serving-certs": {"data": {"tls.crt": encoded(SERVING)}},
        "/api/v1/namespaces/custom-metrics/configmaps/adapter-config": {"data": {"config.yaml": rules}},
        "/apis/metrics.k8s.io/v1beta1/nodes": {"kind": "NodeMetricsList", "metadata": {}, "items": metrics},
        "/apis/metrics.k8s.io/v1beta1/pods": {"kind": "PodMetricsList", "metadata": {}, "items": metrics},
        verify.AUTOSCALERS: listing("autoscaling/v2", "HorizontalPodAutoscaler", autoscaler),
        "/apis/monitoring.coreos.com/v1/servicemonitors": listing(
            "monitoring.coreos.com/v1", "ServiceMonitor", monitor
        ),
        "/apis/monitoring.coreos.com/v1/podmonitors": listing("monitoring.coreos.com/v1", "PodMonitor"),
        f"{custom}/v1beta1": resources,
        f"{custom}/v1beta2": resources,
        f"{custom}/v1beta2/namespaces/demo/pods/*/{METRIC}?labelSelector=app.kubernetes.io%2Fname%3Ddemo-app": {
            "items": values
        },
        service_path(PROMETHEUS, "/api/v1/query", {"query": "vector(1)"}): success({"result": []}),
        service_path(PROMETHEUS, "/api/v1/query", {"query": QUERY}): success({"result": series}),
        service_path(PROMETHEUS, "/api/v1/status/buildinfo"): success({"version": "3.14.0"}),
        service_path(PROMETHEUS, "/api/v1/targets", {"state": "active"}): success({"activeTargets": [target]}),
        service_path(PROMETHEUS, "/api/v1/alertmanagers"): success(
            {"activeAlertmanagers": [{"url": "http://10.244.1.3:9093"}]}
        ),
        service_path("monitoring/alertmanager-main:9093", "/api/v2/status"): {
            "cluster": {"status": "ready"},
            "versionInfo": {"version": "0.31.1"},
        },
        service_path("monitoring/grafana:3000", "/api/health"): {"database": "ok", "version": "13.1.3"},
        service_path("monitoring/grafana:3000", "/api/search", {"type": "dash-db"}): [{"title": "Demo app"}],
    }


class Recorded:
    """A cluster that answers from a recording; a path that is not in it is not found."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.asked, self.watched = answers, [], []
        self.changed = threading.Event()

    def raw(self, path: str) -> Any:
        self.asked.append(path)
        answer = self.answers.get(path)
        if answer is None:
            raise ApiError(f"{path}: not found", 404)
        if isinstance(answer, Exception):
            raise answer
        return copy.deepcopy(answer)

    def watch(self, api_version: str, kind: str, *, resource_version: str, timeout: float):
        self.watched.append((api_version, kind, resource_version))
        self.changed.wait(timeout)
        yield "event"


def role_checks() -> list[dict[str, Any]]:
    """The role's own data, its few expressions filled in."""
    text = (ROLE / "vars" / "main.yml").read_text()
    text = text.replace("{{ cluster_control_plane | default([]) + cluster_workers | default([]) }}", "NAMES")
    text = text.replace("{{ __verify_kubectl }}", "kubectl").replace("{{ verify_certificate_days }}", "14")
    data = yaml.safe_load(text)["__verify_checks"]
    args = {check["id"]: check["args"] for check in data if "args" in check}
    args["nodes_ready"]["names"] = ["demo-cp1", "demo-w1", "demo-w2"]
    args["autoscaler_exists"]["expected"] = ["demo/demo-app"]
    args["adapter_certificate"]["apiservice"] = "v1beta1.custom.metrics.k8s.io"
    return data


def run(
    cluster: Recorded, timeout: float = 0, absent: tuple[str, ...] = (), only: str = ""
) -> dict[str, verify.Result]:
    checks = [check for check in verify.load_checks(role_checks(), absent) if not only or check.id == only]
    return {result.id: result for result in verify.run_checks(cluster, checks, timeout, print)}


def test_healthy_cluster_passes_every_check_and_no_path_is_read_twice():
    cluster = Recorded(healthy())
    results = run(cluster)
    assert {name: result.evidence for name, result in results.items() if not result.ok} == {}
    assert len(cluster.asked) == len(set(cluster.asked))
    assert results["metric_values"].evidence == "demo/demo-app: demo-app-1 980m"


EXPRESSIONS = {
    "matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": ["demo-app", "other"]}]
}


def test_values_are_asked_for_with_all_of_a_workloads_selector():
    answers = healthy()
    answers["/apis/apps/v1/namespaces/demo/deployments/demo-app"]["spec"]["selector"] = EXPRESSIONS
    asked = VALUES.partition("?")[0] + "?labelSelector=app.kubernetes.io%2Fname+in+%28demo-app%2Cother%29"
    answers[asked] = answers.pop(VALUES)
    result = run(Recorded(answers), only="metric_values")["metric_values"]
    assert result.evidence == "demo/demo-app: demo-app-1 980m"


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": {}}])
def test_without_a_selector_the_pods_of_the_whole_namespace_are_never_asked_for(selector):
    answers = healthy()
    answers["/apis/apps/v1/namespaces/demo/deployments/demo-app"]["spec"]["selector"] = selector
    answers[VALUES.partition("?")[0] + "?labelSelector="] = answers.pop(VALUES)
    result = run(Recorded(answers), only="metric_values")["metric_values"]
    assert not result.ok and "chooses no pods in particular" in result.evidence


def test_every_check_has_reason_and_next_step_and_every_probe_is_used():
    checks = verify.load_checks(role_checks())
    assert all(check.reason and check.next and check.title for check in checks)
    assert len({check.id for check in checks}) == len(checks)
    assert {check.probe for check in checks} == set(verify.PROBES)


def broken(path: str, change) -> dict[str, Any]:
    answers = healthy()
    answers[path] = change(answers[path]) if callable(change) else change
    return answers


def each(change):
    def changed(found):
        for item in found["items"]:
            change(item)
        return found

    return changed


QUERY_PATH = service_path(PROMETHEUS, "/api/v1/query", {"query": QUERY})
TARGETS = service_path(PROMETHEUS, "/api/v1/targets", {"state": "active"})
DOWN = {
    "scrapePool": "serviceMonitor/demo/demo-app/0",
    "scrapeUrl": "http://x/metrics",
    "health": "down",
    "lastError": "connection refused",
}
CERTIFICATE = "/api/v1/namespaces/custom-metrics/secrets/cm-adapter-serving-certs"
VALUES = next(path for path in healthy() if "pods/*" in path)
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@pytest.mark.parametrize(
    ("check", "path", "change", "evidence"),
    [
        ("nodes_ready", verify.NODES, lambda found: found | {"items": found["items"][:2]}, "demo-w2 has not joined"),
        (
            "nodes_ready",
            verify.NODES,
            each(lambda node: node.update(status=conditions(Ready="Unknown"))),
            "demo-w1 is not Ready (Because: it is so)",
        ),
        (
            "kubelet_certificates",
            REQUESTS,
            each(lambda item: item.update(status={})),
            "system:node:demo-cp1: csr-1 waits for approval",
        ),
        (
            "kubelet_certificates",
            REQUESTS,
            each(lambda item: item.update(status=conditions(Denied="True"))),
            "csr-1 denied",
        ),
        (
            "workloads_available",
            "/apis/apps/v1/deployments",
            each(lambda item: item["status"].update(availableReplicas=0)),
            "deployment demo/demo-app: 0 of 1 available",
        ),
        (
            "workloads_available",
            "/apis/apps/v1/deployments",
            each(lambda item: item["metadata"].update(generation=3)),
            "has not seen the newest generation",
        ),
        (
            "apiservices_available",
            verify.APISERVICES,
            each(lambda item: item.update(status=conditions(Available="False"))),
            "v1.apps: Because",
        ),
        (
            "resource_metrics_verified",
            verify.APISERVICES,
            each(lambda item: item["spec"].update(insecureSkipTLSVerify=True)),
            "insecureSkipTLSVerify",
        ),
        (
            "custom_metrics_verified",
            verify.APISERVICES,
            each(lambda item: item["spec"].update(caBundle="")),
            "v1beta2.custom.metrics.k8s.io has no caBundle",
        ),
        (
            "custom_metrics_verified",
            verify.APISERVICES,
            listing("apiregistration.k8s.io/v1", "APIService"),
            "is not registered",
        ),
        ("resource_metrics", "/apis/metrics.k8s.io/v1beta1/nodes", {"items": []}, "no metrics of node demo-w1"),
        ("resource_metrics", "/apis/metrics.k8s.io/v1beta1/pods", {"items": None}, "no metrics of any pod"),
        (
            "prometheus_ready",
            service_path(PROMETHEUS, "/api/v1/query", {"query": "vector(1)"}),
            ApiError("Service Unavailable", 503),
            "Service Unavailable",
        ),
        (
            "prometheus_targets",
            TARGETS,
            success({"activeTargets": []}),
            "serviceMonitor demo/demo-app has no target at port web",
        ),
        ("prometheus_targets", TARGETS, success({"activeTargets": [DOWN]}), "is down: connection refused"),
        (
            "alertmanager",
            service_path(PROMETHEUS, "/api/v1/alertmanagers"),
            success({"activeAlertmanagers": []}),
            "knows no Alertmanager",
        ),
        (
            "adapter_certificate",
            CERTIFICATE,
            {"data": {"tls.crt": encoded(certificate()[0])}},
            "not issued by the APIService's CA bundle",
        ),
        (
            "adapter_certificate",
            CERTIFICATE,
            {"data": {"tls.crt": encoded(certificate(AUTHORITY_KEY, days=3)[0])}},
            "less than 14 days",
        ),
        (
            "adapter_certificate",
            CERTIFICATE,
            {"data": {"tls.crt": encoded(certificate(AUTHORITY_KEY, host="x.svc")[0])}},
            "does not name prometheus-adapter",
        ),
        ("adapter_certificate", CERTIFICATE, {"data": {}}, "holds no certificate"),
        (
            "autoscaler_exists",
            verify.AUTOSCALERS,
            listing("autoscaling/v2", "HorizontalPodAutoscaler"),
            "demo/demo-app has none",
        ),
        ("series_present", QUERY_PATH, success({"result": []}), "has no series for demo-app-1"),
        ("series_present", QUERY_PATH, {"status": "error", "error": "parse error"}, "parse error"),
        (
            "series_present",
            "/api/v1/namespaces/custom-metrics/configmaps/adapter-config",
            {"data": {"config.yaml": ""}},
            "no rule of the adapter makes",
        ),
        (
            "metric_discovered",
            "/apis/custom.metrics.k8s.io/v1beta1",
            {"resources": []},
            f"v1beta1 pods/{METRIC} is missing",
        ),
        ("metric_values", VALUES, {"items": []}, "no value for demo-app-1"),
        (
            "autoscaler_active",
            verify.AUTOSCALERS,
            each(lambda item: item.update(status=conditions(AbleToScale="True", ScalingActive="False"))),
            "demo/demo-app ScalingActive: Because: it is so",
        ),
        ("autoscaler_active", verify.AUTOSCALERS, each(lambda item: item.pop("status")), "AbleToScale: not judged yet"),
        ("grafana", service_path("monitoring/grafana:3000", "/api/health"), {"database": "failing"}, "failing"),
        (
            "grafana",
            service_path("monitoring/grafana:3000", "/api/search", {"type": "dash-db"}),
            [],
            "it has no dashboards",
        ),
    ],
)
def test_broken_link_is_found_with_its_evidence(check, path, change, evidence):
    result = run(Recorded(broken(path, change)), only=check)[check]
    assert not result.ok
    assert evidence in result.evidence


def test_pod_that_crashes_is_quoted_for_its_workload():
    answers = broken("/apis/apps/v1/deployments", each(lambda item: item["status"].update(availableReplicas=0)))
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    state = {
        "name": "app",
        "state": {"waiting": waiting},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    answers[verify.PODS]["items"][0]["status"] = conditions(Ready="False") | {"containerStatuses": [state]}
    evidence = run(Recorded(answers), only="workloads_available")["workloads_available"].evidence
    assert "pod demo-app-1: app CrashLoopBackOff: back-off 10s, last exit 1 Error" in evidence


def test_dashboards_behind_a_login_are_counted_by_what_is_mounted():
    answers = broken(service_path("monitoring/grafana:3000", "/api/search", {"type": "dash-db"}), ApiError("no", 401))
    sources = [
        {"configMap": {"name": "grafana-dashboard-demo-app"}},
        {"configMap": {"name": "grafana-dashboard-cluster"}},
    ]
    volumes = [{"name": "data"}, {"name": "dashboards", "projected": {"sources": sources}}]
    deployment = {"spec": {"template": {"spec": {"volumes": volumes}}}}
    answers["/apis/apps/v1/namespaces/monitoring/deployments/grafana"] = deployment
    assert run(Recorded(answers), only="grafana")["grafana"].evidence == "version 13.1.3, 2 dashboards"


APP_CHECKS = ("autoscaler_exists", "series_present", "metric_discovered", "metric_values", "autoscaler_active")


def test_apps_on_resources_alone_have_no_metric_to_look_for():
    answers = healthy()
    for item in answers[verify.AUTOSCALERS]["items"]:
        item["spec"]["metrics"] = [{"type": "Resource", "resource": {"name": "cpu"}}]
    del answers["/apis/custom.metrics.k8s.io/v1beta2"]
    results = run(Recorded(answers))
    assert all(results[name].ok for name in APP_CHECKS)
    assert results["metric_values"].evidence == "no app scales on a metric of its pods"


def without_its_workload() -> dict[str, Any]:
    answers = healthy()
    message = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "demo-app" not found'
    for item in answers[verify.AUTOSCALERS]["items"]:
        able = {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": message}
        item["status"] = {"conditions": [able]}
    del answers["/apis/apps/v1/namespaces/demo/deployments/demo-app"]
    answers[TARGETS] = success({"activeTargets": []})
    return answers


def test_apps_that_come_later_break_nothing():
    results = run(Recorded(without_its_workload()))
    assert all(results[name].ok for name in (*APP_CHECKS, "prometheus_targets"))
    assert results["autoscaler_exists"].evidence == "demo/demo-app (its workload does not exist yet)"


def test_apps_scaled_to_nothing_break_nothing():
    answers = healthy()
    for item in answers[verify.AUTOSCALERS]["items"]:
        item["status"]["currentReplicas"] = 0
    answers[TARGETS] = success({"activeTargets": []})
    answers[verify.PODS] = listing("v1", "Pod")
    answers[VALUES] = {"items": []}
    results = run(Recorded(answers))
    assert [name for name, result in results.items() if not result.ok] == []


def test_checks_of_absent_components_are_left_out():
    ids = set(run(Recorded(healthy()), absent=("prometheus", "grafana")))
    assert not ids & {"prometheus_ready", "prometheus_targets", "alertmanager", "series_present", "grafana"}
    assert "nodes_ready" in ids


def test_answer_of_an_unexpected_shape_is_evidence_not_an_accident():
    answers = broken(service_path("monitoring/alertmanager-main:9093", "/api/v2/status"), {"cluster": {}})
    result = run(Recorded(answers), only="alertmanager")["alertmanager"]
    assert not result.ok
    assert "not what was expected" in result.evidence


def test_waiting_ends_when_a_watched_list_changes():
    cluster = Recorded(broken(verify.NODES, lambda found: found | {"items": found["items"][:2]}))

    def heal():
        cluster.answers = healthy()
        cluster.changed.set()

    timer = threading.Timer(0.2, heal)
    timer.start()
    result = run(cluster, timeout=30, only="nodes_ready")["nodes_ready"]
    assert result.ok
    assert 0.1 < result.seconds < 5
    assert ("v1", "Node", "7") in cluster.watched


def test_what_cannot_be_watched_is_asked_again(monkeypatch):
    monkeypatch.setattr(verify, "POLL_SECONDS", 0.05)
    cluster = Recorded(broken(TARGETS, success({"activeTargets": [DOWN]})))

    def heal():
        while cluster.asked.count(TARGETS) < 3:
            time.sleep(0.01)
        cluster.answers = healthy()

    threading.Thread(target=heal, daemon=True).start()
    assert run(cluster, timeout=30, only="prometheus_targets")["prometheus_targets"].ok
    assert cluster.asked.count(TARGETS) > 2


def test_progress_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(verify, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(verify, "PROGRESS_SECONDS", 0.1)
    said: list[str] = []
    checks = [check for check in verify.load_checks(role_checks()) if check.id == "prometheus_targets"]
    results = verify.run_checks(Recorded(broken(TARGETS, success({"activeTargets": [DOWN]}))), checks, 0.5, said.append)
    assert not results[0].ok
    assert 1 < len(said) < 6
    assert "waiting for prometheus_targets (serviceMonitor/demo/demo-app/0 http://x/metrics is down" in said[0]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"id": "x", "title": "X", "probe": "nodes_raedy", "reason": "r", "next": "n"},
            "there is no probe nodes_raedy",
        ),
        ({"id": "x", "title": "X", "probe": "nodes_ready", "raeson": "r", "next": "n"}, "raeson"),
    ],
)
def test_wrong_data_is_named(entry, words):
    with pytest.raises(verify.CheckDataError, match=words):
        verify.load_checks([entry])


@pytest.mark.parametrize(
    ("rule", "metric"),
    [
        ({"seriesQuery": QUERY, "name": {"matches": "^(.*)_total$", "as": "${1}_per_second"}}, METRIC),
        ({"seriesQuery": QUERY, "name": {"matches": "^(.*)_total$"}}, "demo_app_button_clicks"),
        ({"seriesQuery": QUERY}, COUNTER),
        ({"seriesQuery": QUERY, "name": {"as": "clicks"}}, "clicks"),
    ],
)
def test_rule_that_makes_a_metric_is_found_as_the_adapter_names_it(rule, metric):
    assert verify.series_query([{"seriesQuery": '{__name__=~"x"}'}, rule], metric) == QUERY
    assert verify.series_query([rule], "another") == ""
