# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The values that the metrics APIs have for an app, as its autoscaler reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...apps.model import Metric
from ...common.text import shorten
from ...kube.client import ApiError
from ...kube.objects import selector_text, with_query
from ..facts import Watched
from ..link import Cause, Finding, broken, link, ok, unknown
from ..settings import CUSTOM_API, EXTERNAL_API, RESOURCE_API, Case
from .apis import place, registrations

#: Kinds that a metric may describe, by their name in the custom metrics API.
OBJECTS = {"ingress": "ingresses.networking.k8s.io", "service": "services"}


@link(
    "the metrics API has a value for every pod",
    {
        "value_missing": Cause(
            "The API lists the metric and has no value of it.",
            "ask yourself: kubectl get --raw '{path}'; then kubectl --namespace {server_namespace} logs "
            "service/{server}",
        ),
        "values_incomplete": Cause(
            "Pods without a value count as 0 on the way up and as on target on the way down.",
            "ask yourself: kubectl get --raw '{path}'",
        ),
    },
)
def values(facts: Watched, case: Case) -> Finding:
    """Check that the metrics API has a value for every settled pod, or for the object, or of the external metric."""
    good = []
    selector = selector_text(facts.raw(case.workload_path)["spec"]["selector"])
    wanted, young = case.settled(facts)
    for metric in case.app.metrics:
        if not wanted and metric.source not in ("object", "external"):
            good.append(f"{metric.name or metric.resource} of no ready pod")
            continue
        path = value_path(case, metric, selector)
        try:
            items = facts.raw(path).get("items") or []
            lacking, text = judge_values(wanted, metric, items) if items else (f"{path} is an empty list", "")
        except ApiError as error:
            if error.status not in (404, 500):
                raise
            items, lacking, text = [], str(error), ""
        if lacking and young:
            return unknown(f"no value yet: {young}")
        if lacking:
            served = registrations(facts, path.split("/")[2])
            namespace, _unused, server = (place(served[0]) if served else "NAMESPACE/SERVICE").partition("/")
            cause = "values_incomplete" if items else "value_missing"
            return broken(cause, lacking, path=path, server=server, server_namespace=namespace)
        good.append(text)
    return ok("; ".join(good))


def value_path(case: Case, metric: Metric, selector: str) -> str:
    """Return the path at which the autoscaler reads a metric."""
    namespace = case.app.namespace
    custom = f"/apis/{CUSTOM_API}/v1beta2/namespaces/{namespace}"
    if metric.source == "pods":
        return with_query(f"{custom}/pods/*/{metric.name}", {"labelSelector": selector})
    if metric.source == "object" and metric.object_kind == "namespace":
        return f"{custom}/metrics/{metric.name}"
    if metric.source == "object":
        return f"{custom}/{OBJECTS[metric.object_kind]}/{metric.object_name}/{metric.name}"
    if metric.source == "external":
        own = {"labelSelector": selector_text({"matchLabels": dict(metric.selector)})} if metric.selector else None
        return with_query(f"/apis/{EXTERNAL_API}/v1beta1/namespaces/{namespace}/{metric.name}", own)
    return with_query(f"/apis/{RESOURCE_API}/v1beta1/namespaces/{namespace}/pods", {"labelSelector": selector})


def judge_values(wanted: Sequence[str], metric: Metric, items: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the pods that lack a value, in words, and the values that exist."""
    if metric.source in ("object", "external"):
        return "", f"{metric.name} {items[0]['value']}"
    if metric.source == "pods":
        held = {item["describedObject"]["name"]: str(item["value"]) for item in items}
    else:
        held = {item["metadata"]["name"]: usage(item, metric) for item in items}
    missing = [pod for pod in wanted if not held.get(pod)]
    name = metric.name or metric.resource
    lacking = f"{name} has no value for pod {shorten(missing)}" if missing else ""
    return lacking, f"{name} " + shorten((f"{pod} {value}" for pod, value in held.items()), 2)


def usage(item: Mapping[str, Any], metric: Metric) -> str:
    """Return the usage of a pod, or of the one container that the metric names."""
    parts = [
        entry["usage"].get(metric.resource, "")
        for entry in item.get("containers") or []
        if not metric.container or entry["name"] == metric.container
    ]
    return " + ".join(part for part in parts if part)
