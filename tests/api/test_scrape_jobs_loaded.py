# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The action as a task, and the task that waits for autoscalers, without a real Prometheus."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api

from .test_apply_set_tasks import Playbook

MONITOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": {"name": "shop", "namespace": "shop"},
    "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "web"}]},
}


@pytest.fixture
def run(tmp_path: Path, kubeconfig: Path) -> Playbook:
    """Function that runs tasks."""
    return Playbook(tmp_path, kubeconfig)


def scrape_jobs_loaded(**arguments: Any) -> dict[str, Any]:
    return {"kubescale.fleet.scrape_jobs_loaded": {"definition": [MONITOR], **arguments}}


def test_a_cluster_without_prometheus_has_nothing_to_wait_for(run: Playbook) -> None:
    for flavor in ("operator", "standalone"):
        [result] = run(scrape_jobs_loaded(prometheus_flavor=flavor))
        assert not result.get("failed"), result["msg"]
        assert (result["changed"], result["jobs"], result["pods"]) == (False, ["podMonitor/shop/shop/0"], [])


def test_a_cluster_that_is_not_made_yet(run: Playbook, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    [predicted] = run(scrape_jobs_loaded(kubeconfig=missing), check=True)
    assert (predicted.get("failed"), predicted["changed"]) == (None, False)
    [real] = run(scrape_jobs_loaded(kubeconfig=missing))
    assert missing in real["msg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"wait_timeout": 0}, ["wait_timeout is 0", "it must be 1 or more"]),
        ({"prometheus_flavor": "other"}, ["prometheus_flavor", "operator", "standalone", "other"]),
        ({"definition": [{"kind": "PodMonitor"}]}, ["definition", "apiVersion"]),
    ],
)
def test_wrong_arguments_are_named(run: Playbook, arguments: dict[str, Any], said: list[str]) -> None:
    [result] = run(scrape_jobs_loaded(**arguments))
    assert result["failed"]
    assert [word for word in said if word not in result["msg"]] == []


def make_prometheus(api: Api) -> None:
    labels = {"app.kubernetes.io/name": "prometheus"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prom"}}, "test")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "prometheus", "namespace": "prom", "labels": labels},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    api.apply(pod, "test")


def become_ready(api: Api, **status: Any) -> None:
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **status}
    api.patch("v1", "Pod", "prometheus", {"status": ready}, "prom", "status")


def test_a_prometheus_that_cannot_be_asked_is_named(run: Playbook, api: Api) -> None:
    """A pod that says it is ready and has no address: the API server has nowhere to go."""
    make_prometheus(api)
    become_ready(api)
    [result] = run(scrape_jobs_loaded(prometheus_flavor="standalone"))
    assert result["failed"]
    assert "pod prom/prometheus does not report its jobs" in result["msg"]
    api.delete("v1", "Pod", "prometheus", "prom")


class Prometheus:
    """Answers at port 9090 of this machine, and has no job before its pod was annotated."""

    def __init__(self) -> None:
        self.annotated, self.loaded = threading.Event(), threading.Event()
        # An API server leads nobody to a loopback address. Connecting a datagram socket sends nothing.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
            way_out.connect(("192.0.2.1", 9))
            self.address: str = way_out.getsockname()[0]

    def jobs(self, path: str) -> list[str]:
        assert path == "/api/v1/scrape_pools"
        if not self.annotated.is_set():
            return []
        self.loaded.set()
        return ["shop"]

    @contextmanager
    def serving(self) -> Iterator[None]:
        prometheus = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = {"status": "success", "data": {"scrapePools": prometheus.jobs(self.path)}}
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_arguments: Any) -> None:
                pass

        with ThreadingHTTPServer((self.address, 9090), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                server.shutdown()


def test_who_waits_for_an_autoscaler_has_a_prometheus_that_becomes_ready_load_its_jobs(
    run: Playbook, api: Api, name: str
) -> None:
    jobs = {"scrape.yml": json.dumps({"scrape_configs": [{"job_name": "shop"}]})}
    metadata = {"name": name, "namespace": "default"}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "prometheus-apps", "namespace": "prom"},
            "data": jobs,
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}},
        },
    ]
    active = {"currentReplicas": 1, "desiredReplicas": 1, "conditions": [{"type": "ScalingActive", "status": "True"}]}
    prometheus = Prometheus()
    make_prometheus(api)
    with prometheus.serving(), ThreadPoolExecutor(1) as pool:
        play = pool.submit(
            run,
            {"kubescale.fleet.apply_set": {"name": name, "definition": objects, "wait": False}},
            {"kubescale.fleet.apply_set_ready": {"wait_timeout": 30}},
        )
        for event in api.watch("autoscaling/v2", "HorizontalPodAutoscaler", "default", timeout=30):
            if event.object["metadata"]["name"] == name:
                break
        become_ready(api, podIP=prometheus.address, podIPs=[{"ip": prometheus.address}])
        for event in api.watch("v1", "Pod", "prom", timeout=30):
            if "fleet.kubescale.io/reminder" in event.object["metadata"].get("annotations", {}):
                break
        prometheus.annotated.set()
        assert prometheus.loaded.wait(30)
        api.patch("autoscaling/v2", "HorizontalPodAutoscaler", name, {"status": active}, "default", "status")
        _applied, ready = play.result()
    assert not ready.get("failed"), ready["msg"]
    assert (ready["changed"], ready["members"]) == (False, 1)
    api.delete("v1", "Pod", "prometheus", "prom")
    run({"kubescale.fleet.apply_set": {"name": name, "state": "absent"}})
