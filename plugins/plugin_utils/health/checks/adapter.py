# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The adapter: its rule makes the metric, and it lists the metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from ...common.components import NAMESPACES
from ...kube.client import ApiError
from ...kube.objects import parse_time
from ..facts import Watched
from ..link import Cause, Finding, broken, link, ok, skipped, unknown
from ..settings import CUSTOM_API, EXTERNAL_API, Case
from .apis import VERSIONS, registrations

ADAPTER_CONFIG = f"{NAMESPACES['prometheus_adapter']}/adapter-config"


@link(
    "the adapter has the rule and lists the metric",
    {
        "rule_missing": Cause(
            "No rule of the adapter makes the metric.",
            "run site.yml with --tags prometheus_adapter,hpa",
        ),
        "adapter_not_restarted": Cause(
            "The adapter reads its rules only at its start, and they are newer.",
            "kubectl --namespace custom-metrics rollout restart deployment prometheus-adapter",
        ),
        "metric_not_listed": Cause(
            "The adapter has the rule and does not list the metric: its search for series "
            "(`prometheus_adapter_relist_interval`, 10 s by default) fails or found none.",
            "run the doctor again in half a minute; then kubectl --namespace custom-metrics logs deployment/"
            "prometheus-adapter",
        ),
    },
    components=("prometheus_adapter",),
)
def discovered(facts: Watched, case: Case) -> Finding:
    """Check that the adapter has a rule for each metric, started after it was written, and lists the metric."""
    metrics = case.adapter_metrics
    if not metrics:
        return skipped("no metric comes from the adapter")
    namespace, _unused, name = ADAPTER_CONFIG.partition("/")
    config = facts.optional(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    texts = ((config or {}).get("data") or {}).values()
    for metric in metrics:
        part = "externalRules" if metric.source == "external" else "rules"
        rules = [rule for text in texts for rule in (yaml.safe_load(text) or {}).get(part) or []]
        if not series_query(rules, metric.name):
            return broken("rule_missing", f"ConfigMap {ADAPTER_CONFIG} has no rule that makes {metric.name}")
    if config and (late := started_before(facts, config)):
        return broken("adapter_not_restarted", late)
    for metric in metrics:
        group = EXTERNAL_API if metric.source == "external" else CUSTOM_API
        versions = {item["spec"]["version"] for item in registrations(facts, group)} or VERSIONS[group]
        for version in sorted(versions):
            try:
                answer = facts.raw(f"/apis/{group}/{version}")
            except ApiError as error:
                return unknown(f"the rule is there; {group} cannot be asked: {error}")
            names = {entry["name"] for entry in answer.get("resources") or []}
            if not any(entry.rpartition("/")[2] == metric.name for entry in names):
                evidence = f"{group}/{version} lists {len(names)} metrics without {metric.name}"
                return broken("metric_not_listed", evidence)
    return ok(", ".join(metric.name for metric in metrics))


def series_query(rules: Iterable[Mapping[str, Any]], metric: str) -> str:
    """Return the series selector of the adapter rule that makes ``metric``, or an empty text."""
    for rule in rules:
        query, naming = rule.get("seriesQuery", ""), rule.get("name") or {}
        series = re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", query)
        if not series:
            continue
        pattern, target = naming.get("matches") or ".*", naming.get("as") or ""
        found = re.search(pattern, series.group(0))
        if not found:
            continue
        if not target:
            made = found.group(1) if found.groups() else series.group(0)
        else:
            made = found.expand(re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", target))
        if made == metric:
            return query
    return ""


def started_before(facts: Watched, config: Mapping[str, Any]) -> str:
    """Return an adapter that started before its rules were written, in words, or an empty text."""
    namespace = config["metadata"]["namespace"]
    written = max(
        (
            entry["time"]
            for entry in config["metadata"].get("managedFields") or []
            if "f:data" in (entry.get("fieldsV1") or {})
        ),
        default="",
    )
    for pod in facts.pods(namespace, {"matchLabels": {"app.kubernetes.io/name": "prometheus-adapter"}}):
        for entry in pod.get("status", {}).get("containerStatuses") or []:
            started = (entry.get("state", {}).get("running") or {}).get("startedAt", "")
            if written and started and parse_time(started) < parse_time(written):
                return f"pod {pod['metadata']['name']} started at {started}, the rules are of {written}"
    return ""
