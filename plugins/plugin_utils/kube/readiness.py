# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Rules of each kind of object that decide whether it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .objects import condition, holds, reason_of, say_condition, status_of

#: Kinds that are ready as soon as the API server has stored them. Nothing needs to read them again.
STATIC_KINDS = frozenset(
    {
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Secret",
        "StorageClass",
        "PriorityClass",
        "NetworkPolicy",
        "ResourceQuota",
        "LimitRange",
        "CronJob",
    }
)
_WORKLOADS = {("apps", kind) for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")} | {
    ("batch", kind) for kind in ("CronJob", "Job")
}
#: Custom resources whose operator reports the conditions Available and Reconciled. Both must be True.
_OPERATOR_CONDITIONS = {"monitoring.coreos.com": {"Prometheus", "PrometheusAgent", "Alertmanager", "ThanosRuler"}}


@dataclass(frozen=True)
class Verdict:
    """Whether an object is ready, the reason if it is not, and whether it can never become ready."""

    ready: bool
    reason: str = ""
    failed: bool = False


READY = Verdict(True)


def is_workload(obj: Mapping[str, Any]) -> bool:
    """Return whether a controller runs pods for an object. The pods may outlive it if its deletion does not wait."""
    group, kind = str(obj["apiVersion"]).rpartition("/")[0], obj["kind"]
    return kind in _OPERATOR_CONDITIONS.get(group, ()) or (group, kind) in _WORKLOADS


def readiness(obj: Mapping[str, Any]) -> Verdict:
    """Return the verdict on one live object by the rules of its kind.

    An object of a kind without a rule is ready unless its condition Ready or Available is not True, or its status
    belongs to an older generation. An HPA is ready when it can compute a replica count (ScalingActive), which needs its
    metric. An HPA is also ready if its workload is scaled to zero or does not exist: waiting could not change that.
    """
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return Verdict(False, "is being deleted")
    group = str(obj["apiVersion"]).rpartition("/")[0]
    rule = _RULES.get((group, obj["kind"]))
    if rule is not None:
        return rule(obj)
    if obj["kind"] in _OPERATOR_CONDITIONS.get(group, ()):
        if not status_of(obj):
            return Verdict(False, "its operator has not seen it yet; does the operator (role prometheus) run?")
        return _conditions(obj, "Available", "Reconciled")
    return _other(obj)


def _conditions(obj: Mapping[str, Any], *names: str) -> Verdict:
    generation = obj.get("metadata", {}).get("generation", 0)
    for name in names:
        entry = condition(obj, name)
        if not entry:
            return Verdict(False, f"no condition {name} yet")
        if entry.get("observedGeneration", generation) < generation:
            return Verdict(False, f"condition {name} is of an older generation")
        if entry.get("status") != "True":
            return Verdict(False, say_condition(entry))
    return READY


def _stale(obj: Mapping[str, Any]) -> Verdict | None:
    generation = obj.get("metadata", {}).get("generation", 0)
    if status_of(obj).get("observedGeneration", 0) < generation:
        return Verdict(False, "its controller has not seen the newest generation yet")
    return None


