"""What role alertmanager and preflight make of a receiver, judged by a real Alertmanager."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.alerting import RECEIVERS, check_alerting
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.values import Setting

from tests.rendering import render

from . import cluster

cluster.BINARIES.setdefault("alertmanager", ("alertmanager", "alertmanager"))
START_SECONDS = 20
WEBHOOK = {"webhook_configs": [{"url": "https://hooks.example/alerts"}]}


def made(receiver: dict[str, Any]) -> dict[str, Any]:
    """The content of alertmanager.yaml that the role makes for a receiver."""
    (secret,) = (item for item in render("alertmanager", alertmanager_receiver=receiver) if item["kind"] == "Secret")
    return yaml.safe_load(base64.b64decode(secret["data"]["alertmanager.yaml"]))


@contextmanager
def alertmanager(folder: Path, config: dict[str, Any]) -> Iterator[int]:
    """An Alertmanager with this configuration; gives its port. Raises ValueError with its words if it refuses it."""
    binary = cluster.find_binary("alertmanager")
    if not binary:
        pytest.skip("alertmanager is not built (run playbooks/artifacts.yml, or set KUBESCALE_BIN)")
    port = cluster.free_port()
    file, log = folder / "alertmanager.yaml", folder / "log"
    file.write_text(yaml.safe_dump(config))
    command = [binary, f"--config.file={file}", f"--storage.path={folder / 'data'}", "--cluster.listen-address="]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready(port):
                if process.poll() is not None:
                    raise ValueError(log.read_text())
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False


def problems(receiver: Any, config: Any) -> list[str]:
    return check_alerting(Setting("alertmanager_receiver", receiver), Setting("alertmanager_config", config))


@pytest.mark.parametrize("receiver", [{}, WEBHOOK], ids=["nobody", "webhook"])
def test_alertmanager_takes_what_the_role_makes(receiver: dict[str, Any], tmp_path: Path) -> None:
    assert problems(receiver, {}) == []
    with alertmanager(tmp_path, made(receiver)):
        pass


WRONG = [
    {"receivers": [{"name": "a"}], "route": {"receiver": "b"}},
    {"receivers": [{"name": "a"}]},
    {"receivers": [{"name": "a"}], "route": {"receiver": "a", "routes": [{"receiver": "b"}]}},
    {"receivers": [{"name": "a"}, {"name": "a"}], "route": {"receiver": "a"}},
    {"receivers": [{"name": "a", "webhok_configs": []}], "route": {"receiver": "a"}},
    {"receivers": [{"name": "a", "webhook_configs": [{"url": "ftp://x"}]}], "route": {"receiver": "a"}},
    {"receivers": [{"name": "a", "webhook_configs": [{}]}], "route": {"receiver": "a"}},
    {"receivers": [{"name": "a", "webhook_configs": {"url": "http://x"}}], "route": {"receiver": "a"}},
]


@pytest.mark.parametrize("config", WRONG, ids=json.dumps)
def test_what_preflight_refuses_alertmanager_refuses_too(config: dict[str, Any], tmp_path: Path) -> None:
    assert problems({}, config) != []
    with pytest.raises(ValueError, match="err="), alertmanager(tmp_path, config):
        pass


def test_preflight_knows_the_kinds_of_receivers_of_this_alertmanager(tmp_path: Path) -> None:
    config = {"receivers": [{"name": "a", **{kind: [] for kind in RECEIVERS}}], "route": {"receiver": "a"}}
    assert problems({}, config) == []
    with alertmanager(tmp_path, config):
        pass


class Webhook(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    received: Queue[dict[str, Any]]

    def do_POST(self) -> None:
        self.received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def webhook() -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    received: Queue[dict[str, Any]] = Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneWebhook", (Webhook,), {"received": received}))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", received
    server.shutdown()


def fire(port: int, *alerts: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = json.dumps([{"labels": {"cluster": "test", **labels}} for labels in alerts])
    connection.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
    assert connection.getresponse().status == http.HTTPStatus.OK


def test_alerts_arrive_in_groups_without_the_watchdog_and_without_what_another_alert_explains(
    webhook: tuple[str, Queue[dict[str, Any]]], tmp_path: Path
) -> None:
    url, received = webhook
    config = made({"webhook_configs": [{"url": url}]})
    # Nobody wants to wait; what is waited for is the same.
    config["route"]["group_wait"] = "1s"
    autoscaler = {"alertname": "AutoscalerNotScaling", "namespace": "shop", "severity": "critical"}
    with alertmanager(tmp_path, config) as port:
        fire(
            port,
            {"alertname": "Watchdog", "severity": "none"},
            {"alertname": "MetricsApiUnavailable", "name": "v1beta1.custom.metrics.k8s.io", "severity": "critical"},
            autoscaler | {"horizontalpodautoscaler": "shop"},
            {"alertname": "TargetDown", "namespace": "shop", "pod": "shop-1", "severity": "warning"},
            {"alertname": "TargetDown", "namespace": "shop", "pod": "shop-2", "severity": "warning"},
            {"alertname": "TargetDown", "namespace": "other", "pod": "other-1", "severity": "warning"},
        )
        groups = [received.get(timeout=20) for _number in range(3)]
        with pytest.raises(Empty):
            received.get(timeout=2)
    counts = {
        (group["groupLabels"]["alertname"], group["groupLabels"].get("namespace")): len(group["alerts"])
        for group in groups
    }
    assert counts == {("MetricsApiUnavailable", None): 1, ("TargetDown", "shop"): 2, ("TargetDown", "other"): 1}
