# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""When an object of each kind counts as ready."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.readiness import readiness
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import absent, present

JSON = dict[str, Any]


def condition(name: str, status: str = "True", **more: Any) -> JSON:
    return {"type": name, "status": status, **more}


def obj(kind: str, api_version: str, status: JSON | None, spec: JSON | None = None, generation: int = 2) -> JSON:
    body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "generation": generation}}
    return body | {"spec": spec or {}} | ({} if status is None else {"status": status})


def workload(kind: str, spec: JSON | None = None, **status: Any) -> JSON:
    return obj(kind, "apps/v1", {"observedGeneration": 2, **status}, spec)


def without_workload(reason: str, message: str) -> JSON:
    able = condition("AbleToScale", "False", reason=reason, message=message)
    return obj("HorizontalPodAutoscaler", "autoscaling/v2", {"conditions": [able]})


def staged(replicas: int, partition: int) -> JSON:
    """A StatefulSet's spec whose update leaves the pods below the partition as they are."""
    return {"replicas": replicas, "updateStrategy": {"rollingUpdate": {"partition": partition}}}


ROLLED_OUT = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
UPDATING = {"currentRevision": "1", "updateRevision": "2", "availableReplicas": 3}
SCHEDULED = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (workload("Deployment", {"replicas": 2}, **ROLLED_OUT), ""),
        (workload("Deployment", {"replicas": 0}), ""),
        (workload("Deployment"), "0 of 1 replicas are of the newest version"),
        (workload("Deployment", {"replicas": 2}, **ROLLED_OUT, **{"observedGeneration": 1}), "newest generation"),
        (workload("Deployment", {"replicas": 2}, **ROLLED_OUT | {"updatedReplicas": 1}), "1 of 2 replicas are of the"),
        (workload("Deployment", {"replicas": 2}, **ROLLED_OUT | {"replicas": 3}), "1 old replicas are still there"),
        (workload("Deployment", {"replicas": 2}, **ROLLED_OUT | {"availableReplicas": 1}), "1 of 2 replicas are avail"),
        (
            workload("Deployment", conditions=[condition("ReplicaFailure", reason="Forbidden", message="quota")]),
            "Forbidden: quota",
        ),
        (workload("DaemonSet", **SCHEDULED), ""),
        (workload("DaemonSet"), ""),
        (workload("DaemonSet", **SCHEDULED | {"updatedNumberScheduled": 1}), "1 of 2 pods are of the newest version"),
        (
            workload(
                "DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, **SCHEDULED | {"updatedNumberScheduled": 0}
            ),
            "",
        ),
        (workload("DaemonSet", **SCHEDULED | {"numberAvailable": 1}), "1 of 2 pods are available"),
        (obj("DaemonSet", "apps/v1", {"observedGeneration": 0}, generation=1), "newest generation"),
        (workload("StatefulSet", {"replicas": 2}, **ROLLED_OUT), ""),
        (
            workload("StatefulSet", {"replicas": 2}, currentRevision="1", updateRevision="2", updatedReplicas=1),
            "1 of 2 replicas are of the newest version",
        ),
        (workload("StatefulSet", {"replicas": 2}, availableReplicas=1), "1 of 2 replicas are available"),
        (workload("StatefulSet", staged(3, partition=2), **UPDATING | {"updatedReplicas": 1}), ""),
        (workload("StatefulSet", staged(3, partition=1), **UPDATING | {"updatedReplicas": 1}), "1 of 2 replicas are"),
        (workload("StatefulSet", staged(3, partition=2), **UPDATING | {"updatedReplicas": 0}), "0 of 1 replicas are"),
        (workload("StatefulSet", staged(3, partition=5), **UPDATING), ""),
        (workload("StatefulSet", {"replicas": 3, "updateStrategy": {"type": "OnDelete"}}, **UPDATING), ""),
        (workload("ReplicaSet", {"replicas": 1}, availableReplicas=1), ""),
        (workload("ReplicaSet", {"replicas": 1}), "0 of 1 replicas"),
        (obj("Job", "batch/v1", {"conditions": [condition("Complete")]}), ""),
        (obj("Job", "batch/v1", {}, {"suspend": True}), ""),
        (obj("Job", "batch/v1", {"active": 1}), "not complete: 1 pods active"),
        (obj("Pod", "v1", {"phase": "Succeeded"}), ""),
        (obj("Pod", "v1", {"phase": "Running", "conditions": [condition("Ready")]}), ""),
        (obj("Pod", "v1", {}), "phase Pending"),
        (
            obj("Pod", "v1", {"conditions": [condition("PodScheduled", "False", message="no nodes")]}),
            "PodScheduled=False (no nodes)",
        ),
        (obj("CustomResourceDefinition", "apiextensions.k8s.io/v1", {"conditions": [condition("Established")]}), ""),
        (obj("CustomResourceDefinition", "apiextensions.k8s.io/v1", {}), "no condition Established yet"),
        (obj("APIService", "apiregistration.k8s.io/v1", {"conditions": [condition("Available")]}), ""),
        (
            obj(
                "APIService", "apiregistration.k8s.io/v1", {"conditions": [condition("Available", "False", reason="X")]}
            ),
            "Available=False (X)",
        ),
        (obj("HorizontalPodAutoscaler", "autoscaling/v2", {"conditions": [condition("ScalingActive")]}), ""),
        (obj("HorizontalPodAutoscaler", "autoscaling/v2", None), "no condition ScalingActive yet"),
        (without_workload("FailedGetScale", 'get current scale: deployments.apps "shop" not found'), ""),
        (without_workload("FailedGetScale", "get current scale: forbidden"), "FailedGetScale"),
        (without_workload("FailedUpdateScale", "not found"), "FailedUpdateScale"),
        (
            obj(
                "HorizontalPodAutoscaler",
                "autoscaling/v2",
                {"conditions": [condition("ScalingActive", "False", reason="FailedGetPodsMetric")]},
            ),
            "FailedGetPodsMetric",
        ),
        (
            obj(
                "HorizontalPodAutoscaler",
                "autoscaling/v2",
                {"conditions": [condition("ScalingActive", "False", reason="ScalingDisabled")]},
            ),
            "",
        ),
        (
            obj("HorizontalPodAutoscaler", "autoscaling/v2", {"conditions": [condition("AbleToScale", "False")]}),
            "AbleToScale=False",
        ),
        (obj("Service", "v1", {"loadBalancer": {}}, {"type": "ClusterIP"}), ""),
        (obj("Service", "v1", {"loadBalancer": {}}, {"type": "LoadBalancer"}), "no external address"),
        (obj("Service", "v1", {"loadBalancer": {"ingress": [{}]}}, {"type": "LoadBalancer"}), ""),
        (obj("PersistentVolumeClaim", "v1", {"phase": "Bound"}), ""),
        (obj("PersistentVolumeClaim", "v1", {"phase": "Pending"}), "phase Pending"),
        (obj("Namespace", "v1", {"phase": "Active"}), ""),
        (obj("Namespace", "v1", {"phase": "Terminating"}), "phase Terminating"),
        (obj("ConfigMap", "v1", None), ""),
        (obj("Thing", "example.com/v1", None), ""),
        (obj("Thing", "example.com/v1", {"conditions": [condition("Other", "False")]}), ""),
        (obj("Thing", "example.com/v1", {"conditions": [condition("Ready", "False")]}), "Ready=False"),
        (obj("Thing", "example.com/v1", {"conditions": [condition("Available", "Unknown")]}), "Available=Unknown"),
        (obj("Thing", "example.com/v1", {"observedGeneration": 1}), "newest generation"),
        (obj("Prometheus", "monitoring.coreos.com/v1", None), "its operator has not seen it yet"),
        (
            obj("Prometheus", "monitoring.coreos.com/v1", {"conditions": [condition("Available")]}),
            "no condition Reconc",
        ),
        (
            obj(
                "Alertmanager",
                "monitoring.coreos.com/v1",
                {"conditions": [condition("Available"), condition("Reconciled", observedGeneration=1)]},
            ),
            "older generation",
        ),
        (
            obj(
                "Alertmanager",
                "monitoring.coreos.com/v1",
                {"conditions": [condition("Available", observedGeneration=2), condition("Reconciled")]},
            ),
            "",
        ),
    ],
)
def test_rules(live: JSON, words: str) -> None:
    verdict = readiness(live)
    assert verdict.ready is (words == "")
    assert words in verdict.reason
    assert not verdict.failed