def _deployment(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    status, wanted = status_of(obj), obj["spec"].get("replicas", 1)
    updated, total, available = (status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    if updated < wanted:
        return Verdict(False, f"{updated} of {wanted} replicas are of the newest version{_trouble(obj)}")
    if total > updated:
        return Verdict(False, f"{total - updated} old replicas are still there")
    return _available(available, wanted, trouble=_trouble(obj))


def _available(available: int, wanted: int, noun: str = "replicas", trouble: str = "") -> Verdict:
    return READY if available >= wanted else Verdict(False, f"{available} of {wanted} {noun} are available{trouble}")


def _trouble(obj: Mapping[str, Any]) -> str:
    for name, bad in (("ReplicaFailure", "True"), ("Progressing", "False")):
        entry = condition(obj, name)
        if entry.get("status") == bad:
            return f"; {say_condition(entry)}"
    return ""


def _daemon_set(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    status = status_of(obj)
    wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    rolling = obj["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and (updated := status.get("updatedNumberScheduled", 0)) < wanted:
        return Verdict(False, f"{updated} of {wanted} pods are of the newest version")
    return _available(available, wanted, "pods")


def _stateful_set(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    spec, status = obj["spec"], status_of(obj)
    wanted, available = spec.get("replicas", 1), status.get("availableReplicas", 0)
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        to_update = wanted - (strategy.get("rollingUpdate") or {}).get("partition", 0)
        updated = status.get("updatedReplicas", 0)
        if status.get("currentRevision") != status.get("updateRevision") and updated < to_update:
            return Verdict(False, f"{updated} of {to_update} replicas are of the newest version")
    return _available(available, wanted)


def _replica_set(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    wanted, available = obj["spec"].get("replicas", 1), status_of(obj).get("availableReplicas", 0)
    return _available(available, wanted)


def _job(obj: Mapping[str, Any]) -> Verdict:
    if obj["spec"].get("suspend"):
        return READY
    if holds(obj, "Failed"):
        return Verdict(False, say_condition(condition(obj, "Failed")), failed=True)
    if holds(obj, "Complete"):
        return READY
    status = status_of(obj)
    return Verdict(False, f"not complete: {status.get('active', 0)} pods active, {status.get('failed', 0)} failed")


def _pod(obj: Mapping[str, Any]) -> Verdict:
    phase = status_of(obj).get("phase", "Pending")
    if phase == "Succeeded":
        return READY
    if phase == "Failed":
        why = reason_of(status_of(obj))
        return Verdict(False, f"phase Failed{f' ({why})' if why else ''}", failed=True)
    ready = condition(obj, "Ready")
    if holds(obj, "Ready"):
        return READY
    scheduled = condition(obj, "PodScheduled")
    if scheduled.get("status") == "False":
        return Verdict(False, say_condition(scheduled))
    return Verdict(False, say_condition(ready) if ready else f"phase {phase}")


def _crd(obj: Mapping[str, Any]) -> Verdict:
    names = condition(obj, "NamesAccepted")
    if names.get("status") == "False":
        return Verdict(False, say_condition(names), failed=True)
    return _conditions(obj, "Established")


def _hpa(obj: Mapping[str, Any]) -> Verdict:
    active = condition(obj, "ScalingActive")
    if active.get("reason") == "ScalingDisabled":
        return READY
    able = condition(obj, "AbleToScale")
    if without_workload(obj):
        return READY
    if not active and able.get("status") == "False":
        return Verdict(False, say_condition(able))
    return _conditions(obj, "ScalingActive")


def without_workload(autoscaler: Mapping[str, Any]) -> bool:
    """Return whether an autoscaler reports that its workload does not exist."""
    able = condition(autoscaler, "AbleToScale")
    return able.get("reason") == "FailedGetScale" and str(able.get("message", "")).endswith("not found")


def _service(obj: Mapping[str, Any]) -> Verdict:
    if obj["spec"].get("type") != "LoadBalancer":
        return READY
    if (status_of(obj).get("loadBalancer") or {}).get("ingress"):
        return READY
    return Verdict(
        False, "has no external address yet; type LoadBalancer needs a controller in the cluster that assigns one"
    )


def _volume_claim(obj: Mapping[str, Any]) -> Verdict:
    phase = status_of(obj).get("phase", "Pending")
    return READY if phase == "Bound" else Verdict(False, f"phase {phase}", failed=phase == "Lost")


def _namespace(obj: Mapping[str, Any]) -> Verdict:
    phase = status_of(obj).get("phase", "Active")
    return READY if phase == "Active" else Verdict(False, f"phase {phase}")


def _other(obj: Mapping[str, Any]) -> Verdict:
    status = status_of(obj)
    if "observedGeneration" in status and (stale := _stale(obj)):
        return stale
    names = [name for name in ("Ready", "Available") if condition(obj, name)]
    return _conditions(obj, *names)


_RULES: dict[tuple[str, str], Callable[[Mapping[str, Any]], Verdict]] = {
    ("", "Namespace"): _namespace,
    ("", "PersistentVolumeClaim"): _volume_claim,
    ("", "Pod"): _pod,
    ("", "ReplicationController"): _replica_set,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _crd,
    ("apiregistration.k8s.io", "APIService"): lambda obj: _conditions(obj, "Available"),
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("autoscaling", "HorizontalPodAutoscaler"): _hpa,
    ("batch", "Job"): _job,
}
