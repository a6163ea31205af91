"""Runs tell the truth: nothing to do is nothing to do, one edit is one change, and what is taken away is gone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from independent import Cluster
from playbook_runs import run_playbook

ROLES = [
    "node_prep",
    "control_plane",
    "worker",
    "cni",
    "metrics_server",
    "prometheus",
    "node_exporter",
    "kube_state_metrics",
    "alertmanager",
    "prometheus_adapter",
    "grafana",
    "demo_app",
    "hpa",
    "verify",
]
OTHER_RULE = (
    '{"prometheus_adapter_rules": [{"series": "demo_app_button_clicks_total", '
    '"as": "demo_app_button_clicks_per_second_2m", "window": 120, "function": "rate"}]}'
)


def test_check_mode_of_a_converged_cluster_has_nothing_to_do() -> None:
    run = run_playbook("site", "--check", "--diff")
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}


def test_check_mode_of_one_more_rule_shows_that_change_only() -> None:
    run = run_playbook("site", "--check", "--diff", "--extra-vars", OTHER_RULE)
    assert run.returncode == 0, run.messages()
    changed = [item for results in run.results("changed").values() for result in results for item in result["objects"]]
    touched = {(item["kind"], item["name"]) for item in changed if item["action"] != "unchanged"}
    # The Deployment carries the rules' digest, so that the adapter restarts with them.
    assert touched == {("ConfigMap", "adapter-config"), ("Deployment", "prometheus-adapter")}


@pytest.mark.parametrize("role", ROLES)
def test_a_tag_alone_works_and_changes_nothing(role: str) -> None:
    run = run_playbook("site", "--tags", role)
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}


def test_a_tag_alone_restores_what_was_deleted_by_hand(api: Cluster) -> None:
    api.delete("apps/v1", "Deployment", "prometheus-adapter", "custom-metrics")
    run = run_playbook("site", "--tags", "prometheus_adapter")
    assert run.returncode == 0, run.messages()
    assert run.total("changed") == 1
    assert api.get("apps/v1", "Deployment", "prometheus-adapter", "custom-metrics")["status"]["readyReplicas"] == 1


def test_an_object_that_a_variable_drops_is_deleted(api: Cluster) -> None:
    # Without Prometheus, nobody reads how a component is scraped; this run touches node_exporter only.
    monitor = ("monitoring.coreos.com/v1", "ServiceMonitor", "node-exporter", "node-exporter")
    assert api.get(*monitor)
    run = run_playbook("site", "--tags", "node_exporter", "--extra-vars", "prometheus_state=absent")
    assert run.returncode == 0, run.messages()
    assert api.get(*monitor) is None
    assert run_playbook("site", "--tags", "node_exporter").total("changed") == 1
    assert api.get(*monitor)


def names(api: Cluster) -> set[tuple[str, str, str]]:
    """Every object that some set owns."""
    kinds = [
        ("v1", "Namespace"),
        ("v1", "Service"),
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("v1", "ServiceAccount"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "DaemonSet"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ]
    return {
        (kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for version, kind in kinds
        for item in api.list(version, kind, label_selector="applyset.kubernetes.io/part-of")
    }


def test_an_absent_component_takes_its_objects_and_nothing_else(api: Cluster) -> None:
    before = names(api)
    run = run_playbook("site", "--tags", "prometheus_adapter", "--extra-vars", "prometheus_adapter_state=absent")
    assert run.returncode == 0, run.messages()
    gone = before - names(api)
    assert ("APIService", "", "v1beta1.custom.metrics.k8s.io") in gone
    assert ("Namespace", "", "custom-metrics") in gone
    assert all(
        "adapter" in name or "custom" in name or namespace == "custom-metrics" for _kind, namespace, name in gone
    )
    run = run_playbook("site", "--tags", "prometheus_adapter")
    assert run.returncode == 0, run.messages()
    assert names(api) == before


BAD_INPUT: list[tuple[dict[str, Any], list[str]]] = [
    ({"metrics_server_version": "0.9.0"}, ["metrics_server_version", "artifacts_versions"]),
    ({"demo_app_target": "0"}, ["demo_app_target", "0"]),
    (
        {"demo_app_min_replicas": 5, "demo_app_max_replicas": 2},
        ["demo_app_min_replicas", "demo_app_max_replicas", "5", "2"],
    ),
    ({"demo_app_scrape_interval": 30}, ["window", "60", "demo_app_scrape_interval", "30"]),
    ({"control_plane_service_network": "10.244.0.0/20"}, ["control_plane_service_network", "10.244.0.0/20"]),
    (
        {"prometheus_adapter_relist_intervall": 30},
        ["prometheus_adapter_relist_intervall", "prometheus_adapter_relist_interval"],
    ),
    ({"grafana_state": "gone"}, ["grafana_state", "gone", "present", "absent"]),
]


@pytest.mark.parametrize(
    ("variables", "named"), BAD_INPUT, ids=[next(iter(variables)) for variables, _named in BAD_INPUT]
)
def test_bad_input_stops_before_any_change(variables: dict[str, Any], named: list[str]) -> None:
    run = run_playbook("site", "--extra-vars", json.dumps(variables))
    assert run.returncode != 0
    assert run.total("changed") == 0
    # A misspelled variable of the command line ends the program before there are tasks.
    said = run.messages() or run.output
    assert [word for word in named if word not in said] == []
