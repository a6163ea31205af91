# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Samples of one autoscaler under load, read from the API once per interval.

The controller's clock gives every time, at the moment of the look, so that other machines' clocks do not matter; a step
is therefore late by one interval at most. Times are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..kube.client import JSON, Api, ApiError
from ..kube.objects import SelectorError, explain, holds, matches, parse_time, selector_text, with_query
from ..kube.prometheus import Reader
from ..kube.quantity import quantity
from .goal import RESOURCES, Goal, Happening, Run, Sample, ScalingError
from .settings import CUSTOM_API

#: Conditions of an autoscaler that are True when all is well; the others are False then.
GOOD_CONDITIONS = ("AbleToScale", "ScalingActive")


class Observer:
    """Samples one autoscaler through the API, in parallel requests over one connection pool."""

    def __init__(self, api: Api, namespace: str, name: str, job: str = "", weight: float = 1.0) -> None:
        self.api, self.namespace, self.name, self.job = api, namespace, name, job
        self.autoscaler = self._autoscaler()
        target = self.autoscaler["spec"]["scaleTargetRef"]
        workload = api.get(target["apiVersion"], target["kind"], target["name"], namespace)
        if workload is None:
            raise ScalingError(f"{target['kind']} {namespace}/{target['name']}, which {name} scales, does not exist")
        self.goal = Goal.of(self.autoscaler, workload, weight)
        self.selector = workload["spec"].get("selector")
        try:
            self.labels = selector_text(self.selector)
        except SelectorError as error:
            raise ScalingError(f"{target['kind']} {namespace}/{target['name']}: {error}") from error
        self.began = time.time()
        self.trouble = ""
        self.app_pods: list[JSON] = []
        self.load_pods: list[JSON] = []

    def _autoscaler(self) -> JSON:
        found = self.api.get("autoscaling/v2", "HorizontalPodAutoscaler", self.name, self.namespace)
        if found is None:
            raise ScalingError(
                f"there is no HorizontalPodAutoscaler {self.namespace}/{self.name}; run site.yml with --tags hpa"
            )
        return found

    def _metric(self) -> float | None:
        try:
            if self.goal.resource:
                values = self._usage(self.goal.resource)
            else:
                found = metric_by_pod(self.api, self.namespace, self.goal.metric, self.labels)
                values = [quantity(value) for value in found.values()]
        except ApiError as error:
            self.trouble = str(error)
            return None
        return sum(values) / len(values) if values else None

    def _usage(self, resource: str) -> list[float]:
        """Return the use of a resource by each pod, in the unit of the report."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self.namespace}/pods"
        return [
            sum(quantity(container["usage"][resource]) for container in item["containers"]) / RESOURCES[resource][1]
            for item in self.api.raw(with_query(path, {"labelSelector": self.labels})).get("items") or []
        ]

    def _pods(self) -> list[JSON]:
        return self.api.list("v1", "Pod", self.namespace).items

    def sample(self, pool: ThreadPoolExecutor, run: Run) -> Sample:
        """One look at autoscaler, pods and metric; new pods' first Ready moments go to ``run``."""
        asked = (pool.submit(self._autoscaler), pool.submit(self._pods), pool.submit(self._metric))
        self.autoscaler, pods, metric = asked[0].result(), asked[1].result(), asked[2].result()
        now = round(time.time() - self.began, 2)
        mine = [
            pod
            for pod in pods
            if matches(self.selector, pod["metadata"].get("labels") or {})
            and "deletionTimestamp" not in pod["metadata"]
        ]
        ready = [pod for pod in mine if holds(pod, "Ready")]
        for pod in ready:
            run.pods.setdefault(pod["metadata"]["name"], now)
        self.app_pods = mine
        self.load_pods = [
            pod for pod in pods if (pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name") == self.job
        ]
        status = self.autoscaler.get("status", {})
        return Sample(
            now,
            any(attacking(pod) for pod in self.load_pods),
            metric,
            seen_by(self.autoscaler, self.goal),
            len(mine),
            len(ready),
            status.get("currentReplicas", 0),
            status.get("desiredReplicas", 0),
        )

    def events(self) -> list[Happening]:
        """Events of the autoscaler since the observation began, oldest first."""
        about = f"involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={self.name}"
        found = []
        for event in self.api.list("v1", "Event", self.namespace, field_selector=about).items:
            stamp = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
            seconds = parse_time(stamp).timestamp() - self.began
            if seconds >= -1:
                found.append(Happening(round(seconds, 1), event.get("reason", ""), event.get("message", "")))
        return sorted(found, key=lambda happening: happening.t)

    def why(self) -> str:
        """Return the autoscaler's own complaint, for an error message."""
        conditions = self.autoscaler.get("status", {}).get("conditions")
        if not conditions:
            return "it has no conditions yet"
        said = [
            f"{entry['type']} is {entry['status']} ({explain(entry)})"
            for entry in conditions
            if (entry["status"] == "True") is not (entry["type"] in GOOD_CONDITIONS)
        ]
        return "; ".join(said) or "it complains about nothing, so the load may have ended too early (load_duration)"

    def load_said(self) -> str:
        """Return the load generator's report about its requests, or why it could not run."""
        for pod in self.load_pods:
            for number, status in enumerate(pod.get("status", {}).get("initContainerStatuses") or []):
                ended = status.get("state", {}).get("terminated")
                if ended and ended.get("exitCode"):
                    said = self._log(pod, "initContainers", number)
                    return f"The load generator failed with exit code {ended['exitCode']}: {said}"
            report = self._log(pod, "containers", 0)
            if isinstance(report, dict):
                errors = "; ".join(report.get("errors") or [])[:300]
                success = f"{report.get('success', 0):.0%}"
                return f"Of the load's {report.get('requests')} requests {success} succeeded. {errors}".strip()
        return "The load generator left no report."

    def _log(self, pod: Mapping[str, Any], kind: str, number: int) -> JSON | str:
        metadata, container = pod["metadata"], pod["spec"][kind][number]["name"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
        try:
            return self.api.raw(path, {"container": container, "tailLines": "20"})
        except ApiError as error:
            return str(error)


def attacking(pod: Mapping[str, Any]) -> bool:
    """Whether the load's pod is sending requests: its first container runs."""
    statuses = pod.get("status", {}).get("initContainerStatuses") or []
    return bool(statuses) and "running" in statuses[0].get("state", {})


def seen_by(autoscaler: Mapping[str, Any], goal: Goal) -> float | None:
    """Average of the goal's metric that an autoscaler last wrote into its status."""
    for entry in autoscaler.get("status", {}).get("currentMetrics") or []:
        if goal.resource:
            if entry.get("type") == "Resource" and entry["resource"]["name"] == goal.resource:
                return quantity(entry["resource"]["current"].get("averageValue", "0")) / RESOURCES[goal.resource][1]
        elif entry.get("type") == "Pods" and entry["pods"]["metric"]["name"] == goal.metric:
            return quantity(entry["pods"]["current"].get("averageValue", "0"))
    return None


def metric_by_pod(reader: Reader, namespace: str, metric: str, selector: str) -> dict[str, str]:
    """Return the value (a Kubernetes quantity) of a Pods metric for every pod that ``selector`` chooses."""
    path = with_query(f"/apis/{CUSTOM_API}/v1beta2/namespaces/{namespace}/pods/*/{metric}", {"labelSelector": selector})
    return {item["describedObject"]["name"]: item["value"] for item in reader.raw(path).get("items") or []}
