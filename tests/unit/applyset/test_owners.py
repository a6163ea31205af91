# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Who serves which metrics API, and with what rights."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.action.reach import servers_of_groups
from ansible_collections.kubescale.fleet.plugins.lookup.metrics_server_resources import requests_for
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.rules import adapter_rights
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import describe_cluster

from tests.unit.repository.test_api_roles import of_kind, render

EXTERNAL = {
    "name": "worker",
    "namespace": "default",
    "workload": "deployment/worker",
    "scale_on": {"metric": "queue_length", "target": 5, "external": True},
}


def served(**settings: Any) -> set[str]:
    """APIServices that both roles together make."""
    objects = render("prometheus_adapter", **settings)
    if settings.get("resource_metrics_owner") != "adapter":
        objects += render("metrics_server", **settings)
    names = [item["metadata"]["name"] for item in of_kind(objects, "APIService")]
    assert len(names) == len(set(names))
    return set(names)


CUSTOM = {"v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"}
RESOURCE = "v1beta1.metrics.k8s.io"


def test_an_api_is_registered_when_there_is_something_to_serve() -> None:
    assert served() == {*CUSTOM, RESOURCE}
    assert served(resource_metrics_owner="adapter") == {*CUSTOM, RESOURCE}
    assert served(prometheus_adapter_apps=[]) == {RESOURCE}
    external = "v1beta1.external.metrics.k8s.io"
    assert served(prometheus_adapter_apps=[EXTERNAL]) == {RESOURCE, external}
    assert served(prometheus_adapter_apps=[EXTERNAL], external_metrics_owner="none") == {RESOURCE}


def config(**settings: Any) -> dict[str, Any]:
    (found,) = of_kind(render("prometheus_adapter", **settings), "ConfigMap")
    return yaml.safe_load(found["data"]["config.yaml"])


def test_the_adapter_measures_as_metrics_server_does_when_it_is_the_owner() -> None:
    assert "resourceRules" not in config()
    rules = config(resource_metrics_owner="adapter", prometheus_scrape_interval=10)["resourceRules"]
    assert rules["window"] == "20s"
    for resource in ("cpu", "memory"):
        assert rules[resource]["containerLabel"] == "container"
        assert {name: value["resource"] for name, value in rules[resource]["resources"]["overrides"].items()} == {
            "node": "node",
            "namespace": "namespace",
            "pod": "pod",
        }
    assert rules["cpu"]["containerQuery"] == (
        "sum by (<<.GroupBy>>) "
        '(irate(container_cpu_usage_seconds_total{<<.LabelMatchers>>,container!="",pod!=""}[40s]))'
    )
    assert 'id="/"' in rules["cpu"]["nodeQuery"]
    assert 'id="/"' in rules["memory"]["nodeQuery"]


def test_without_an_owner_of_ours_external_metrics_have_no_rule() -> None:
    assert config(prometheus_adapter_apps=[EXTERNAL])["externalRules"]
    assert config(prometheus_adapter_apps=[EXTERNAL], external_metrics_owner="none")["externalRules"] == []


def rule(*resources: str) -> dict[str, Any]:
    return {"resources": {"overrides": {resource: {"resource": resource} for resource in resources}}}


@pytest.mark.parametrize(
    ("rules", "listed"),
    [
        ([], []),
        ([rule("namespace", "pod")], [("", ["pods"])]),
        ([rule("namespace", "pod"), rule("namespace", "service")], [("", ["pods", "services"])]),
        ([rule("namespace")], [("", ["namespaces"])]),
        ([rule("namespace", "ingress")], [("networking.k8s.io", ["ingresses"])]),
    ],
)
def test_the_adapter_may_list_what_its_rules_are_about(
    rules: list[dict[str, Any]], listed: list[tuple[str, list[str]]]
) -> None:
    rights = adapter_rights({"rules": rules, "externalRules": [{"resources": {"namespaced": False}}]})
    assert rights == [{"apiGroups": [group], "resources": names, "verbs": ["list"]} for group, names in listed]


def test_the_adapter_watches_nodes_and_pods_for_resource_metrics_only() -> None:
    watched = {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]}
    assert adapter_rights({"rules": [], "resourceRules": {"cpu": {}}}) == [watched]
    (role,) = [
        item
        for item in of_kind(render("prometheus_adapter", resource_metrics_owner="adapter"), "ClusterRole")
        if item["metadata"]["name"] == "prometheus-adapter"
    ]
    assert watched in role["rules"]


@pytest.mark.parametrize(
    ("nodes", "cpu", "memory"), [(0, "50m", "60Mi"), (10, "50m", "60Mi"), (11, "60m", "80Mi"), (100, "140m", "240Mi")]
)
def test_metrics_server_grows_with_its_cluster(nodes: int, cpu: str, memory: str) -> None:
    assert requests_for(nodes) == {"requests": {"cpu": cpu, "memory": memory}}


def test_what_is_said_about_resources_is_kept() -> None:
    own = {"requests": {"cpu": "1", "memory": "1Gi"}}
    (deployment,) = of_kind(render("metrics_server", metrics_server_resources=own), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == own


def test_who_else_must_not_serve_an_api() -> None:
    groups = servers_of_groups(describe_cluster({}, str), external=True)
    assert groups["monitoring.coreos.com"] == "prometheus"
    assert groups["metrics.k8s.io"] == "metrics_server"
    assert groups["external.metrics.k8s.io"] == "prometheus_adapter"
    variables = {"resource_metrics_owner": "adapter", "prometheus_flavor": "standalone"}
    groups = servers_of_groups(describe_cluster(variables, str), external=False)
    assert "monitoring.coreos.com" not in groups
    assert groups["metrics.k8s.io"] == "prometheus_adapter"
    assert "external.metrics.k8s.io" not in groups


# -- high availability --

WORKLOADS = {
    "prometheus": ("Prometheus", 2),
    "prometheus_adapter": ("Deployment", 2),
    "alertmanager": ("Alertmanager", 3),
    "metrics_server": ("Deployment", 2),
}


@pytest.mark.parametrize(
    ("role", "flavor", "kind", "count"),
    [
        *((role, "operator", *expected) for role, expected in WORKLOADS.items()),
        ("alertmanager", "standalone", "StatefulSet", 3),
    ],
)
def test_one_variable_makes_it_several_on_nodes_of_their_own_with_a_budget(
    role: str, flavor: str, kind: str, count: int
) -> None:
    objects = render(role, high_availability=True, prometheus_flavor=flavor)
    workload = next(item for item in of_kind(objects, kind) if "operator" not in item["metadata"]["name"])
    pod = workload["spec"].get("template", workload)["spec"]
    labels = workload["spec"].get("template", {}).get("metadata", workload["spec"].get("podMetadata"))["labels"]
    assert workload["spec"]["replicas"] == count
    (spread,) = pod["topologySpreadConstraints"]
    # Nodes that take no pods do not count, so that a cluster of one worker can have two of them as well.
    assert (spread["whenUnsatisfiable"], spread["nodeTaintsPolicy"]) == ("DoNotSchedule", "Honor")
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    for selector in (spread["labelSelector"], budget["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("role", WORKLOADS)
@pytest.mark.parametrize("value", [False, "false", "no"])
def test_without_it_there_is_one_of_each_and_no_budget_that_would_hold_up_a_drain(role: str, value: object) -> None:
    objects = render(role, high_availability=value)
    assert of_kind(objects, "PodDisruptionBudget") == []
    assert {item["spec"]["replicas"] for item in of_kind(objects, WORKLOADS[role][0])} == {1}
    assert "topologySpreadConstraints" not in yaml.safe_dump(objects)