@pytest.mark.parametrize(
    "live",
    [
        obj("Job", "batch/v1", {"conditions": [condition("Failed", reason="DeadlineExceeded")]}),
        obj("Pod", "v1", {"phase": "Failed", "reason": "Evicted"}),
        obj("PersistentVolumeClaim", "v1", {"phase": "Lost"}),
        obj(
            "CustomResourceDefinition",
            "apiextensions.k8s.io/v1",
            {"conditions": [condition("NamesAccepted", "False", reason="ListKindConflict")]},
        ),
    ],
)
def test_what_has_failed_for_good_is_not_waited_for(live: JSON) -> None:
    assert readiness(live).failed


def test_what_is_being_deleted_is_not_ready() -> None:
    live = obj("ConfigMap", "v1", None)
    live["metadata"]["deletionTimestamp"] = "now"
    assert readiness(live).reason == "is being deleted"


def test_absence_says_what_holds_an_object() -> None:
    assert absent(None).ready
    assert not present(None).ready
    live = obj("Thing", "example.com/v1", None)
    live["metadata"]["finalizers"] = ["example.com/cleanup"]
    assert absent(live).reason == "is still there, finalizers: example.com/cleanup"
    stuck = [condition("NamespaceContentRemaining", message="pods."), condition("Fine", "False")]
    reason = absent(obj("Namespace", "v1", {"conditions": stuck})).reason
    assert reason == "is still being emptied; NamespaceContentRemaining=True (pods.)"
