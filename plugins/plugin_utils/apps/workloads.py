# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Check that the workloads in a cluster can be scaled as the entries of their apps demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from ..common.entry import Findings, Source
from ..kube.client import Api, ApiError
from ..kube.waiting import in_parallel
from .model import App, Metric


def examine_workloads(api: Api, pairs: Iterable[tuple[App, Source]]) -> Findings:
    """Return errors and warnings about users' apps only, because the run applies the demo and sample apps later."""
    findings = Findings()
    for result in in_parallel(lambda pair: _examine(api, *pair), [pair for pair in pairs if pair[1].from_user]):
        findings.errors += result.errors
        findings.warnings += result.warnings
    return findings


def _examine(api: Api, app: App, source: Source) -> Findings:
    workload = _get(
        api, f"/apis/{app.workload_api}/namespaces/{app.namespace}/{app.workload_kind.lower()}s/{app.workload_name}"
    )
    title = f"{app.workload_kind} {app.namespace}/{app.workload_name}"
    if workload is None:
        where = source.where("workload")
        place = f" ({where})" if where else ""
        return Findings(
            warnings=[f"{source.name('workload')}{place}: {title} does not exist yet; the autoscaler waits for it"]
        )

    def defaults() -> list[Mapping[str, Any]]:
        ranges = (_get(api, f"/api/v1/namespaces/{app.namespace}/limitranges") or {}).get("items") or []
        return [limit for item in ranges for limit in item["spec"].get("limits") or [] if limit["type"] == "Container"]

    errors = [
        f"{source.place(f'{metric.path}.target', metric.target)}: {text}"
        for metric in app.metrics
        if metric.source in ("resource", "container_resource")
        for text in lacking(metric, title, workload["spec"]["template"]["spec"], defaults)
    ]
    return Findings(errors)


def lacking(
    metric: Metric, title: str, pod: Mapping[str, Any], defaults: Callable[[], Sequence[Mapping[str, Any]]]
) -> list[str]:
    """Return an error if a workload's pods cannot be scaled on a resource.

    Utilization is a percentage of the request, so each measured container needs a request. ``defaults`` returns the
    entries of the namespace's LimitRanges, which set requests of containers without any.
    """
    side_cars = [item for item in pod.get("initContainers") or [] if item.get("restartPolicy") == "Always"]
    containers = {item["name"]: item.get("resources") or {} for item in [*pod["containers"], *side_cars]}
    if metric.container and metric.container not in containers:
        return [f"{title} has no container {metric.container}; it has {', '.join(containers)}"]
    if metric.target_type != "utilization":
        return []
    pod_requests = (pod.get("resources") or {}).get("requests") or {}
    if not metric.container and metric.resource in pod_requests:
        return []
    measured = [metric.container] if metric.container else list(containers)
    # Kubernetes sets the request of a container that has only a limit to that limit.
    missing = [
        name
        for name in measured
        if not any(metric.resource in (containers[name].get(part) or {}) for part in ("requests", "limits"))
    ]
    if not missing or any(
        metric.resource in (limit.get(part) or {}) for limit in defaults() for part in ("defaultRequest", "default")
    ):
        return []
    example = "100m" if metric.resource == "cpu" else "128Mi"
    return [
        f"{title}: container {' and '.join(missing)} requests no {metric.resource}, but the target is a percentage "
        f"of the request; set its resources.requests.{metric.resource} (such as {example}), or a quantity as target"
    ]


def _get(api: Api, path: str) -> dict[str, Any] | None:
    try:
        return dict(api.raw(path))
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
