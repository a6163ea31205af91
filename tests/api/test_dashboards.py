"""Every query of every dashboard, asked of a real Prometheus that reads the real exporters.

Without machines there is no kubelet: its cAdvisor is the one source of metrics that is made up here.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.module_utils.dashboards import PanelQuery, panel_queries
from kubernetes import client, config

from tests.demo_app_server import demo_app

from . import cluster

FILES = sorted((Path(__file__).parent.parent.parent / "roles" / "grafana" / "files" / "dashboards").glob("*.json"))
QUERIES = [query for file in FILES for query in panel_queries(json.loads(file.read_text()))]
EXPORTERS = {name: (name.replace("-", "_"), name) for name in ("kube-state-metrics", "node_exporter", "prometheus")}
PODS = ("demo-app-7c9-aaaaa", "demo-app-7c9-bbbbb")
SCRAPE_SECONDS = 1
START_SECONDS = 60


class CAdvisor(BaseHTTPRequestHandler):
    """What a kubelet says of the demo app's pods: each container, and the pod as a whole without a container's name."""

    def do_GET(self) -> None:
        lines = []
        for pod in PODS:
            for container in ("", "demo-app"):
                labels = f'{{namespace="demo", pod="{pod}", container="{container}"}}'
                lines.append(f"container_cpu_usage_seconds_total{labels} {time.monotonic() / 10}")
                lines.append(f"container_memory_working_set_bytes{labels} 5e7")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(("\n".join(lines) + "\n").encode())

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def cadvisor() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), CAdvisor)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        yield
        process.terminate()


def make_objects(kubeconfig: Path) -> None:
    """What kube-state-metrics reports: nodes, the demo app as two ready pods, and its autoscaler at work."""
    config.load_kube_config(str(kubeconfig))
    core, apps, scaling = client.CoreV1Api(), client.AppsV1Api(), client.AutoscalingV2Api()
    for node in ("demo-cp1", "demo-w1"):
        core.create_node({"metadata": {"name": node}})
        ready = [{"type": "Ready", "status": "True"}]
        core.patch_node_status(node, {"status": {"conditions": ready, "allocatable": {"cpu": "2", "memory": "8Gi"}}})
    core.create_namespace({"metadata": {"name": "demo"}})
    core.create_namespaced_service_account("demo", {"metadata": {"name": "demo-app"}})

    requests = {"requests": {"cpu": "50m", "memory": "64Mi"}}
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

    metric = {"name": "demo_app_button_clicks_per_second"}
    autoscaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-app"},
        "minReplicas": 1,
        "maxReplicas": 10,
        "metrics": [
            {"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}}
        ],
    }
    scaling.create_namespaced_horizontal_pod_autoscaler("demo", {"metadata": {"name": "demo-app"}, "spec": autoscaler})
    seen = {
        "currentReplicas": 2,
        "desiredReplicas": 2,
        "conditions": [{"type": "ScalingActive", "status": "True"}, {"type": "ScalingLimited", "status": "False"}],
        "currentMetrics": [{"type": "Pods", "pods": {"metric": metric, "current": {"averageValue": "1"}}}],
    }
    scaling.patch_namespaced_horizontal_pod_autoscaler_status("demo-app", "demo", {"status": seen})


def scrape(job: str, targets: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A scrape job with the labels that service discovery gives each target, by address."""
    configs = [{"targets": [address], "labels": labels} for address, labels in targets.items()]
    return {"job_name": job, "honor_labels": job != "demo-app", "static_configs": configs}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Instant queries to a Prometheus that has read all targets often enough for a rate; nobody clicked yet."""
    cluster.BINARIES.update(EXPORTERS)
    missing = [name for name in ("etcd", "kube-apiserver", *EXPORTERS) if not cluster.find_binary(name)]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)} (run playbooks/artifacts.yml, or set KUBESCALE_BIN)")
    folder = tmp_path_factory.mktemp("dashboards")
    state, telemetry, node, prometheus = (cluster.free_port() for _ in range(4))
    with ExitStack() as stack:
        kubeconfig = stack.enter_context(cluster.control_plane(folder))
        make_objects(kubeconfig)
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
            scrape("kubelet", {f"127.0.0.1:{stack.enter_context(cadvisor())}": {"node": "demo-w1"}}),
            scrape("kube-state-metrics", {f"127.0.0.1:{state}": {"namespace": "monitoring", "pod": "ksm"}}),
            scrape("node-exporter", {f"127.0.0.1:{node}": {"instance": "demo-w1"}}),
            scrape("prometheus", {f"127.0.0.1:{prometheus}": {}}),
        ]
        settings = {"global": {"scrape_interval": f"{SCRAPE_SECONDS}s"}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
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

        wait_for_rates(ask, targets=len(PODS) + len(jobs) - 1)
        yield ask


def wait_for_rates(ask: Callable[[str], list[dict[str, Any]]], targets: int) -> None:
    """Return when every target has been read three times."""
    deadline = time.monotonic() + START_SECONDS
    answer: object = None
    while time.monotonic() < deadline:
        try:
            answer = ask("count(sum_over_time(up[1m]) >= 3)")
        except OSError as error:
            answer = error
        else:
            if answer and int(answer[0]["value"][1]) == targets:
                return
        time.sleep(SCRAPE_SECONDS)
    raise AssertionError(f"not all of {targets} targets were read in {START_SECONDS} s: {answer}")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.dashboard}: {query.panel}")
def test_query_has_series_though_nobody_clicked_yet(ask: Callable[[str], list[Any]], query: PanelQuery) -> None:
    assert ask(query.expr), query.expr
