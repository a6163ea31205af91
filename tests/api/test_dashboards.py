"""Every query of every dashboard, asked of a real Prometheus that reads the real exporters.

Without machines there is no kubelet: it is the one source of metrics that is made up here.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import connect
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report.dashboards import (
    alternatives,
    load_dashboards,
    panel_queries,
    variable_choices,
)
from kubernetes import client, config

from tests.demo_app_server import demo_app

from . import cluster

DASHBOARDS = {dashboard["title"]: dashboard for dashboard in load_dashboards()}
# Each query by its dashboard and place in it: its text is known when Prometheus has said what its variables can be.
PLACES = [
    pytest.param(title, place, id=f"{title}: {query.panel} {place}")
    for title, dashboard in DASHBOARDS.items()
    for place, query in enumerate(panel_queries(dashboard))
]
PROGRAMS = {
    "kube-state-metrics": ("kube_state_metrics", "kube-state-metrics"),
    "metrics-server": ("metrics_server", "metrics-server"),
    "node_exporter": ("node_exporter", "node_exporter"),
    "adapter": ("prometheus_adapter", "prometheus-adapter"),
    "prometheus": ("prometheus", "prometheus"),
}
NODES = ("demo-cp1", "demo-w1")
PODS = ("demo-app-7c9-aaaaa", "demo-app-7c9-bbbbb")
# This one was started again, and waits.
CRASHED = "demo-app-7c9-ccccc"
METRIC = "demo_app_button_clicks_per_second"
METRIC_APIS = {
    "prometheus-adapter": f"/apis/custom.metrics.k8s.io/v1beta1/namespaces/demo/pods/*/{METRIC}",
    "metrics-server": "/apis/metrics.k8s.io/v1beta1/nodes",
}
RULES = {
    "groups": [
        {
            "name": "test",
            "rules": [
                {"alert": "Fires", "expr": "vector(1)", "labels": {"severity": "warning"}},
                {"alert": "IsAboutTo", "expr": "vector(1)", "for": "1h", "labels": {"severity": "warning"}},
            ],
        }
    ]
}
ADAPTER_RULES = {
    "rules": [
        {
            "seriesQuery": 'demo_app_button_clicks_total{namespace!="",pod!=""}',
            "resources": {"overrides": {name: {"resource": name} for name in ("namespace", "pod")}},
            "name": {"matches": "^demo_app_button_clicks_total$", "as": METRIC},
            "metricsQuery": "sum(rate(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)",
        }
    ]
}
KEY = {"namespace", "horizontalpodautoscaler"}
# A target that takes longer than this is down: enough for a machine that is busy with other tests.
SCRAPE_SECONDS = 2
START_SECONDS = 180


def histogram(name: str, labels: str = "") -> list[str]:
    """Lines of a histogram without observations, as a kubelet has that has just been started."""
    return [f'{name}_bucket{{{labels}le="{bound}"}} 0' for bound in ("0.1", "1", "+Inf")]


class Kubelet(BaseHTTPRequestHandler):
    """What a kubelet says of itself and of the demo app's pods.

    Its cAdvisor names each container, and the pod as a whole without a container's name.
    """

    def do_GET(self) -> None:
        lines = ["kubelet_running_pods 2", 'kubelet_runtime_operations_total{operation_type="version"} 3']
        for name in ("kubelet_pod_start_duration_seconds", "kubelet_pleg_relist_duration_seconds"):
            lines += histogram(name)
        lines += histogram("kubelet_pod_worker_duration_seconds", 'operation_type="sync",')
        for pod in PODS:
            for container in ("", "demo-app"):
                labels = f'{{namespace="demo", pod="{pod}", container="{container}"}}'
                lines.append(f"container_cpu_usage_seconds_total{labels} {time.monotonic() / 10}")
                lines.append(f"container_memory_working_set_bytes{labels} 5e7")
                lines.append(f"container_oom_events_total{labels} 0")
            for way in ("receive", "transmit"):
                labels = f'{{namespace="demo", pod="{pod}", interface="eth0"}}'
                lines.append(f"container_network_{way}_bytes_total{labels} {time.monotonic()}")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(("\n".join(lines) + "\n").encode())

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def kubelet() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            # Also when the test fails: leaving Popen's block waits for the end of the process.
            process.terminate()


def make_autoscaler(scaling: client.AutoscalingV2Api, name: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
    body = {"metadata": {"name": name}, "spec": {"minReplicas": 1, **spec}}
    scaling.create_namespaced_horizontal_pod_autoscaler("demo", body)
    scaling.patch_namespaced_horizontal_pod_autoscaler_status(name, "demo", {"status": status})


def make_objects(kubeconfig: Path) -> None:
    """What kube-state-metrics reports: nodes, the demo app with two ready pods, and its autoscaler at work."""
    config.load_kube_config(str(kubeconfig))
    core, apps, scaling = client.CoreV1Api(), client.AppsV1Api(), client.AutoscalingV2Api()
    for node in NODES:
        core.create_node({"metadata": {"name": node}})
        ready = [{"type": "Ready", "status": "True"}]
        allocatable = {"cpu": "2", "memory": "8Gi", "pods": "110"}
        # metrics-server asks there for a kubelet; nobody answers.
        address = [{"type": "InternalIP", "address": "127.0.0.1"}]
        core.patch_node_status(
            node, {"status": {"conditions": ready, "allocatable": allocatable, "addresses": address}}
        )
    core.create_namespace({"metadata": {"name": "demo"}})
    core.create_namespaced_service_account("demo", {"metadata": {"name": "demo-app"}})

    requests = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}
    pod = {
        "serviceAccountName": "demo-app",
        "automountServiceAccountToken": False,
        "containers": [{"name": "demo-app", "image": "demo-app", "resources": requests}],
    }
    labels = {"app": "demo-app"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    apps.create_namespaced_deployment("demo", {"metadata": {"name": "demo-app"}, "spec": deployment})
    replicas = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    apps.patch_namespaced_deployment_status("demo-app", "demo", {"status": replicas})
    container = {"name": "demo-app", "ready": True, "restartCount": 0, "image": "demo-app", "imageID": "demo-app"}
    status = {
        "phase": "Running",
        "startTime": datetime.now(UTC).isoformat(),
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container],
    }
    for name in PODS:
        core.create_namespaced_pod("demo", {"metadata": {"name": name}, "spec": pod | {"nodeName": "demo-w1"}})
        core.patch_namespaced_pod_status(name, "demo", {"status": status})
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    waits = {
        "ready": False,
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ended,
    }
    status |= {"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [container | waits]}
    core.create_namespaced_pod("demo", {"metadata": {"name": CRASHED}, "spec": pod | {"nodeName": "demo-w1"}})
    core.patch_namespaced_pod_status(CRASHED, "demo", {"status": status})

    metric = {"name": METRIC}
    scaled = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-app"}, "maxReplicas": 10}
    conditions = [
        {"type": name, "status": status}
        for name, status in (("AbleToScale", "True"), ("ScalingActive", "True"), ("ScalingLimited", "False"))
    ]
    target, value = {"type": "AverageValue", "averageValue": "1"}, {"averageValue": "1"}
    seen = {
        "currentReplicas": 2,
        "desiredReplicas": 2,
        "conditions": conditions,
        "currentMetrics": [{"type": "Pods", "pods": {"metric": metric, "current": value}}],
    }
    wanted = {"metrics": [{"type": "Pods", "pods": {"metric": metric, "target": target}}]}
    make_autoscaler(scaling, "demo-app", scaled | wanted, seen)
    # One on CPU, which no scrape job belongs to, of a kind of workload that kube-state-metrics says nothing about.
    scaled["scaleTargetRef"] = {"apiVersion": "example.org/v1", "kind": "Crew", "name": "crew"}
    target, value = {"type": "Utilization", "averageUtilization": 60}, {"averageUtilization": 30, "averageValue": "30m"}
    seen["currentMetrics"] = [{"type": "Resource", "resource": {"name": "cpu", "current": value}}]
    wanted = {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}
    make_autoscaler(scaling, "crew", scaled | wanted, seen)
    group, version = "custom.metrics.k8s.io", "v1beta1"
    aggregated = {
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": "demo", "name": "nobody"},
        },
    }
    client.ApiregistrationV1Api().create_api_service(aggregated)


def scrape(job: str, targets: dict[str, dict[str, str]], **options: Any) -> dict[str, Any]:
    """A scrape job with the labels that service discovery gives each target, by address."""
    configs = [{"targets": [address], "labels": labels} for address, labels in targets.items()]
    return {"job_name": job, "honor_labels": job != "demo-app", "static_configs": configs, **options}


def both_nodes(port: int, label: str) -> dict[str, dict[str, str]]:
    """One exporter under the names of both nodes: two addresses of the same."""
    return {f"{address}:{port}": {label: node} for address, node in zip(("127.0.0.1", "localhost"), NODES, strict=True)}


def api_job(folder: Path, name: str, port: int, authority: str) -> dict[str, Any]:
    """Job that scrapes an API, which asks who scrapes, and has so much to say that it may take more than a second."""
    tls = {
        "ca_file": str(folder / authority),
        "server_name": "localhost",
        "cert_file": str(folder / "admin.crt"),
        "key_file": str(folder / "admin.key"),
    }
    return scrape(name, {f"127.0.0.1:{port}": {}}, scheme="https", tls_config=tls, scrape_interval="5s")


def ask_metric_api(folder: Path, name: str, port: int) -> int:
    """Ask as an autoscaler would; status of the answer."""
    context = ssl.create_default_context(cafile=str(folder / name / "apiserver.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    connection = HTTPSConnection("localhost", port, context=context, timeout=10)
    try:
        connection.request("GET", METRIC_APIS[name])
        return connection.getresponse().status
    finally:
        connection.close()


Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Instant queries to a Prometheus that has read all targets often enough for a rate; nobody clicked yet."""
    cluster.BINARIES.update(PROGRAMS)
    missing = [name for name in ("etcd", "kube-apiserver", *PROGRAMS) if not cluster.find_binary(name)]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)} (run playbooks/artifacts.yml, or set KUBESCALE_BIN)")
    folder = tmp_path_factory.mktemp("dashboards")
    state, telemetry, node, prometheus, adapter, resources = (cluster.free_port() for _ in range(6))
    with ExitStack() as stack:
        kubeconfig = stack.enter_context(cluster.control_plane(folder))
        make_objects(kubeconfig)
        identity = [f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}"]
        commands = {
            "kube-state-metrics": [
                f"--kubeconfig={kubeconfig}",
                "--host=127.0.0.1",
                f"--port={state}",
                "--telemetry-host=127.0.0.1",
                f"--telemetry-port={telemetry}",
            ],
            "node_exporter": [f"--web.listen-address=127.0.0.1:{node}"],
            "prometheus": [
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
            ],
            "adapter": [
                f"--config={folder / 'adapter.yml'}",
                f"--lister-kubeconfig={kubeconfig}",
                *identity,
                f"--secure-port={adapter}",
                f"--cert-dir={folder / 'prometheus-adapter'}",
                f"--prometheus-url=http://127.0.0.1:{prometheus}",
                "--prometheus-verb=POST",
                f"--metrics-relist-interval={SCRAPE_SECONDS}s",
                "--metrics-max-age=10m",
            ],
            "metrics-server": [
                f"--kubeconfig={kubeconfig}",
                *identity,
                f"--secure-port={resources}",
                f"--cert-dir={folder / 'metrics-server'}",
            ],
        }
        apps = [stack.enter_context(demo_app(folder / pod)) for pod in PODS]
        jobs = [
            scrape(
                "demo-app",
                {
                    app.url.removeprefix("http://"): {"namespace": "demo", "pod": pod}
                    for app, pod in zip(apps, PODS, strict=True)
                },
            ),
            scrape("kubelet", both_nodes(stack.enter_context(kubelet()), "node")),
            scrape("kube-state-metrics", {f"127.0.0.1:{state}": {"namespace": "monitoring", "pod": "ksm"}}),
            scrape("node-exporter", both_nodes(node, "instance")),
            scrape("prometheus", {f"127.0.0.1:{prometheus}": {}}),
            # These two serve with certificates of their own making.
            api_job(folder, "prometheus-adapter", adapter, "prometheus-adapter/apiserver.crt"),
            api_job(folder, "metrics-server", resources, "metrics-server/apiserver.crt"),
            api_job(folder, "apiserver", urlsplit(connect(kubeconfig).server).port, "ca.crt"),
        ]
        settings = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": jobs,
        }
        for name, content in (("prometheus", settings), ("rules", RULES), ("adapter", ADAPTER_RULES)):
            (folder / f"{name}.yml").write_text(yaml.safe_dump(content))
        for name, arguments in commands.items():
            stack.enter_context(running([str(cluster.find_binary(name)), *arguments], folder / f"{name}.log"))

        def ask(expr: str) -> list[dict[str, Any]]:
            connection = HTTPConnection("127.0.0.1", prometheus, timeout=10)
            try:
                connection.request("GET", f"/api/v1/query?{urlencode({'query': expr})}")
                answer = json.loads(connection.getresponse().read())
            finally:
                connection.close()
            assert answer["status"] == "success", f"{expr}: {answer['error']}"
            return answer["data"]["result"]

        targets = sum(len(job["static_configs"]) for job in jobs)
        wait_for(ask, "count(sum_over_time(up[1m]) >= 3)", targets)
        # The adapter knows a metric when it has listed the series; the autoscaler's questions are ours here.
        wait_for(
            lambda _unused: [{"value": [0, ask_metric_api(folder, "prometheus-adapter", adapter)]}], "adapter", 200
        )
        assert ask_metric_api(folder, "metrics-server", resources) == 200
        answered = 'apiserver_request_total{group=~".*metrics.k8s.io", code="200"}'
        wait_for(ask, f"count(max by (job) (count_over_time({answered}[1m])) >= 3)", len(METRIC_APIS))
        yield ask


