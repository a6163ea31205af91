# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The goal of an autoscaler, the samples of one load, and the steps that follow from them. Times are seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import FleetError
from ..kube.quantity import TOLERANCE, quantity

#: Resources as people read them: the name with the unit, and that unit's share of a core or byte.
RESOURCES = {"cpu": ("cpu in millicores", 0.001), "memory": ("memory in MiB", 2**20)}


class ScalingError(FleetError):
    """The app did not scale as the load demands; the message says at which step it stopped, and why."""


@dataclass(frozen=True)
class Goal:
    """The target of an autoscaler per pod, and its bounds.

    ``target`` is the metric per pod, ``tolerance`` the share of it that is let pass. One request per second adds
    ``weight`` to the metric of all pods together, and a pod has ``base`` of it without any. ``resource`` is cpu or
    memory; empty for a metric of the custom metrics API.
    """

    namespace: str
    name: str
    metric: str
    target: float
    minimum: int
    maximum: int
    tolerance: float
    weight: float = 1.0
    base: float = 0.0
    resource: str = ""

    @classmethod
    def of(cls, autoscaler: Mapping[str, Any], workload: Mapping[str, Any], weight: float = 1.0) -> Goal:
        """Goal of an autoscaling/v2 object's first Pods metric, or else of its first Resource metric.

        ``ScalingError`` when it has neither.
        """
        spec, metadata = autoscaler["spec"], autoscaler["metadata"]
        pods = pod_metrics(autoscaler)
        resources = [entry["resource"] for entry in spec.get("metrics") or [] if entry.get("type") == "Resource"]
        if pods:
            metric, resource = pods[0]["metric"]["name"], ""
            target = quantity(pods[0]["target"]["averageValue"])
        elif resources:
            resource = resources[0]["name"]
            metric, unit = RESOURCES[resource]
            target = resource_target(resources[0], workload) / unit
        else:
            raise ScalingError(
                f"HorizontalPodAutoscaler {metadata['namespace']}/{metadata['name']} has no metric of type Pods or "
                "Resource"
            )
        tolerance = ((spec.get("behavior") or {}).get("scaleUp") or {}).get("tolerance")
        return cls(
            metadata["namespace"],
            metadata["name"],
            metric,
            target,
            spec.get("minReplicas", 1),
            spec["maxReplicas"],
            quantity(str(tolerance)) if tolerance is not None else TOLERANCE,
            weight,
            resource=resource,
        )

    def replicas(self, rate: float) -> int:
        """Replicas at which so many requests per second are met exactly, within the autoscaler's bounds."""
        return self._bounded(rate, self.target)

    def enough(self, rate: float) -> int:
        """Replicas with which the autoscaler rests: ``replicas``, less what its tolerance lets pass."""
        return self._bounded(rate, self.target * (1 + self.tolerance))

    def _bounded(self, rate: float, limit: float) -> int:
        if limit <= self.base:
            return self.maximum
        # Rounded first: 5.000000000000001 of a counter's rate is 5.
        demanded = math.ceil(round(rate * self.weight / (limit - self.base), 6))
        return max(self.minimum, min(self.maximum, demanded))


def pod_metrics(autoscaler: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the Pods metrics of an autoscaler: name and target."""
    return [entry["pods"] for entry in autoscaler["spec"].get("metrics") or [] if entry.get("type") == "Pods"]


def resource_target(resource: Mapping[str, Any], workload: Mapping[str, Any]) -> float:
    """Return the target of a Resource metric per pod, in cores or bytes. A percentage is of the pod's request."""
    target = resource["target"]
    if "averageValue" in target:
        return quantity(target["averageValue"])
    containers = workload["spec"]["template"]["spec"]["containers"]
    requests = [(container.get("resources") or {}).get("requests") or {} for container in containers]
    return (
        sum(quantity(str(asked.get(resource["name"], "0"))) for asked in requests) * target["averageUtilization"] / 100
    )


@dataclass(frozen=True)
class Sample:
    """The state at one moment; ``t`` is in seconds since the observation began. None means that the API did not answer.

    ``metric`` is the average per pod from the metrics API, ``seen`` the one that the autoscaler wrote into its status.
    """

    t: float
    load: bool
    metric: float | None
    seen: float | None
    pods: int
    ready: int
    current: int
    desired: int


@dataclass(frozen=True)
class Happening:
    """An event that the autoscaler recorded."""

    t: float
    reason: str
    message: str


@dataclass
class Run:
    """One observed load: its terms, its samples, and what happened."""

    goal: Goal
    rate: float
    began: float
    samples: list[Sample] = field(default_factory=list)
    events: list[Happening] = field(default_factory=list)
    pods: dict[str, float] = field(default_factory=dict)

    def steps(self) -> dict[str, float | None]:
        """When each step of the reaction was first seen (seconds since the observation began; None: not yet)."""
        return find_steps(self.samples, self.goal, self.rate)


def first(samples: Sequence[Sample], test: Callable[[Sample], bool], after: float | None) -> float | None:
    """Time of the first sample from ``after`` on that passes a test."""
    if after is None:
        return None
    return next((sample.t for sample in samples if sample.t >= after and test(sample)), None)


def find_steps(samples: Sequence[Sample], goal: Goal, rate: float) -> dict[str, float | None]:
    """Times of the steps from load start to first scale-in, in the order of the chain."""
    start = first(samples, lambda sample: sample.load, 0.0)
    before = next((sample for sample in reversed(samples) if start is not None and sample.t <= start), None)
    desired, ready = (before.desired, before.ready) if before else (0, 0)
    limit = goal.target * (1 + goal.tolerance)
    enough = goal.enough(rate)
    end = first(samples, lambda sample: not sample.load, start)
    top = max((sample.desired for sample in samples if end is not None and sample.t <= end), default=0)
    return {
        "load_start": start,
        "metric_over_target": first(samples, lambda sample: sample.metric is not None and sample.metric > limit, start),
        "decision": first(samples, lambda sample: sample.desired > desired, start),
        "first_new_pod_ready": first(samples, lambda sample: sample.ready > ready, start),
        "demanded_ready": first(samples, lambda sample: sample.ready >= enough and sample.desired >= enough, start),
        "load_end": end,
        "scale_in": first(samples, lambda sample: sample.desired < top, end),
    }
