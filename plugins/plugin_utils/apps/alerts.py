# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Alert rules of one autoscaled app, made of the adapter's own queries for its metrics.

What kube-state-metrics says of every autoscaler is in roles/prometheus/files/rules. Here is what needs the app's own
series: that they are there, and that the number of replicas follows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..kube.quantity import TOLERANCE, quantity
from .promql import expand

if TYPE_CHECKING:
    from .model import App, Metric

RUNBOOK = "https://github.com/kubescale/fleet/blob/main/docs/alerts.md#"
# Demand may be this much above what there is, beyond the autoscaler's tolerance: it sees samples at other times.
SLACK = 0.1
# How the pods of a workload are called.
POD_NAMES = {"Deployment": "-[a-z0-9]+-[a-z0-9]{5}", "ReplicaSet": "-[a-z0-9]{5}", "StatefulSet": "-[0-9]+"}


def app_rules(app: App) -> list[dict[str, Any]]:
    """Rule groups (as a rule file of Prometheus has them) of an app; none when it wants none or has nothing to watch.

    An app that scales on CPU or memory alone has no series of its own.
    """
    rules = [rule for metric in app.metrics if metric.served for rule in _rules(app, metric)] if app.alerts else []
    return [{"name": f"autoscaled-app-{app.name}", "rules": rules}] if rules else []


def _rules(app: App, metric: Metric) -> Iterator[dict[str, Any]]:
    place = f"{app.namespace}/{app.name}"
    yield _alert(
        "AutoscaledAppMetricMissing",
        "critical",
        app,
        metric,
        missing(app, metric),
        "5m",
        summary="The metric that an app scales on is missing",
        description=f"{place} has had no {metric.name} "
        + ("for {{ $value }} of its ready pods" if metric.source == "pods" else f"of {_described(metric)}")
        + f" for 5 minutes: there is no {metric.series} that the adapter could make it of.",
        next=f"Is {metric.series} at the app's metrics endpoint, at 0 even before the first event? Then the targets "
        "page of Prometheus: is the pod there, is it up, and which labels does it have?",
    )
    if metric.target_type == "average" and app.behavior.get("scaleUp", {}).get("selectPolicy") != "Disabled":
        yield _alert(
            "AutoscaledAppNotFollowing",
            "critical",
            app,
            metric,
            not_following(app, metric),
            "10m",
            summary="An app does not get the replicas that its metric demands",
            description=f"By its {metric.name} and the target of {metric.target}, {place} has needed "
            + '{{ $value | printf "%.1f" }} replicas for 10 minutes, and its autoscaler wants clearly fewer.',
            next=f"kubectl -n {app.namespace} describe hpa {app.name}: what value does it read, and which condition "
            "holds it back? A value that differs from Prometheus' means that the adapter's rule is another one.",
        )


def _alert(
    name: str, severity: str, app: App, metric: Metric, expr: str, lasting: str, **annotations: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expr,
        "for": lasting,
        "labels": {"severity": severity, "namespace": app.namespace, "app": app.name, "metric": metric.name},
        "annotations": {**annotations, "runbook_url": RUNBOOK + name.lower()},
    }


def missing(app: App, metric: Metric) -> str:
    """Expression: how many ready pods have no value; for what is not of pods, 1 where there is no value."""
    if metric.source != "pods":
        return f"absent({query_of(app, metric)})"
    label = metric.labels["pod"]
    values = query_of(app, metric)
    if label != "pod":
        values = f'label_replace({values}, "pod", "$1", "{label}", "(.*)")'
    ready = f'kube_pod_status_ready{{namespace="{app.namespace}",pod=~"{pods_of(app)}",condition="true"}}'
    return f"count(max by (pod) ({ready}) == 1 unless on (pod) ({values})) > 0"


def not_following(app: App, metric: Metric) -> str:
    """Expression: the replicas that a metric demands, where the autoscaler wants clearly fewer."""
    tolerance = quantity(str(app.behavior.get("scaleUp", {}).get("tolerance", TOLERANCE)))
    wanted = f"clamp_max(sum({query_of(app, metric)}) / {quantity(metric.target):g}, {app.max_replicas})"
    desired = (
        "kube_horizontalpodautoscaler_status_desired_replicas"
        f'{{namespace="{app.namespace}",horizontalpodautoscaler="{app.name}"}}'
    )
    return f"{wanted} > {1 + tolerance + SLACK:g} * max({desired})"


def query_of(app: App, metric: Metric) -> str:
    """The adapter's query for the metric of this app's pods, or of its object."""
    matchers = {label: app.namespace for resource, label in metric.labels.items() if resource == "namespace"}
    grouped = metric.labels.get("pod" if metric.source == "pods" else metric.object_kind, "")
    if metric.source == "pods":
        matchers[grouped] = pods_of(app)
    elif metric.source == "object":
        matchers[grouped] = metric.object_name
    matchers |= metric.selector
    return expand(metric.query, metric.series, matchers, grouped, [grouped] if metric.source == "pods" else [])


def pods_of(app: App) -> str:
    """Regular expression (anchored, as Prometheus does) for the names of an app's pods."""
    return app.workload_name + POD_NAMES[app.workload_kind]


def _described(metric: Metric) -> str:
    return f"{metric.object_kind}/{metric.object_name}" if metric.source == "object" else "what it selects"