def wait_for(ask: Ask, expr: str, value: int) -> None:
    """Return when an expression has a value."""
    deadline = time.monotonic() + START_SECONDS
    answer: object = None
    while time.monotonic() < deadline:
        try:
            answer = ask(expr)
        except OSError as error:
            answer = error
        else:
            if answer and int(answer[0]["value"][1]) == value:
                return
        time.sleep(SCRAPE_SECONDS)
    raise AssertionError(f"{expr} did not become {value} in {START_SECONDS} s: {answer}")


@pytest.fixture(scope="module")
def choices(ask: Ask) -> dict[str, dict[str, list[str]]]:
    """What the variables of each dashboard can be."""
    return {title: variable_choices(dashboard, ask) for title, dashboard in DASHBOARDS.items()}


def test_variables_have_the_values_that_prometheus_knows(choices: dict[str, dict[str, list[str]]]) -> None:
    assert choices == {
        "Autoscalers": {"namespace": ["demo"], "autoscaler": ["crew", "demo-app"]},
        "Cluster": {},
        "Demo app": {},
        "Node": {"node": list(NODES)},
        "Pod": {"namespace": ["demo"], "pod": [*PODS, CRASHED]},
    }


@pytest.mark.parametrize(("title", "place"), PLACES)
def test_query_has_series_though_nobody_clicked_yet(
    ask: Ask, choices: dict[str, dict[str, list[str]]], title: str, place: int
) -> None:
    values = {name: alternatives(found) for name, found in choices[title].items()}
    query = panel_queries(DASHBOARDS[title], values)[place]
    assert ask(query.expr), query.expr


def test_autoscaler_stands_in_the_table_with_all_that_is_asked_about_it(
    ask: Ask, choices: dict[str, dict[str, list[str]]]
) -> None:
    values = {name: alternatives(found) for name, found in choices["Autoscalers"].items()}
    columns = [
        query.expr for query in panel_queries(DASHBOARDS["Autoscalers"], values) if query.panel == "Autoscalers now"
    ]
    seen: dict[str, list[float | None]] = {}
    for name in ("demo-app", "crew"):
        answers = [[s for s in ask(expr) if s["metric"]["horizontalpodautoscaler"] == name] for expr in columns]
        assert all(len(answer) <= 1 and set(answer[0]["metric"]) == KEY for answer in answers if answer)
        seen[name] = [float(answer[0]["value"][1]) if answer else None for answer in answers]
    # Wants, ready, least, most, load, reads its metrics, limited, targets up; the last is the age of its samples.
    assert seen["demo-app"][:-1] == [2, 2, 1, 10, 100, 1, 0, 2]
    assert seen["crew"] == [2, None, 1, 10, 50, 1, 0, None, None]
