# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The subjects of checks: the cluster with the settings of a run, and one app of it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..apps.model import App, Metric
from ..apps.objects import app_objects
from ..apps.scraping import job_name
from ..kube.objects import condition, holds
from .facts import Watched, key, seconds_since

CUSTOM_API = "custom.metrics.k8s.io"
EXTERNAL_API = "external.metrics.k8s.io"
RESOURCE_API = "metrics.k8s.io"
#: Plurals of the kinds of workloads that can be scaled.
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
#: Prefix of a monitor's scrape jobs, and the field with its endpoints.
MONITORS = {"PodMonitor": ("podMonitor", "podMetricsEndpoints"), "ServiceMonitor": ("serviceMonitor", "endpoints")}
#: Seconds for which a ready pod may have no target, series or value, because a scrape has to come first.
SETTLING = 30.0


@dataclass(frozen=True)
class Seen:
    """Facts about the API server that are not among its answers; None where the controller could not see one.

    ``server_certificate`` reads the API server's certificate (PEM) when a check needs it.
    """

    now: datetime.datetime
    server_now: datetime.datetime | None = None
    server_certificate: Callable[[], str | None] = lambda: None
    #: Time of the look in seconds, by a clock that nobody sets.
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Settings:
    """The cluster as a subject, and the settings that all checks of a run share.

    ``now`` is the API server's clock, ``service`` is Prometheus' (see kube/prometheus.py). ``owners`` names, for each
    API group, the role whose component must serve it; an API without one may belong to anybody. The groups ``served``
    must have a server. ``machines`` must be nodes. Certificates must be valid for ``certificate_days`` more days.
    ``pools`` are the scrape jobs of apps, which the links of the apps examine.
    """

    now: datetime.datetime
    service: str
    flavor: str
    owners: Mapping[str, str]
    seen: Seen
    served: frozenset[str] = frozenset()
    machines: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    certificate_days: int = 14
    pools: frozenset[str] = frozenset()

    @property
    def prometheus_namespace(self) -> str:
        """Namespace of Prometheus."""
        return self.service.partition("/")[0]

    def values(self) -> dict[str, Any]:
        """Return the values that advice may name."""
        return {"prometheus_namespace": self.prometheus_namespace}


@dataclass(frozen=True)
class Case:
    """One app as a subject, with the objects that follow from its entry."""

    app: App
    objects: tuple[Mapping[str, Any], ...]
    settings: Settings

    @classmethod
    def of(cls, app: App, settings: Settings) -> Case:
        """Return the case of an app."""
        return cls(app, tuple(app_objects([app], settings.flavor)), settings)

    @property
    def absent(self) -> frozenset[str]:
        """Components that the cluster does not have on purpose."""
        return self.settings.absent

    def values(self) -> dict[str, Any]:
        """Return the values that advice may name."""
        app = self.app
        return self.settings.values() | {
            "app": app.name,
            "namespace": app.namespace,
            "workload": f"{app.workload_kind.lower()}/{app.workload_name}",
            "min": app.min_replicas,
            "pod": "POD",
        }

    def made(self, *kinds: str) -> Mapping[str, Any] | None:
        """Return the first object of one of the kinds, or None if the entry makes none."""
        return next((item for item in self.objects if item["kind"] in kinds), None)

    @property
    def workload_path(self) -> str:
        """Path of the app's workload."""
        app = self.app
        return f"/apis/apps/v1/namespaces/{app.namespace}/{PLURALS[app.workload_kind]}/{app.workload_name}"

    @property
    def autoscaler_path(self) -> str:
        """Path of the app's autoscaler."""
        made = self.made("HorizontalPodAutoscaler")
        name = made["metadata"]["name"] if made else self.app.name
        return f"/apis/autoscaling/v2/namespaces/{self.app.namespace}/horizontalpodautoscalers/{name}"

    @property
    def pool(self) -> str:
        """Name of the app's scrape job in Prometheus."""
        monitor = self.made(*MONITORS)
        return f"{MONITORS[monitor['kind']][0]}/{key(monitor)}/0" if monitor else job_name(self.app)

    def metrics_of(self, *sources: str) -> list[Metric]:
        """Return the app's metrics from these sources."""
        return [metric for metric in self.app.metrics if metric.source in sources]

    @property
    def adapter_metrics(self) -> list[Metric]:
        """Metrics that the adapter reads from Prometheus."""
        return self.metrics_of("pods", "object", "external")

    @property
    def is_scraped(self) -> bool:
        """Whether Prometheus must scrape the app for its autoscaler."""
        return bool(self.app.scrape and self.adapter_metrics)

    @property
    def groups(self) -> list[str]:
        """API groups that serve the app's metrics."""
        groups = {"pods": CUSTOM_API, "object": CUSTOM_API, "external": EXTERNAL_API}
        return list(dict.fromkeys(groups.get(metric.source, RESOURCE_API) for metric in self.app.metrics))

    def pods(self, facts: Watched) -> list[dict[str, Any]]:
        """Return the pods of the app's workload."""
        return facts.pods(self.app.namespace, facts.raw(self.workload_path)["spec"]["selector"])

    def settled(self, facts: Watched) -> tuple[list[str], str]:
        """Return the names of the pods that are ready for so long that Prometheus must have scraped them.

        If there are none, return all ready pods, and the reason why nothing can be concluded from what they lack.
        """
        ready = [pod for pod in self.pods(facts) if holds(pod, "Ready")]
        patience = max(SETTLING, 3.0 * self.app.scrape.interval) if self.app.scrape else SETTLING
        old = [
            pod
            for pod in ready
            if seconds_since(condition(pod, "Ready").get("lastTransitionTime"), self.settings.now) >= patience
        ]
        young = f"its pods are ready for less than {patience:.0f} s, look again" if ready and not old else ""
        return sorted(pod["metadata"]["name"] for pod in old or ready), young
