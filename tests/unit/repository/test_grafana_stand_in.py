"""The stand-in answers like Grafana about what was provisioned, and never passes for Grafana."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).parents[3]
PROGRAM = REPOSITORY / "files" / "grafana_stand_in" / "grafana_stand_in.py"
DASHBOARDS = REPOSITORY / "roles" / "grafana" / "files" / "dashboards"
SOURCES = """
apiVersion: 1
datasources:
  - name: Prometheus
    type: prometheus
    url: http://prometheus-k8s.monitoring.svc:9090
    isDefault: true
    secureJsonData: {httpHeaderValue1: a-secret}
"""
PROVIDERS = """
apiVersion: 1
providers:
  - {name: kubescale, folder: Kubescale, type: file, options: {path: %s}}
"""


@pytest.fixture
def provisioning(tmp_path: Path) -> Path:
    for name in ("datasources", "dashboards"):
        (tmp_path / name).mkdir()
    (tmp_path / "datasources" / "prometheus.yaml").write_text(SOURCES)
    (tmp_path / "dashboards" / "kubescale.yaml").write_text(PROVIDERS % DASHBOARDS)
    return tmp_path


def start(provisioning: Path) -> subprocess.Popen[str]:
    variables = {**os.environ, "GF_PATHS_PROVISIONING": str(provisioning), "GF_SERVER_HTTP_PORT": "0"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, PROGRAM], env=variables, stdout=pipe, stderr=pipe, text=True)


class StandIn:
    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def json(self, path: str):
        return json.loads(self.get(path)[1])


@pytest.fixture
def stand_in(provisioning: Path) -> Iterator[StandIn]:
    with start(provisioning) as process:
        said = process.stdout.readline()
        assert "stand-in, not Grafana" in said
        yield StandIn(int(re.search(r"Port (\d+)", said)[1]))
        process.terminate()
        assert process.wait(timeout=10) == 0, "SIGTERM has to end it"


def test_health_has_grafanas_shape_but_not_its_name(stand_in):
    answer = stand_in.json("/api/health")
    assert answer.keys() == {"commit", "database", "version"}
    assert answer["database"] == "ok"
    assert answer["version"].startswith("stand-in")


def test_provisioned_dashboards_are_found_and_served_unchanged(stand_in):
    found = stand_in.json("/api/search")
    assert len(found) == len(list(DASHBOARDS.glob("*.json")))
    assert {entry["folderTitle"] for entry in found} == {"Kubescale"}
    served = stand_in.json("/api/dashboards/uid/kubescale-demo-app")
    assert served["dashboard"] == json.loads((DASHBOARDS / "demo-app.json").read_text())
    assert served["meta"]["provisioned"] is True


def test_search_looks_at_titles(stand_in):
    assert [entry["uid"] for entry in stand_in.json("/api/search?query=DEMO")] == ["kubescale-demo-app"]


def test_mounted_config_map_is_read_once(stand_in, provisioning):
    mounted = provisioning / "mounted"
    hidden = mounted / "..2026_11_21"
    hidden.mkdir(parents=True)
    (hidden / "a.json").write_text('{"title": "A", "uid": "a"}')
    (mounted / "..data").symlink_to(hidden.name)
    (mounted / "a.json").symlink_to("..data/a.json")
    (provisioning / "dashboards" / "kubescale.yaml").write_text(PROVIDERS % mounted)

    assert [entry["uid"] for entry in stand_in.json("/api/search")] == ["a"]


def test_unknown_dashboard_is_not_found(stand_in):
    assert stand_in.get("/api/dashboards/uid/nope")[0] == 404
    assert stand_in.get("/api/dashboards/uid/")[0] == 404
    assert stand_in.get("/nope")[0] == 404


def test_metrics_can_be_scraped(stand_in):
    families = text_string_to_metric_families(stand_in.get("/metrics")[1])
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert values == {"grafana_stand_in_info": 1, "grafana_stand_in_dashboards": len(list(DASHBOARDS.glob("*.json")))}


def test_secrets_stay_inside(stand_in):
    status, text = stand_in.get("/api/datasources")
    assert status == 200
    assert json.loads(text)[0]["url"] == "http://prometheus-k8s.monitoring.svc:9090"
    assert "a-secret" not in text


def test_page_says_what_it_is_and_what_was_provisioned(stand_in):
    status, text = stand_in.get("/")
    assert status == 200
    for word in ("This is a stand-in, not Grafana", "Demo app", "prometheus-k8s.monitoring.svc"):
        assert word in text


def test_changed_files_show_at_once(stand_in, provisioning):
    (provisioning / "datasources" / "second.yaml").write_text(SOURCES.replace("Prometheus", "Second"))
    assert [source["name"] for source in stand_in.json("/api/datasources")] == ["Prometheus", "Second"]

    (provisioning / "datasources" / "third.yaml").write_text("datasources: [{name: Third}]")
    status, text = stand_in.get("/api/datasources")
    assert status == 500
    assert "third.yaml: an entry of datasources has no type, url" in text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("datasources/bad.yaml", "a: [", "bad.yaml: while parsing"),
        ("dashboards/bad.yaml", "providers: [{name: x, options: {path: /nowhere}}]", "/nowhere: no such folder"),
        ("dashboards/bad.yaml", PROVIDERS % DASHBOARDS, "another dashboard has the uid"),
    ],
)
def test_broken_provisioning_stops_the_start(provisioning, file, content, message):
    (provisioning / file).write_text(content)
    process = start(provisioning)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 1
    assert message in error


def test_it_starts_without_any_provisioning(tmp_path):
    with start(tmp_path) as process:
        assert "0 data sources, 0 dashboards" in process.stdout.readline()
        process.terminate()
