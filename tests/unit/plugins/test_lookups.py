"""Lookups: a folder of the cache, a password that is made once, and all apps that are scaled."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar
from ansible_collections.kubescale.fleet.plugins.lookup import kept_secret, ready_control_plane
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError


def kept(kubeconfig: Path) -> str:
    lookup = lookup_loader.get("kubescale.fleet.kept_secret")
    return lookup.run(["password"], kubeconfig=str(kubeconfig), namespace="monitoring", name="grafana")[0]


class Cluster:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, *_what: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.touch()
    return path


def test_what_the_cluster_keeps_is_returned(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"data": {"password": base64.b64encode(b"as before").decode()}}
    monkeypatch.setattr(kept_secret, "connect", lambda _path: Cluster(found))
    assert kept(kubeconfig) == "as before"


def test_without_it_each_value_is_new(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_secret, "connect", lambda _path: Cluster(None))
    values = {kept(kubeconfig), kept(kubeconfig), kept(kubeconfig.with_name("missing"))}
    assert len(values) == 3
    assert all(len(value) == 24 and value.isalnum() for value in values)


def test_a_cluster_that_does_not_answer_never_gets_a_new_value(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_secret, "connect", lambda _path: Cluster(ApiError("no answer")))
    with pytest.raises(AnsibleLookupError, match="monitoring/grafana: no answer"):
        kept(kubeconfig)


def test_a_components_folder_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBESCALE_CACHE", str(tmp_path))
    (folder,) = lookup_loader.get("kubescale.fleet.artifact").run(["prometheus_operator"])
    assert Path(folder).is_relative_to(tmp_path / "artifacts" / "prometheus_operator")


def test_an_unknown_component_is_named() -> None:
    with pytest.raises(AnsibleLookupError, match="'prometheus_operater'"):
        lookup_loader.get("kubescale.fleet.artifact").run(["prometheus_operater"])


def entries(**variables: Any) -> list[Any]:
    """What the lookup gives for variables of a cluster."""
    loader = DataLoader()
    lookup = lookup_loader.get("kubescale.fleet.autoscaled_apps", loader=loader, templar=Templar(loader=loader))
    return lookup.run([], variables=variables)


def test_the_demo_app_is_an_entry_with_the_roles_defaults() -> None:
    (entry,) = entries()
    (app,) = parse_apps([entry])
    assert (app.name, app.namespace, app.workload_name) == ("demo-app", "demo", "demo-app")
    assert app.metrics[0].name == "demo_app_button_clicks_per_second"
    assert (app.metrics[0].target, app.min_replicas, app.max_replicas) == ("10m", 1, 10)


def test_variables_set_the_entry_of_the_demo_app() -> None:
    (entry,) = entries(demo_app_target="1", demo_app_max_replicas=3, demo_app_scale_down_stabilization=30)
    assert entry["scale_on"]["target"] == "1"
    assert entry["replicas"] == {"min": 1, "max": 3}
    assert entry["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 30}}


def test_entries_of_the_variable_come_first() -> None:
    assert [entry["name"] for entry in entries(autoscaled_apps=[{"name": "shop"}])] == ["shop", "demo-app"]
    assert entries(autoscaled_apps=[{"name": "shop"}], demo_app_state="absent") == [{"name": "shop"}]
    assert entries(autoscaled_apps=None, demo_app_state="absent") == []


def test_apps_that_are_no_list_are_refused() -> None:
    with pytest.raises(AnsibleLookupError, match=r"autoscaled_apps = 'shop': must be a list"):
        entries(autoscaled_apps="shop")


def load_of(name: str, **variables: Any) -> dict[str, Any]:
    templar = Templar(loader=DataLoader(), variables=variables)
    lookup = lookup_loader.get("kubescale.fleet.app_load", loader=DataLoader(), templar=templar)
    return lookup.run([name], variables)[0]


def test_the_load_of_an_app_follows_the_cluster_that_has_it() -> None:
    assert load_of("demo-app")["request"].startswith("POST http://demo-app.demo.svc:8080/")
    assert load_of("cpu", sample_apps="[cpu_memory]")["weight"] == 25
    shop = {"name": "shop", "namespace": "sales"}
    assert load_of("shop", autoscaled_apps=[shop])["namespace"] == "sales"
    with pytest.raises(AnsibleLookupError, match="no autoscaled app 'cpu'; this cluster has demo-app, node "):
        load_of("cpu", sample_apps=["node"])


def node(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.parametrize(
    ("nodes", "chosen"),
    [
        ([node("cp1", "True"), node("cp2", "True")], "cp1"),
        ([node("cp1", "Unknown"), node("cp2", "False"), node("cp3", "True")], "cp3"),
        ([node("cp1", "Unknown"), node("w1", "True")], "cp1"),
        (ApiError("no answer"), "cp1"),
    ],
)
def test_another_control_plane_signs_when_the_first_is_down(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, nodes: Any, chosen: str
) -> None:
    class Api:
        def list(self, *_: str) -> Any:
            if isinstance(nodes, Exception):
                raise nodes
            return SimpleNamespace(items=nodes)

    monkeypatch.setattr(ready_control_plane, "connect", lambda _path: Api())
    lookup = lookup_loader.get("kubescale.fleet.ready_control_plane")
    variables = {"cluster_control_plane": ["cp1", "cp2", "cp3"]}
    assert lookup.run([str(kubeconfig)], variables) == [chosen]
    assert lookup.run([str(kubeconfig.with_name("missing"))], variables) == ["cp1"]
