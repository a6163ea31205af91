# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Rules by which prometheus-adapter serves the metrics of apps, and the rights that it needs for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..common.entry import Source
from .model import App, AppError, Metric

#: API group and plural of the objects that a rule can describe, by the resource that the rule names.
LISTED = {
    "pod": ("", "pods"),
    "service": ("", "services"),
    "ingress": ("networking.k8s.io", "ingresses"),
    "namespace": ("", "namespaces"),
}
#: The adapter watches all nodes and pods to serve metrics.k8s.io.
WATCHED = [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]}]


@dataclass(frozen=True)
class Rule:
    """One rule of the adapter: it serves a series as a metric of the custom metrics API, or of the external one.

    ``labels`` are pairs of a label that names an object and the object's resource. ``every`` are the labels that all
    series must have.
    """

    external: bool
    name: str
    series: str
    query: str
    labels: tuple[tuple[str, str], ...] = ()
    every: frozenset[str] = frozenset()

    def joined(self, other: Rule) -> Rule | None:
        """Return one rule that replaces both, or None if they contradict each other."""
        labels = dict(self.labels) | dict(other.labels)
        same = replace(self, labels=(), every=frozenset()) == replace(other, labels=(), every=frozenset())
        agree = len(set(labels.values())) == len(labels) and all(
            labels[label] == resource for label, resource in (*self.labels, *other.labels)
        )
        if not same or not agree:
            return None
        return replace(self, labels=tuple(sorted(labels.items())), every=self.every & other.every)

    def as_dict(self) -> dict[str, Any]:
        """Return the rule in the adapter's format. It matches this series only."""
        present = ",".join(f'{label}!=""' for label in sorted(self.every))
        groups = {"ingress": {"group": "networking.k8s.io"}}
        overrides = {label: {**groups.get(resource, {}), "resource": resource} for label, resource in self.labels}
        return {
            "seriesQuery": f"{self.series}{{{present}}}" if present else self.series,
            "resources": {"namespaced": False} if self.external else {"overrides": overrides},
            "name": {"matches": f"^{self.series}$", "as": self.name},
            "metricsQuery": self.query,
        }


def rule_of(metric: Metric) -> Rule:
    """Return the rule by which the adapter serves a metric."""
    labels = tuple(sorted((label, resource) for resource, label in metric.labels.items()))
    every = frozenset(metric.labels.values())
    return Rule(metric.external, metric.name, metric.series, metric.query, labels, every)


def default_query(metric: Metric) -> str:
    """Return the adapter's template for a metric whose entry has no query. Its value is never NaN or infinite.

    The adapter would serve NaN as 0 and an infinite value as an arbitrary number. So a quantile without events is 0,
    and a ratio of 0 to 0 is 0. Any other ratio to 0 has no value, because no number of replicas follows from it.
    """
    by = "" if metric.external else " by (<<.GroupBy>>)"

    def total(series: str, grouping: str = by) -> str:
        selected = f"{series}{{<<.LabelMatchers>>}}"
        if metric.function != "gauge":
            function = "irate" if metric.function == "irate" else "rate"
            selected = f"{function}({selected}[{metric.window}s])"
        return f"sum({selected}){grouping}"

    if metric.over:
        above, below = total("<<.Series>>"), total(metric.over)
        return f"{above} / ({below} > 0) or ({above} == 0)"
    if metric.function == "quantile":
        buckets = total("<<.Series>>", " by (le)" if metric.external else " by (le, <<.GroupBy>>)")
        return f"histogram_quantile({metric.quantile}, {buckets}) >= 0 or {total('<<.Series>>')} * 0"
    return total("<<.Series>>")


def additional_rules(entries: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Return the rules of the variable ``prometheus_adapter_rules``."""
    labels = {"namespace": "namespace", "pod": "pod"}
    rules = []
    for entry in entries:
        metric = Metric(
            "pods", "1", name=str(entry["as"]), series=str(entry["series"]), function=str(entry["function"]),
            window=int(entry["window"]), labels=labels,
        )  # fmt: skip
        rules.append(rule_of(replace(metric, query=default_query(metric))))
    return rules


def merge_rules(
    apps: Iterable[tuple[App, Source]], additional: Iterable[Mapping[str, Any]] = ()
) -> tuple[list[Rule], list[str]]:
    """Return the rules of apps and the additional ones, each metric once, and an error for each contradiction."""
    made = [
        (rule_of(metric), source.name(metric.path)) for app, source in apps for metric in app.metrics if metric.served
    ]
    made += [(rule, f"prometheus_adapter_rules[{number}]") for number, rule in enumerate(additional_rules(additional))]
    rules: dict[tuple[bool, str], Rule] = {}
    places: dict[tuple[bool, str], str] = {}
    errors = []
    for rule, place in made:
        key = (rule.external, rule.name)
        joined = rules.setdefault(key, rule).joined(rule)
        first = places.setdefault(key, place)
        if joined:
            rules[key] = joined
        else:
            errors.append(
                f"{place}: defines metric {rule.name} differently from {first}; "
                "give one of them another name with `as`, or make series, function, window and labels equal"
            )
    return list(rules.values()), errors


def adapter_config(apps: Iterable[App], additional: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the adapter's configuration: the rules of all apps and the additional ones, each once.

    Raise AppError if two rules contradict each other.
    """
    rules, errors = merge_rules([(app, Source(f"app {app.name}")) for app in apps], additional)
    if errors:
        raise AppError("\n".join(errors))
    return {
        "rules": [rule.as_dict() for rule in rules if not rule.external],
        "externalRules": [rule.as_dict() for rule in rules if rule.external],
    }


def adapter_rights(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of the adapter's ClusterRole for a configuration.

    The adapter lists objects if a request selects them by label; it does not read an object that is requested by name.
    A rule describes a namespace itself only if it names no object in it.
    """
    listed = set()
    for rule in config.get("rules") or []:
        named = {override["resource"] for override in rule["resources"].get("overrides", {}).values()}
        listed |= {LISTED[resource] for resource in named - {"namespace"} or named}
    rights = [
        {"apiGroups": [group], "resources": sorted(name for of, name in listed if of == group), "verbs": ["list"]}
        for group in sorted({group for group, _unused in listed})
    ]
    return rights + (WATCHED if config.get("resourceRules") else [])
