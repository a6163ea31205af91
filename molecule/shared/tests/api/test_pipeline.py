"""The API side: everything is healthy, verified by certificates, and answers with data."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.chain import GENERAL
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import prometheus
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report import dashboards
from cryptography import x509
from independent import Cluster
from playbook_runs import run_playbook

CUSTOM_METRICS = ("custom.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2")
SYNC, SCRAPE = 15, 15
METRIC = "demo_app_button_clicks_per_second"


def condition(item: dict[str, Any], kind: str) -> str | None:
    return next((entry["status"] for entry in item["status"].get("conditions", []) if entry["type"] == kind), None)


def internal_address(node: dict[str, Any]) -> str:
    return next(entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP")


def cluster_authority(api: Cluster) -> str:
    """The CA of the cluster (PEM), as every pod knows it."""
    root = api.get("v1", "ConfigMap", "kube-root-ca.crt", "kube-system")
    assert root is not None
    return root["data"]["ca.crt"]


def test_every_check_of_the_chain_holds() -> None:
    run = run_playbook("verify")
    assert run.returncode == 0, run.messages()
    (result,) = [result for results in run.results("checks").values() for result in results]
    held = {check["id"]: check["ok"] for check in result["checks"]}
    assert set(held.values()) == {True}
    assert {name for name, link in GENERAL.items() if not link.advisory} | {"app_demo-app"} <= held.keys()


def test_every_node_is_ready(api: Cluster) -> None:
    nodes = api.list("v1", "Node")
    assert nodes
    assert {condition(node, "Ready") for node in nodes} == {"True"}


def test_every_kubelet_serves_with_a_certificate_of_the_cluster(api: Cluster) -> None:
    context = ssl.create_default_context(cadata=cluster_authority(api))
    for node in api.list("v1", "Node"):
        # The handshake fails for another CA, and for a certificate without this address.
        address = (internal_address(node), node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"])
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as secured,
        ):
            names = (secured.getpeercert() or {})["subjectAltName"]
        assert ("DNS", node["metadata"]["name"]) in names


def test_every_workload_is_complete(api: Cluster) -> None:
    for item in api.list("apps/v1", "Deployment"):
        assert item["status"].get("readyReplicas", 0) == item["spec"]["replicas"], item["metadata"]["name"]
    for item in api.list("apps/v1", "DaemonSet"):
        assert item["status"]["numberReady"] == item["status"]["desiredNumberScheduled"] > 0, item["metadata"]["name"]
    for item in api.list("apps/v1", "StatefulSet"):
        assert item["status"]["readyReplicas"] == item["spec"]["replicas"], item["metadata"]["name"]


def test_every_apiservice_is_available_and_none_skips_verification(api: Cluster) -> None:
    services = {item["metadata"]["name"]: item for item in api.list("apiregistration.k8s.io/v1", "APIService")}
    assert {condition(item, "Available") for item in services.values()} == {"True"}
    for name in ("v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"):
        assert services[name]["spec"]["caBundle"]
        assert not services[name]["spec"].get("insecureSkipTLSVerify", False)


def test_the_adapter_certificate_is_signed_by_the_ca_that_the_api_server_trusts(
    api: Cluster, cluster: dict[str, Any]
) -> None:
    secret = api.get("v1", "Secret", "cm-adapter-serving-certs", "custom-metrics")
    assert secret is not None
    service = api.get("apiregistration.k8s.io/v1", "APIService", "v1beta1.custom.metrics.k8s.io")
    assert service is not None
    certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    (trusted,) = x509.load_pem_x509_certificates(base64.b64decode(service["spec"]["caBundle"]))
    certificate.verify_directly_issued_by(trusted)
    # The CA key of a cluster that existed before is out of reach: there it is a CA of its own.
    of_the_cluster = x509.load_pem_x509_certificate(cluster_authority(api).encode())
    assert (trusted == of_the_cluster) == (not cluster["cluster_existing"])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "prometheus-adapter.custom-metrics.svc" in names.get_values_for_type(x509.DNSName)


def running_pods(api: Cluster) -> set[tuple[str, str]]:
    """Namespace and name of each pod that runs."""
    return {
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in api.list("v1", "Pod")
        if item["status"]["phase"] == "Running"
    }


def test_resource_metrics_cover_all_nodes_and_pods(api: Cluster) -> None:
    nodes = {item["metadata"]["name"] for item in api.list("v1", "Node")}
    measured = {item["metadata"]["name"]: item["usage"] for item in api.list("metrics.k8s.io/v1beta1", "NodeMetrics")}
    assert set(measured) == nodes
    assert all({"cpu", "memory"} <= set(usage) for usage in measured.values())
    running = running_pods(api)
    # The run before may have replaced a pod, and metrics-server needs two readings of the new one.
    deadline = time.monotonic() + 60
    while True:
        reported = {
            (item["metadata"]["namespace"], item["metadata"]["name"])
            for item in api.list("metrics.k8s.io/v1beta1", "PodMetrics")
        }
        if {namespace for namespace, _name in reported} >= {"kube-system", "monitoring", "custom-metrics", "demo"}:
            break
        assert time.monotonic() < deadline, reported
        time.sleep(1)
    assert reported <= running | running_pods(api)


def test_both_versions_serve_the_metric_for_every_pod(api: Cluster) -> None:
    pods = {
        item["metadata"]["name"]
        for item in api.list("v1", "Pod", namespace="demo", label_selector="app.kubernetes.io/name=demo-app")
        if condition(item, "Ready") == "True"
    }
    assert pods
    for version in CUSTOM_METRICS:
        answer = api.raw(f"/apis/{version}/namespaces/demo/pods/*/{METRIC}")
        assert {item["describedObject"]["name"] for item in answer["items"]} >= pods


def test_no_container_skips_tls_verification(api: Cluster) -> None:
    for pod in api.list("v1", "Pod"):
        for container in pod["spec"]["containers"]:
            arguments = [*container.get("command", []), *container.get("args", [])]
            assert "--kubelet-insecure-tls" not in arguments


def test_every_query_of_every_dashboard_returns_series(api: Cluster, cluster: dict[str, Any]) -> None:
    service = prometheus.SERVICES[cluster.get("prometheus_flavor", "operator")]

    def ask(expr: str) -> list[dict[str, Any]]:
        return prometheus.prometheus_query(api, expr, service)

    queries = []
    for dashboard in dashboards.load_dashboards():
        choices = dashboards.variable_choices(dashboard, ask)
        assert all(choices.values()), f"{dashboard['title']}: {choices}"
        values = {name: dashboards.alternatives(found) for name, found in choices.items()}
        queries += dashboards.panel_queries(dashboard, values)
    assert queries
    # Some panels may be empty on a healthy cluster, and say why: no alert fires, no pod has a limit.
    lacking = [query for query in queries if not query.nothing]
    # What the faults before have taken away is back with the next sync of the autoscaler and the scrape after it.
    end = time.monotonic() + SYNC + 2 * SCRAPE
    while (lacking := [query for query in lacking if not ask(query.expr)]) and time.monotonic() < end:
        time.sleep(1)
    assert lacking == []


def test_the_report_draws_what_the_dashboards_show(cluster: dict[str, Any]) -> None:
    run = run_playbook("report")
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}
    folder = Path(cluster["cluster_state_dir"])
    drawn = json.loads((folder / "report.json").read_text(encoding="utf-8"))["panels"]["dashboards"]
    nothing = {
        (dashboard["title"], query.panel)
        for dashboard in dashboards.load_dashboards()
        for query in dashboards.panel_queries(dashboard)
        if query.nothing
    }
    empty = {
        (dashboard["title"], panel["title"]): panel["problem"]
        for dashboard in drawn
        for row in dashboard["rows"]
        for panel in row["panels"]
        if "problem" in panel
    }
    assert {place: problem for place, problem in empty.items() if place not in nothing} == {}
    assert 0 < (folder / "report.html").stat().st_size < 1_500_000
