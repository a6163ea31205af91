"""Facts that follow from the variables of a cluster and the defaults of all roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import COMPONENTS

ROLES = Path(__file__).resolve().parents[3] / "roles"


def cluster(**variables: Any) -> dict[str, Any]:
    """Return the result of the lookup for these variables of a cluster."""
    templar = Templar(loader=DataLoader(), variables=variables)
    lookup = lookup_loader.get("kubescale.fleet.cluster", loader=DataLoader(), templar=templar)
    return lookup.run([], variables)[0]


def test_without_variables_it_is_what_the_defaults_of_the_roles_say() -> None:
    defaults: dict[str, Any] = {}
    for component in COMPONENTS:
        defaults |= yaml.safe_load((ROLES / component.role / "defaults/main.yml").read_text())
    known = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert cluster() == cluster(**known)
    assert cluster()["present"] == [component.role for component in COMPONENTS if component.flavor != "standalone"]


@pytest.mark.parametrize(
    ("variables", "prometheus", "host"),
    [
        ({}, "operator", "prometheus-k8s.monitoring.svc"),
        ({"prometheus_flavor": "standalone"}, "standalone", "prometheus.prom.svc"),
        ({"prometheus_state": "absent"}, "", "prometheus-k8s.monitoring.svc"),
    ],
)
def test_prometheus(variables: dict[str, str], prometheus: str, host: str) -> None:
    found = cluster(**variables)
    assert (found["prometheus"], found["prometheus_host"]) == (prometheus, host)
    assert found["namespaces"]["prometheus"]["name"] == host.split(".")[1]


def test_the_adapter_may_serve_resource_metrics_in_place_of_metrics_server() -> None:
    assert cluster()["resource_metrics"] == "metrics_server"
    found = cluster(resource_metrics_owner="adapter")
    assert found["resource_metrics"] == "prometheus_adapter"
    assert "metrics_server" not in found["present"]


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("yes", True), ("no", False), (False, False)])
def test_high_availability_may_be_a_text(value: object, expected: bool) -> None:
    assert cluster(high_availability=value)["high_availability"] is expected


def test_jobs_of_aggregated_apis_need_a_certificate_that_pods_know() -> None:
    assert cluster()["jobs"] == ["metrics_server", "node_exporter", "kube_state_metrics", "prometheus_adapter"]
    assert cluster(cluster_existing=True, node_exporter_state="absent")["jobs"] == ["kube_state_metrics"]
