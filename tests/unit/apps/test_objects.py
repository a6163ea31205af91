"""Kubernetes objects of autoscaled apps."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.kubescale.fleet.plugins.filter.adapter_config import adapter_config as adapter_config_filter
from ansible_collections.kubescale.fleet.plugins.filter.app_objects import app_objects as app_objects_filter
from ansible_collections.kubescale.fleet.plugins.filter.namespaces_of import namespaces_of
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps import parse
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import app_objects, autoscaler, metric_spec
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.rules import adapter_config

from tests.rendering import trusted
from tests.unit.apps.entries import SIX_LINES, entry, metric

BY_POD = {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}


def test_six_lines_become_a_monitor_a_rule_and_an_autoscaler() -> None:
    parsed = parse_apps(yaml.safe_load(SIX_LINES))
    monitor, autoscaler, alerts = app_objects(parsed)
    assert alerts["kind"] == "PrometheusRule"
    assert monitor["kind"] == "PodMonitor"
    assert monitor["metadata"] == {
        "name": "shop",
        "namespace": "shop",
        "labels": {"app.kubernetes.io/name": "shop"},
    }
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert {key: endpoint[key] for key in ("port", "path", "scheme", "interval")} == {
        "port": "web",
        "path": "/metrics",
        "scheme": "http",
        "interval": "5s",
    }
    assert monitor["spec"]["selector"] == {}
    assert endpoint["relabelings"][1] == {"targetLabel": "job", "replacement": "shop"}
    assert autoscaler["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
        "minReplicas": 1,
        "maxReplicas": 20,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "http_requests_per_second"},
                    "target": {"type": "AverageValue", "averageValue": "10"},
                },
            }
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 20, "periodSeconds": 15}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
        },
    }
    assert adapter_config(parsed) == {
        "rules": [
            {
                "seriesQuery": 'http_requests_total{namespace!="",pod!=""}',
                "resources": {"overrides": BY_POD},
                "name": {"matches": "^http_requests_total$", "as": "http_requests_per_second"},
                "metricsQuery": "sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s])) by (<<.GroupBy>>)",
            }
        ],
        "externalRules": [],
    }


def test_the_least_that_an_entry_needs() -> None:
    (app,) = parse_apps([entry(scrape=None, replicas=None)])
    assert (app.scrape, app.min_replicas, app.max_replicas, app.alerts) == (None, 1, 10, True)
    assert [item["kind"] for item in app_objects([app])] == ["HorizontalPodAutoscaler", "PrometheusRule"]
    (app,) = parse_apps([entry(scrape=None, alerts=False)])
    assert [item["kind"] for item in app_objects([app])] == ["HorizontalPodAutoscaler"]


def test_filters_read_entries() -> None:
    entries = yaml.safe_load(SIX_LINES)
    assert app_objects_filter(entries) == app_objects(parse_apps(entries))
    assert adapter_config_filter(entries) == adapter_config(parse_apps(entries))
    assert namespaces_of(app_objects_filter(entries)) == [{"name": "shop"}]
    for read in (app_objects_filter, adapter_config_filter):
        with pytest.raises(AnsibleFilterError, match="name: is missing"):
            read([entry(name=None)])


def test_without_prometheus_nothing_says_how_to_scrape() -> None:
    assert [item["kind"] for item in app_objects(parse_apps([entry()]), flavor="")] == ["HorizontalPodAutoscaler"]


@pytest.mark.parametrize(
    ("workload", "kept", "left"),
    [
        ("deployment/shop", ["ReplicaSet/shop-5d4f"], ["ReplicaSet/shop-cart-5d4f", "StatefulSet/shop"]),
        ("StatefulSet/shop", ["StatefulSet/shop"], ["StatefulSet/shop-db", "ReplicaSet/shop-5d4f"]),
        ("replicaset/shop", ["ReplicaSet/shop"], ["ReplicaSet/shop-5d4f"]),
    ],
)  # fmt: skip
def test_pods_of_the_workload_are_scraped_and_no_others(workload: str, kept: list[str], left: list[str]) -> None:
    (app,) = parse_apps([entry(workload=workload)])
    pattern = app_objects([app])[0]["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["regex"]
    assert all(re.fullmatch(pattern, controller) for controller in kept)
    assert not any(re.fullmatch(pattern, controller) for controller in left)


def test_ports_by_number_and_services() -> None:
    (app,) = parse_apps([entry(scrape={"port": "8080", "path": "/m", "interval": 10, "scheme": "https"})])
    (endpoint,) = app_objects([app])[0]["spec"]["podMetricsEndpoints"]
    assert (endpoint["portNumber"], endpoint["path"], endpoint["interval"]) == (8080, "/m", "10s")
    assert endpoint["scheme"] == "https"
    (app,) = parse_apps([entry(scrape__service="shop-metrics")])
    monitor = app_objects([app])[0]
    assert monitor["kind"] == "ServiceMonitor"
    assert monitor["spec"]["endpoints"][0]["relabelings"][0] == {
        "action": "keep",
        "sourceLabels": ["__meta_kubernetes_service_name"],
        "regex": "shop\\-metrics",
    }


@pytest.mark.parametrize(
    ("item", "spec"),
    [
        (
            {"metric": "q", "object": "ingress/shop", "labels": {"ingress": "exported_ingress"}},
            {
                "type": "Object",
                "object": {
                    "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "shop"},
                    "metric": {"name": "q"},
                    "target": {"type": "AverageValue", "averageValue": "500m"},
                },
            },
        ),
        (
            {"metric": "q", "object": "service/shop", "target_type": "value", "selector": {"code": 500}},
            {
                "type": "Object",
                "object": {
                    "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "shop"},
                    "metric": {"name": "q", "selector": {"matchLabels": {"code": "500"}}},
                    "target": {"type": "Value", "value": "500m"},
                },
            },
        ),
        (
            {"metric": "q", "external": True, "selector": {"queue": "orders"}, "target": 30},
            {
                "type": "External",
                "external": {
                    "metric": {"name": "q", "selector": {"matchLabels": {"queue": "orders"}}},
                    "target": {"type": "AverageValue", "averageValue": "30"},
                },
            },
        ),
        (
            {"resource": "cpu", "target": "60%"},
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            },
        ),
        (
            {"resource": "memory", "target": "50Mi", "container": "web"},
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": "memory",
                    "container": "web",
                    "target": {"type": "AverageValue", "averageValue": "50Mi"},
                },
            },
        ),
    ],
)  # fmt: skip
def test_kinds_of_metrics(item: dict[str, Any], spec: dict[str, Any]) -> None:
    assert metric_spec(metric(**item)) == spec


def test_several_metrics_in_one_entry() -> None:
    (app,) = parse_apps([entry(scale_on=[{"resource": "cpu", "target": "30%"}, {"metric": "q", "target": 3}])])
    assert [item["type"] for item in autoscaler(app)["spec"]["metrics"]] == ["Resource", "Pods"]
    assert [item.path for item in app.metrics] == ["scale_on[0]", "scale_on[1]"]


def test_nothing_to_zero_is_allowed_where_something_else_counts() -> None:
    (app,) = parse_apps([entry(replicas__min=0, scale_on={"metric": "q", "external": True, "target": 3})])
    assert autoscaler(app)["spec"]["minReplicas"] == 0


def test_a_task_parses_its_entries_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(parse, "parse_apps", lambda entries: calls.append(entries) or parse_apps(entries))
    variables = trusted({"apps": [entry(name="once", workload="deployment/{{ word }}")], "word": "shop"})
    templar = Templar(loader=DataLoader(), variables=variables)
    both = "[apps | kubescale.fleet.app_objects, apps | kubescale.fleet.app_objects]"
    first, second = templar.template(trusted(f"{{{{ {both} }}}}"))
    assert first == second
    assert calls == [[entry(name="once")]]
