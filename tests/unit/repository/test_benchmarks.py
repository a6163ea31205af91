# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Parts of the benchmarks that need no cluster: rendering, scripts and tables."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.modules import service_certificate

from tests import rendering
from tests.benchmarks import bench, footprint


def test_the_rendered_certificate_has_every_documented_field() -> None:
    assert rendering.CERTIFICATE.keys() == yaml.safe_load(service_certificate.RETURN).keys()


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """Objects of the benchmark's cluster, without the kinds of the operator: those are in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "parse_definition", lambda definition, _files: rendering.parse_definition(definition))
        return [item for _, item in bench.rendered_objects()]


def test_every_namespace_is_rendered_once(objects: list[dict[str, Any]]) -> None:
    used = {item["metadata"]["namespace"] for item in objects if "namespace" in item["metadata"]}
    made = [item["metadata"]["name"] for item in objects if item["kind"] == "Namespace"]
    assert sorted(made) == sorted(used - {"kube-system"})
    (monitoring,) = (item for item in objects if item["metadata"]["name"] == "monitoring")
    assert monitoring["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_the_shell_script_finds_every_placeholder(objects: list[dict[str, Any]]) -> None:
    text = json.dumps(objects)
    components = ("metrics-server", "prometheus-adapter")
    for name in ["ca.crt", *(f"{component}.{end}" for component in components for end in ("crt", "key"))]:
        assert base64.b64encode(f"@{name}@".encode()).decode() in text, name
    assert f"-days {bench.CERTIFICATE_DAYS} " in (bench.HERE / "shell.sh").read_text()


@pytest.mark.parametrize("script", sorted(bench.HERE.glob("*.sh")), ids=lambda script: script.name)
def test_scripts_are_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_table_of_the_chain_has_every_ratio() -> None:
    seen = {"Ansible": (60.0, 90.0, 100.0), "shell": (40.0, 60.0, 80.0)}
    names = ("nodes_ready", "pipeline_ready", "ended")
    result = {
        "observations": [{"peer": peer, **dict(zip(names, times, strict=True))} for peer, times in seen.items()],
        "site": {"best": 12.0, "changed": 0},
        "api": {"best": 4.0, "changed": 0},
        "apply_set": {
            "apply-set": {"first": 1.0, "converged": 0.5},
            "k8s": {"first": 5.0, "converged": 5.0},
            "k8s-loop": {"first": 2.0, "converged": 1.0},
        },
    }
    lines = bench.table(result)
    ratios = [line[66:75].strip() for line in lines if line.startswith("bare")]
    assert ratios == ["1.50", "1.50", "1.25"]
    assert sum("converged re-run" in line for line in lines) == 2
    times = [re.findall(r"s +([\d.]+)(?: |$)", line)[-1] for line in lines if ", k8s" in line]
    assert times == ["5.0", "10.0", "54.0", "54.0"]


class IdleCluster:
    """A cluster of one node whose Prometheus answers every query with one value, and that has two targets."""

    targets = (("kubelet", "15s"), ("apiserver", "1m"))

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.urls: list[str] = []

    def list(self, _version: str, kind: str, namespace: str = "") -> SimpleNamespace:
        requests = {"cpu": "20m", "memory": "64Mi"}
        pod = {
            "metadata": {"name": f"pod-{namespace}"},
            "spec": {"containers": [{"resources": {"requests": requests}}]},
        }
        return SimpleNamespace(items=[pod if kind == "Pod" else {"metadata": {"name": "node"}}])

    def apply(self, item: dict[str, Any], _manager: str) -> None:
        self.objects.append(item)
        self.urls = json.loads(item["spec"]["containers"][0]["command"][-1])

    def watch(self, *_arguments: Any, **_options: Any) -> Any:
        yield SimpleNamespace(object={"status": {"phase": "Running"}})
        yield SimpleNamespace(object={"status": {"phase": "Succeeded"}})

    def delete(self, _version: str, _kind: str, name: str, _namespace: str) -> None:
        self.objects = [item for item in self.objects if item["metadata"]["name"] != name]

    def raw(self, path: str, accept: str = "") -> Any:
        if path.endswith("/log"):
            return json.dumps({url: [15 * 1024, 1536] for url in self.urls})
        labels = [{"job": job, "instance": job} for job, _ in self.targets]
        if "/targets" in path:
            found = [
                {"health": "up", "labels": own, "scrapeUrl": f"https://{job}/metrics", "scrapeInterval": interval}
                for own, (job, interval) in zip(labels, self.targets, strict=True)
            ]
            return {"status": "success", "data": {"activeTargets": found}}
        (query,) = parse_qs(urlsplit(path).query)["query"]
        metrics: list[dict[str, str]] = [{}]
        if query == footprint.SERIES:
            metrics = [own | {"__name__": footprint.SERIES} for own in labels]
        elif query.startswith("kube_pod_info"):
            (namespace,) = re.findall(r'namespace="([^"]+)"', query)
            metrics = [{"pod": f"pod-{namespace}"}]
        return {"status": "success", "data": {"result": [{"metric": own, "value": [0, "30"]} for own in metrics]}}


def test_the_footprint_has_every_component_and_every_job() -> None:
    cluster = IdleCluster()
    rows = {}
    for line in footprint.page(cluster, 10).splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[name] = cells
    assert rows.keys() >= footprint.COMPONENTS.keys() | footprint.PUBLISHED.keys()
    assert rows["Alertmanager"] == ["1", "30000", "0.0", "20", "64", "3", "42", "450"]
    assert rows["kubelet"] == ["1", "15s", "30", "2", "1.0", "0.1"]
    assert rows["apiserver"] == ["1", "1m", "30", "0", "0.2", "0.0"]
    assert cluster.objects == [], "the pod that asks the targets is still there"
    compile(footprint.SIZES, "the pod's program", "exec")
