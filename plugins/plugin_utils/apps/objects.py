# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects of autoscaled apps: autoscalers, monitors, and alerts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .alerts import app_rules
from .model import OBJECTS, App, Metric, Scrape
from .scraping import controller_pattern, standalone_objects


def app_objects(apps: Iterable[App], flavor: str = "operator") -> list[dict[str, Any]]:
    """Return the autoscaler of each app, its alerts, and the objects by which Prometheus scrapes it.

    ``flavor`` is operator or standalone, or "" if this collection runs no Prometheus: then only autoscalers are made.
    """
    apps = list(apps)
    rules = [group for app in apps for group in app_rules(app)]
    objects = standalone_objects(apps, rules) if flavor == "standalone" else []
    for app in apps:
        if app.scrape and flavor == "operator":
            objects.append(monitor(app, app.scrape))
        objects.append(autoscaler(app))
        if flavor == "operator" and (groups := app_rules(app)):
            objects.append(_object("monitoring.coreos.com/v1", "PrometheusRule", app, {"groups": groups}))
    return objects


def autoscaler(app: App) -> dict[str, Any]:
    """Return the HorizontalPodAutoscaler of an app."""
    spec = {
        "scaleTargetRef": {"apiVersion": app.workload_api, "kind": app.workload_kind, "name": app.workload_name},
        "minReplicas": app.min_replicas,
        "maxReplicas": app.max_replicas,
        "metrics": [metric_spec(metric) for metric in app.metrics],
        "behavior": dict(app.behavior),
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", app, spec)


def metric_spec(metric: Metric) -> dict[str, Any]:
    """Return a metric as an autoscaler's spec has it."""
    if metric.target_type == "utilization":
        target: dict[str, Any] = {"type": "Utilization", "averageUtilization": int(metric.target.removesuffix("%"))}
    elif metric.target_type == "value":
        target = {"type": "Value", "value": metric.target}
    else:
        target = {"type": "AverageValue", "averageValue": metric.target}
    if metric.source == "resource":
        return {"type": "Resource", "resource": {"name": metric.resource, "target": target}}
    if metric.source == "container_resource":
        resource = {"name": metric.resource, "container": metric.container, "target": target}
        return {"type": "ContainerResource", "containerResource": resource}
    identity: dict[str, Any] = {"name": metric.name}
    if metric.selector:
        identity["selector"] = {"matchLabels": dict(metric.selector)}
    if metric.source == "object":
        version, kind = OBJECTS[metric.object_kind]
        described = {"apiVersion": version, "kind": kind, "name": metric.object_name}
        return {"type": "Object", "object": {"describedObject": described, "metric": identity, "target": target}}
    if metric.source == "external":
        return {"type": "External", "external": {"metric": identity, "target": target}}
    return {"type": "Pods", "pods": {"metric": identity, "target": target}}


def monitor(app: App, scrape: Scrape) -> dict[str, Any]:
    """Return the PodMonitor of an app, or its ServiceMonitor if its metrics are behind a Service.

    The labels of the app's pods are not known here. So the monitor selects all pods (or Services) of the namespace,
    and a relabeling keeps those of the app's workload (or of the Service's name).
    """
    if scrape.service:
        keep = {"sourceLabels": ["__meta_kubernetes_service_name"], "regex": re.escape(scrape.service)}
        port: dict[str, Any] = {"port" if isinstance(scrape.port, str) else "targetPort": scrape.port}
        kind, endpoints = "ServiceMonitor", "endpoints"
    else:
        keep = {
            "sourceLabels": ["__meta_kubernetes_pod_controller_kind", "__meta_kubernetes_pod_controller_name"],
            "separator": "/",
            "regex": controller_pattern(app),
        }
        port = {"port" if isinstance(scrape.port, str) else "portNumber": scrape.port}
        kind, endpoints = "PodMonitor", "podMetricsEndpoints"
    endpoint = {
        **port,
        "path": scrape.path,
        "scheme": scrape.scheme,
        "interval": f"{scrape.interval}s",
        "relabelings": [{"action": "keep", **keep}, {"targetLabel": "job", "replacement": app.name}],
    }
    return _object("monitoring.coreos.com/v1", kind, app, {"selector": {}, endpoints: [endpoint]})


def _object(version: str, kind: str, app: App, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": app.name, "namespace": app.namespace, "labels": {"app.kubernetes.io/name": app.name}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
