# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Data model of an autoscaled app. All windows and intervals are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import FleetError

#: API version and kind of each workload that can be scaled, by the word that an entry uses.
WORKLOADS = {
    "deployment": ("apps/v1", "Deployment"),
    "statefulset": ("apps/v1", "StatefulSet"),
    "replicaset": ("apps/v1", "ReplicaSet"),
}
#: API version and kind of each object that a metric can describe, by the word that an entry uses.
OBJECTS = {
    "ingress": ("networking.k8s.io/v1", "Ingress"),
    "service": ("v1", "Service"),
    "namespace": ("v1", "Namespace"),
}


class AppError(FleetError):
    """Entries are wrong. The message has one line per error: path, value, and the allowed values."""


@dataclass(frozen=True)
class Scrape:
    """How Prometheus scrapes an app.

    ``port`` is a name or a number. Prometheus scrapes the pods behind ``service``, or all pods of the workload if
    ``service`` is empty.
    """

    port: str | int
    path: str = "/metrics"
    interval: int = 5
    scheme: str = "http"
    service: str = ""


@dataclass(frozen=True)
class Metric:
    """One metric that an app scales on.

    ``source`` is pods, object, external, resource or container_resource; ``target_type`` is average, value or
    utilization. ``name`` is the metric in the API. The adapter computes it by ``query`` (a template) from ``series``;
    ``labels`` maps a resource to the label of the series that names it.
    """

    source: str
    target: str
    target_type: str = "average"
    name: str = ""
    series: str = ""
    function: str = ""
    window: int = 0
    quantile: float = 0.0
    over: str = ""
    query: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    object_kind: str = ""
    object_name: str = ""
    resource: str = ""
    container: str = ""
    #: Path within the entry, such as scale_on[0].
    path: str = field(default="scale_on", compare=False)

    @property
    def external(self) -> bool:
        """Whether the metric belongs to no object of the cluster."""
        return self.source == "external"

    @property
    def served(self) -> bool:
        """Whether a rule of the adapter serves the metric."""
        return self.source in ("pods", "object", "external")


@dataclass(frozen=True)
class App:
    """A workload, its metrics, and its least and greatest number of replicas.

    ``behavior`` is the field of that name of the autoscaler.
    """

    name: str
    namespace: str
    workload_kind: str
    workload_name: str
    scrape: Scrape | None
    metrics: tuple[Metric, ...]
    min_replicas: int
    max_replicas: int
    behavior: Mapping[str, Any]
    alerts: bool = True

    @property
    def workload_api(self) -> str:
        """API version of the workload, such as apps/v1."""
        return next(version for version, kind in WORKLOADS.values() if kind == self.workload_kind)
