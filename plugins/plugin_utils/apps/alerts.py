# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Alert rules of one autoscaled app. They read the same queries as the adapter.

The rules in roles/prometheus/files/rules cover what kube-state-metrics knows about all autoscalers. The rules here need
the series of the app: they alert if the series are missing, and if the number of replicas does not follow them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..kube.quantity import TOLERANCE, quantity
from .model import App, Metric
from .promql import expand

RUNBOOK = "https://github.com/kubescale/fleet/blob/main/docs/alerts.md#"
#: Share by which demand may exceed the replicas, beyond the autoscaler's tolerance: it reads samples at other times.
SLACK = 0.1
#: Pattern for the end of a pod's name, by the kind of its workload.
POD_NAMES = {"Deployment": "-[a-z0-9]+-[a-z0-9]{5}", "ReplicaSet": "-[a-z0-9]{5}", "StatefulSet": "-[0-9]+"}


def app_rules(app: App) -> list[dict[str, Any]]:
    """Return the rule groups of an app, in the format of Prometheus' rule files.

    The list is empty if alerts of the app are off, or if it scales on CPU and memory only.
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
        + f" for 5 minutes: Prometheus has no {metric.series} from which the adapter could compute it.",
        next=f"Does the app's metrics endpoint report {metric.series}, as 0 before the first event? If so, see the "
        "targets page of Prometheus: does it list the pod, is the pod up, and which labels does it have?",
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
            "limits it? A value that differs from Prometheus' means that the adapter has another rule.",
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
    """Return a query for the number of ready pods without a value, or for 1 if an object has no value."""
    if metric.source != "pods":
        return f"absent({query_for(app, metric)})"
    label = metric.labels["pod"]
    values = query_for(app, metric)
    if label != "pod":
        values = f'label_replace({values}, "pod", "$1", "{label}", "(.*)")'
    ready = f'kube_pod_status_ready{{namespace="{app.namespace}",pod=~"{pods_of(app)}",condition="true"}}'
    return f"count(max by (pod) ({ready}) == 1 unless on (pod) ({values})) > 0"


def not_following(app: App, metric: Metric) -> str:
    """Return a query for the replicas that a metric demands, if the autoscaler wants clearly fewer."""
    tolerance = quantity(str(app.behavior.get("scaleUp", {}).get("tolerance", TOLERANCE)))
    demanded = f"clamp_max(sum({query_for(app, metric)}) / {quantity(metric.target):g}, {app.max_replicas})"
    desired = (
        "kube_horizontalpodautoscaler_status_desired_replicas"
        f'{{namespace="{app.namespace}",horizontalpodautoscaler="{app.name}"}}'
    )
    return f"{demanded} > {1 + tolerance + SLACK:g} * max({desired})"


def query_for(app: App, metric: Metric) -> str:
    """Return the adapter's query for the metric of this app's pods, or of its object."""
    matchers = {label: app.namespace for resource, label in metric.labels.items() if resource == "namespace"}
    grouped = metric.labels.get("pod" if metric.source == "pods" else metric.object_kind, "")
    if metric.source == "pods":
        matchers[grouped] = pods_of(app)
    elif metric.source == "object":
        matchers[grouped] = metric.object_name
    matchers |= metric.selector
    return expand(metric.query, metric.series, matchers, grouped, [grouped] if metric.source == "pods" else [])


def pods_of(app: App) -> str:
    """Return a regular expression for the names of an app's pods. Prometheus anchors it."""
    return app.workload_name + POD_NAMES[app.workload_kind]


def _described(metric: Metric) -> str:
    return f"{metric.object_kind}/{metric.object_name}" if metric.source == "object" else "what it selects"
