"""Alert rules: complete, documented, one alert per series. tests/api checks them with promtool."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.alerts import app_rules, pods_of
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import app_objects
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps

REPOSITORY = Path(__file__).resolve().parents[3]
FILES = sorted((REPOSITORY / "roles/prometheus/files/rules").glob("*.yaml"))
ALERTS = [
    rule
    for file in FILES
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PAGE = (REPOSITORY / "docs/alerts.md").read_text(encoding="utf-8")
SHOP: dict[str, Any] = {
    "name": "shop",
    "namespace": "shop",
    "workload": "deployment/shop",
    "scrape": {"port": "web"},
    "scale_on": {"metric": "http_requests_total", "target": 10},
    "replicas": {"min": 1, "max": 5},
}


def rules(**changes: Any) -> list[dict[str, Any]]:
    return [rule for group in app_rules(*parse_apps([SHOP | changes])) for rule in group["rules"]]


@pytest.mark.parametrize("rule", [*ALERTS, *rules()], ids=lambda rule: rule["alert"])
def test_an_alert_says_how_grave_it_is_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "none")
    assert set(rule["annotations"]) == {"summary", "description", "next", "runbook_url"}
    assert all(rule["annotations"].values())
    page, _unused, section = rule["annotations"]["runbook_url"].rpartition("#")
    assert page.endswith("/blob/main/docs/alerts.md")
    assert section == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in PAGE
    # What is the same for all that it may fire for would not tell them apart.
    told = rule["alert"].endswith("Down") or rule["alert"] == "Watchdog" or rule["labels"].get("app")
    assert told or re.search(r"{{ \$(labels|value)", rule["annotations"]["description"])


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))


def test_the_page_has_no_alert_that_is_gone() -> None:
    described = set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))
    assert described == {rule["alert"] for rule in [*ALERTS, *rules()]}


def test_an_app_without_series_of_its_own_or_without_alerts_has_no_rules() -> None:
    assert rules(scale_on={"resource": "cpu", "target": "60%"}) == []
    assert rules(alerts=False) == []


def test_a_value_that_is_no_average_demands_no_number_of_replicas() -> None:
    of_ingress = {"metric": "connections", "target": 10, "object": "ingress/shop"}
    assert [rule["alert"] for rule in rules(scale_on=of_ingress | {"target_type": "value"})] == [
        "AutoscaledAppMetricMissing"
    ]
    assert len(rules(scale_on=of_ingress)) == 2


def test_an_app_that_is_not_to_grow_need_not_follow() -> None:
    assert len(rules(behavior={"scaleUp": {"selectPolicy": "Disabled"}})) == 1


def test_tolerance_is_left_alone() -> None:
    (rule,) = [rule for rule in rules(behavior={"scaleUp": {"tolerance": "500m"}}) if "Following" in rule["alert"]]
    assert "> 1.6 * max(" in rule["expr"]


@pytest.mark.parametrize(
    ("workload", "mine", "others"),
    [
        ("deployment/shop", "shop-6d4cf56db6-abcde", ["shop-api-6d4cf56db6-abcde", "shop-0", "shop-db-0"]),
        ("statefulset/shop", "shop-0", ["shop-db-0", "shop-6d4cf56db6-abcde"]),
        ("replicaset/shop", "shop-abcde", ["shop-6d4cf56db6-abcde", "shop-0"]),
    ],
)
def test_pods_of_a_workload_are_told_from_those_of_others(workload: str, mine: str, others: list[str]) -> None:
    (app,) = parse_apps([SHOP | {"workload": workload}])
    assert re.fullmatch(pods_of(app), mine)
    assert [name for name in others if re.fullmatch(pods_of(app), name)] == []


def test_labels_of_other_names_are_looked_at() -> None:
    of_pod = {"metric": "jobs_total", "target": 1, "labels": {"namespace": "ns", "pod": "instance_pod"}}
    (rule, _unused) = rules(scale_on=of_pod)
    assert 'ns="shop",instance_pod=~"shop-[a-z0-9]+-[a-z0-9]{5}"' in rule["expr"]
    assert '"pod", "$1", "instance_pod", "(.*)"' in rule["expr"]


def test_rules_are_an_object_of_the_app_where_the_operator_reads_them() -> None:
    kinds = [item["kind"] for item in app_objects(parse_apps([SHOP]))]
    assert kinds.count("PrometheusRule") == 1
    assert "PrometheusRule" not in [item["kind"] for item in app_objects(parse_apps([SHOP]), "standalone")]
