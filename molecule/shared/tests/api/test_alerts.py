"""Alerts on a healthy cluster: they look at series that are there, and only the one that always does fires."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import prometheus
from independent import Cluster
from playbook_runs import REPOSITORY

FILES = sorted((REPOSITORY / "roles/prometheus/files/rules").glob("*.yaml"))
# Series that there are only once what they tell has happened, or where there are volumes or more than one Alertmanager.
LATER = {
    "alertmanager_cluster_members",
    "kube_certificatesigningrequest_condition",
    "kube_pod_container_status_waiting_reason",
    "kube_pod_status_unschedulable",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
}
# Until rules that a run brought last are loaded, evaluated and told: the kubelet looks at files, and two intervals.
# The same for what the faults before have set off, and is over.
RULES_SECONDS = 180.0
NAME = re.compile(r"\b(?:up|[a-z]+(?:_[a-zA-Z]+)+)\b(?!\s*\()")
LABELS = re.compile(r"\{[^}]*\}|\"[^\"]*\"|\bby \([^)]*\)|\bon \([^)]*\)")
WORDS = {"predict_linear", "group_left", "max_over_time", "min_over_time"}


def series(expr: str) -> set[str]:
    """The names of all series in an expression."""
    return set(NAME.findall(LABELS.sub("", expr))) - WORDS


@pytest.fixture(scope="module")
def service(cluster: dict[str, Any]) -> str:
    """Prometheus, as it is asked."""
    return prometheus.SERVICES[cluster.get("prometheus_flavor", "operator")]


def asked(api: Cluster, service: str, path: str, **arguments: str) -> Any:
    return prometheus.prometheus_data(api.raw(prometheus.service_path(service, path, arguments)), path)


def comes_to(ask: Callable[[], set[str]], wanted: set[str]) -> set[str]:
    """Ask until the answer is as wanted, or its time is over: these answers cannot be watched. Gives the last one."""
    deadline = time.monotonic() + RULES_SECONDS
    while (answer := ask()) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    return answer


def test_prometheus_evaluates_every_alert_of_the_role_and_of_the_apps(api: Cluster, service: str) -> None:
    names = {
        rule["alert"]
        for file in FILES
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    }
    names |= {"AutoscaledAppMetricMissing", "AutoscaledAppNotFollowing"}

    def lacking() -> set[str]:
        groups = asked(api, service, "/api/v1/rules", type="alert")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = {f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"}
        return broken | (names - {rule["name"] for rule in rules})

    assert comes_to(lacking, set()) == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_alerts_look_at_series_that_are_there(api: Cluster, service: str, file: Path) -> None:
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    names = {name for group in groups for rule in group["rules"] for name in series(rule["expr"])}

    def lacking() -> set[str]:
        return names - LATER - set(asked(api, service, "/api/v1/label/__name__/values"))

    assert comes_to(lacking, set()) == set()


def test_only_the_watchdog_fires(api: Cluster, service: str) -> None:
    def firing() -> set[str]:
        samples = prometheus.prometheus_query(api, 'ALERTS{alertstate="firing"}', service)
        return {sample["metric"]["alertname"] for sample in samples}

    assert comes_to(firing, {"Watchdog"}) == {"Watchdog"}

    def shown() -> set[str]:
        alerts = api.service("monitoring", "alertmanager-main", 9093, "/api/v2/alerts")
        return {alert["labels"]["alertname"] for alert in alerts}

    # Prometheus tells it again once a minute, and may have found it after the first time.
    assert comes_to(shown, {"Watchdog"}) == {"Watchdog"}


def test_prometheus_knows_when_the_certificates_of_the_metrics_apis_end(api: Cluster, service: str) -> None:
    expr = "(kubescale_serving_certificate_not_after_seconds - time()) / 86400"
    wanted = {"metrics-server.kube-system", "prometheus-adapter.custom-metrics"}

    def days() -> dict[str, float]:
        left = prometheus.prometheus_query(api, expr, service)
        return {sample["metric"]["service"]: float(sample["value"][1]) for sample in left}

    # The rules are evaluated once a minute.
    assert comes_to(lambda: set(days()), wanted) == wanted
    assert all(day > 30 for day in days().values())
