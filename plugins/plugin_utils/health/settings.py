# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What the doctor's examinations share: the settings of a run, and how they read and write down what they saw."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..kube.client import ApiError
from ..kube.objects import matches, parse_time
from .checks import Watched

CUSTOM_API = "custom.metrics.k8s.io"
EXTERNAL_API = "external.metrics.k8s.io"
RESOURCE_API = "metrics.k8s.io"
#: Plurals of the kinds of workloads that can be scaled.
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}


@dataclass(frozen=True)
class Settings:
    """What all examinations of a run share.

    ``now`` is the API server's clock, ``service`` is Prometheus' (see prometheus.py). ``owners`` names, for each API
    group, the role whose component is to serve it; an API without one may belong to anybody.
    """

    now: datetime.datetime
    service: str
    flavor: str = "operator"
    owners: Mapping[str, str] = field(default_factory=dict)


def optional(facts: Watched, path: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The answer at a path, None when there is no such object or kind."""
    try:
        return facts.raw(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def pods_in(facts: Watched, namespace: str, selector: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the pods of a namespace that a selector chooses, without those that end or have ended."""
    return [
        pod
        for pod in facts.items(f"/api/v1/namespaces/{namespace}/pods")
        if "deletionTimestamp" not in pod["metadata"]
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and matches(selector, pod["metadata"].get("labels") or {})
    ]


def seconds_since(text: str | None, now: datetime.datetime) -> float:
    """Return the seconds from a time of the API to now; infinite if there is no time."""
    return (now - parse_time(text)).total_seconds() if text else float("inf")


def containers(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Containers that run as long as the pod does, sidecars included."""
    beside = [entry for entry in template.get("initContainers") or [] if entry.get("restartPolicy") == "Always"]
    return [*beside, *template["containers"]]


def lacking_request(template: Mapping[str, Any], resource: str, only: str = "") -> list[str]:
    """Containers (``only`` one, if named) that request none of a resource; a limit is a request, too."""

    def asks(item: Mapping[str, Any]) -> bool:
        return any(resource in ((item.get("resources") or {}).get(part) or {}) for part in ("requests", "limits"))

    if not only and asks(template):
        return []
    return [entry["name"] for entry in containers(template) if only in ("", entry["name"]) and not asks(entry)]
