# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""When an object is really ready, waiting for it by watch, and saying why it is not."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .kube import CONNECTIONS, JSON, Api, ApiError
from .manifests import Ref, ref_of

#: Kinds that are ready as soon as they are stored: no need to read them again.
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
#: Seconds of waiting before the first word about it, and between words.
FIRST_WORD = 5.0
NEXT_WORD = 10.0
#: How much of a broken pod is shown.
LOG_LINES = 10
EVENTS = 5
PODS = 3
#: Custom resources whose operator reports conditions of its own names: all of them must be True.
_WORKLOADS = {("apps", kind) for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")} | {
    ("batch", kind) for kind in ("CronJob", "Job")
}
_OPERATOR_CONDITIONS = {"monitoring.coreos.com": {"Prometheus", "PrometheusAgent", "Alertmanager", "ThanosRuler"}}


@dataclass(frozen=True)
class Verdict:
    """Whether an object is ready, in words why not, and whether waiting on is pointless."""

    ready: bool
    reason: str = ""
    failed: bool = False


READY = Verdict(True)


class NotReadyError(Exception):
    """Objects were not ready in time. The message explains each; `objects` are their identities."""

    def __init__(self, message: str, objects: list[Ref]) -> None:
        super().__init__(message)
        self.objects = objects


def is_workload(obj: Mapping[str, Any]) -> bool:
    """Whether a controller runs pods for an object, which go away some time after it unless the deletion waits."""
    group, kind = str(obj["apiVersion"]).rpartition("/")[0], obj["kind"]
    return kind in _OPERATOR_CONDITIONS.get(group, ()) or (group, kind) in _WORKLOADS


def readiness(obj: Mapping[str, Any]) -> Verdict:
    """Judge one live object by the rules of its kind.

    Kinds without a rule are ready unless they report a condition Ready or Available that is not True, or a status of
    an older generation. An HPA is ready when it can compute a replica count (ScalingActive): one whose metric is not
    there yet cannot scale, which is what it is for, so it is waited for; scaled to zero on purpose counts as ready.
    """
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return Verdict(False, "is being deleted")
    group = str(obj["apiVersion"]).rpartition("/")[0]
    rule = _RULES.get((group, obj["kind"]))
    if rule is not None:
        return rule(obj)
    if obj["kind"] in _OPERATOR_CONDITIONS.get(group, ()):
        return _conditions(obj, "Available", "Reconciled")
    return _other(obj)


def _status(obj: Mapping[str, Any]) -> JSON:
    return obj.get("status") or {}


def _condition(obj: Mapping[str, Any], name: str) -> JSON | None:
    for condition in _status(obj).get("conditions") or []:
        if condition.get("type") == name:
            return dict(condition)
    return None


def _say(condition: Mapping[str, Any]) -> str:
    details = ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
    return f"{condition['type']}={condition.get('status')}" + (f" ({details})" if details else "")


def _conditions(obj: Mapping[str, Any], *names: str) -> Verdict:
    generation = obj.get("metadata", {}).get("generation", 0)
    for name in names:
        condition = _condition(obj, name)
        if condition is None:
            return Verdict(False, f"no condition {name} yet")
        if condition.get("observedGeneration", generation) < generation:
            return Verdict(False, f"condition {name} is of an older generation")
        if condition.get("status") != "True":
            return Verdict(False, _say(condition))
    return READY


def _stale(obj: Mapping[str, Any]) -> Verdict | None:
    generation = obj.get("metadata", {}).get("generation", 0)
    if _status(obj).get("observedGeneration", 0) < generation:
        return Verdict(False, "its controller has not seen the newest generation yet")
    return None


def _deployment(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    status, wanted = _status(obj), obj["spec"].get("replicas", 1)
    updated, total, available = (status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    if updated < wanted:
        return Verdict(False, f"{updated} of {wanted} replicas are of the newest version{_trouble(obj)}")
    if total > updated:
        return Verdict(False, f"{total - updated} old replicas are still there")
    if available < wanted:
        return Verdict(False, f"{available} of {wanted} replicas are available{_trouble(obj)}")
    return READY


def _trouble(obj: Mapping[str, Any]) -> str:
    for name, bad in (("ReplicaFailure", "True"), ("Progressing", "False")):
        condition = _condition(obj, name)
        if condition and condition.get("status") == bad:
            return f"; {_say(condition)}"
    return ""


def _daemon_set(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    status = _status(obj)
    wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    rolling = obj["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and (updated := status.get("updatedNumberScheduled", 0)) < wanted:
        return Verdict(False, f"{updated} of {wanted} pods are of the newest version")
    if available < wanted:
        return Verdict(False, f"{available} of {wanted} pods are available")
    return READY


def _stateful_set(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    spec, status = obj["spec"], _status(obj)
    wanted, available = spec.get("replicas", 1), status.get("availableReplicas", 0)
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        to_update = max(0, wanted - (strategy.get("rollingUpdate") or {}).get("partition", 0))
        updated = status.get("updatedReplicas", 0)
        if status.get("currentRevision") != status.get("updateRevision") and updated < to_update:
            return Verdict(False, f"{updated} of {to_update} replicas are of the newest version")
    if available < wanted:
        return Verdict(False, f"{available} of {wanted} replicas are available")
    return READY


def _replica_set(obj: Mapping[str, Any]) -> Verdict:
    if stale := _stale(obj):
        return stale
    wanted, available = obj["spec"].get("replicas", 1), _status(obj).get("availableReplicas", 0)
    return READY if available >= wanted else Verdict(False, f"{available} of {wanted} replicas are available")


def _job(obj: Mapping[str, Any]) -> Verdict:
    if obj["spec"].get("suspend"):
        return READY
    failed = _condition(obj, "Failed")
    if failed and failed.get("status") == "True":
        return Verdict(False, _say(failed), failed=True)
    complete = _condition(obj, "Complete")
    if complete and complete.get("status") == "True":
        return READY
    status = _status(obj)
    return Verdict(False, f"not complete: {status.get('active', 0)} pods active, {status.get('failed', 0)} failed")


def _pod(obj: Mapping[str, Any]) -> Verdict:
    phase = _status(obj).get("phase", "Pending")
    if phase == "Succeeded":
        return READY
    if phase == "Failed":
        status = _status(obj)
        why = ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
        return Verdict(False, f"phase Failed{f' ({why})' if why else ''}", failed=True)
    ready = _condition(obj, "Ready")
    if ready and ready.get("status") == "True":
        return READY
    scheduled = _condition(obj, "PodScheduled")
    if scheduled and scheduled.get("status") == "False":
        return Verdict(False, _say(scheduled))
    return Verdict(False, _say(ready) if ready else f"phase {phase}")


def _crd(obj: Mapping[str, Any]) -> Verdict:
    names = _condition(obj, "NamesAccepted")
    if names and names.get("status") == "False":
        return Verdict(False, _say(names), failed=True)
    return _conditions(obj, "Established")


def _hpa(obj: Mapping[str, Any]) -> Verdict:
    active = _condition(obj, "ScalingActive")
    if active and active.get("reason") == "ScalingDisabled":
        return READY
    able = _condition(obj, "AbleToScale")
    if active is None and able and able.get("status") == "False":
        return Verdict(False, _say(able))
    return _conditions(obj, "ScalingActive")


def _service(obj: Mapping[str, Any]) -> Verdict:
    if obj["spec"].get("type") != "LoadBalancer":
        return READY
    if (_status(obj).get("loadBalancer") or {}).get("ingress"):
        return READY
    return Verdict(
        False, "has no external address yet; type LoadBalancer needs a controller in the cluster that gives one"
    )


def _volume_claim(obj: Mapping[str, Any]) -> Verdict:
    phase = _status(obj).get("phase", "Pending")
    return READY if phase == "Bound" else Verdict(False, f"phase {phase}", failed=phase == "Lost")


def _namespace(obj: Mapping[str, Any]) -> Verdict:
    phase = _status(obj).get("phase", "Active")
    return READY if phase == "Active" else Verdict(False, f"phase {phase}")


def _other(obj: Mapping[str, Any]) -> Verdict:
    status = _status(obj)
    if "observedGeneration" in status and (stale := _stale(obj)):
        return stale
    names = [name for name in ("Ready", "Available") if _condition(obj, name)]
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


# -- waiting -------------------------------------------------------------------------------------------------------


@dataclass
class _Pending:
    """What is still waited for, shared by the watching threads."""

    reasons: dict[Ref, str] = field(default_factory=dict)
    failed: dict[Ref, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, kind: tuple[str, str]) -> bool:
        with self.lock:
            return any((ref.api_version, ref.kind) == kind for ref in self.reasons)

    def judge(self, ref: Ref, verdict: Verdict) -> None:
        with self.lock:
            if ref not in self.reasons:
                return
            if verdict.ready:
                del self.reasons[ref]
                return
            self.reasons[ref] = verdict.reason
            if verdict.failed:
                self.failed[ref] = verdict.reason


Judge = Callable[[Mapping[str, Any] | None], Verdict]


def present(obj: Mapping[str, Any] | None) -> Verdict:
    """Rule of `wait_for` for objects that must be ready."""
    return Verdict(False, "is gone: somebody deleted it") if obj is None else readiness(obj)


def absent(obj: Mapping[str, Any] | None) -> Verdict:
    """Rule of `wait_for` for objects that must go away."""
    if obj is None:
        return READY
    finalizers = ", ".join(obj.get("metadata", {}).get("finalizers") or [])
    conditions = [_say(item) for item in _status(obj).get("conditions") or [] if item.get("status") == "True"]
    if obj["kind"] == "Namespace":
        return Verdict(False, "; ".join(["is still being emptied", *conditions]))
    return Verdict(False, f"is still there, finalizers: {finalizers or 'none'}")


def wait_for(
    api: Api,
    refs: list[Ref],
    judge: Judge,
    deadline: float,
    selector: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    explain: bool = True,
) -> None:
    """Watch until `judge` is content with all objects; `deadline` is a time.monotonic() value.

    `selector` is a label selector that all of them match: it keeps the watches small. `say` gets a line of progress
    now and then. Raises NotReadyError at the deadline, or as soon as something failed for good.
    """
    pending = _Pending(dict.fromkeys(refs, "not seen yet"))
    kinds = {(ref.api_version, ref.kind) for ref in pending.reasons}
    news: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    stop = threading.Event()
    for kind in kinds:
        args = (api, kind, pending, judge, deadline, selector, news, stop)
        threading.Thread(target=_watch_kind, args=args, daemon=True).start()
    started = time.monotonic()
    next_word = started + FIRST_WORD
    try:
        while pending.reasons and not pending.failed:
            now = time.monotonic()
            if now >= deadline:
                break
            if now >= next_word:
                say(_progress(pending, now - started))
                next_word = now + NEXT_WORD
            try:
                problem = news.get(timeout=max(0.01, min(next_word, deadline) - now))
            except queue.Empty:
                continue
            if problem is not None:
                raise problem
    finally:
        stop.set()
    if not pending.reasons:
        return
    broken = pending.failed or pending.reasons
    seconds = time.monotonic() - started
    verb = "failed" if pending.failed else ("are not gone" if judge is absent else "are not ready")
    lines = [f"{len(broken)} of {len(refs)} objects {verb} after {seconds:.0f} s:"]
    for ref, reason in sorted(broken.items()):
        lines.append(f"- {ref}: {reason}")
        try:
            lines += [f"    {line}" for line in explanation(api, ref)] if explain else []
        except ApiError as error:
            lines.append(f"    (no more is known: {error})")
            explain = error.status != 0  # a server that does not answer is not asked about every object
    raise NotReadyError("\n".join(lines), sorted(broken))


def _progress(pending: _Pending, seconds: float) -> str:
    with pending.lock:
        items = sorted(pending.reasons.items())
    shown = "; ".join(f"{ref}: {reason}" for ref, reason in items[:3])
    more = f"; and {len(items) - 3} more" if len(items) > 3 else ""
    return f"waiting since {seconds:.0f} s for {shown}{more}"


def _watch_kind(
    api: Api,
    kind: tuple[str, str],
    pending: _Pending,
    judge: Judge,
    deadline: float,
    selector: str | None,
    news: queue.SimpleQueue[Exception | None],
    stop: threading.Event,
) -> None:
    """List, then watch, one kind until nothing of it is pending; ends with a word to `news`."""
    failures = 0
    while not stop.is_set() and pending.of(kind) and (left := deadline - time.monotonic()) > 0:
        try:
            listing = api.list(*kind, label_selector=selector)
            live = {ref_of(item): item for item in listing.items}
            with pending.lock:
                wanted = [ref for ref in pending.reasons if (ref.api_version, ref.kind) == kind]
            for ref in wanted:
                pending.judge(ref, judge(live.get(ref)))
            news.put(None)
            failures = 0
            if not pending.of(kind):
                return
            for event in api.watch(
                *kind, label_selector=selector, resource_version=listing.resource_version, timeout=min(left, 60.0)
            ):
                obj = {"apiVersion": kind[0], "kind": kind[1], **event.object}
                pending.judge(ref_of(obj), judge(None if event.type == "DELETED" else obj))
                news.put(None)
                if stop.is_set() or not pending.of(kind):
                    return
        except ApiError as error:
            if error.status == 404 and judge is absent:
                with pending.lock:  # the kind itself is gone, and its objects with it
                    for ref in [ref for ref in pending.reasons if (ref.api_version, ref.kind) == kind]:
                        del pending.reasons[ref]
                news.put(None)
                return
            failures += 1
            if error.status in (401, 403):
                news.put(error)
                return
            # A server that is away for a moment (restart of a control plane) may come back before the deadline.
            if stop.wait(min(2.0, 0.1 * 2**failures)):
                return
            with pending.lock:
                for ref in pending.reasons:
                    if (ref.api_version, ref.kind) == kind:
                        pending.reasons[ref] = str(error)
        except Exception as error:  # a thread must not die unheard
            news.put(error)
            return


# -- explaining ----------------------------------------------------------------------------------------------------


def explanation(api: Api, ref: Ref) -> list[str]:
    """What a person would look up about one broken object: conditions, events, and its broken pods with last log lines.

    Raises ApiError if the server cannot be asked.
    """
    obj = api.get(ref.api_version, ref.kind, ref.name, ref.namespace or None)
    if obj is None:
        return []
    lines = [_say(item) for item in _status(obj).get("conditions") or [] if _is_bad(item)]
    lines += _events_of(api, obj)
    for pod in _broken_pods(api, obj)[:PODS]:
        lines += _explain_pod(api, pod)
    return lines


def _is_bad(condition: Mapping[str, Any]) -> bool:
    bad_when_true = str(condition.get("type", "")).endswith(("Failure", "Failed", "Pressure"))
    return bool(condition.get("status") != ("False" if bad_when_true else "True"))


def _events_of(api: Api, obj: Mapping[str, Any]) -> list[str]:
    metadata = obj["metadata"]
    listing = api.list(
        "v1",
        "Event",
        metadata.get("namespace") or "default",
        field_selector=f"involvedObject.uid={metadata['uid']},type=Warning",
    )
    events = sorted(listing.items, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [f"event {event.get('reason')}: {_one_line(event.get('message'))}" for event in events[-EVENTS:]]


def _one_line(text: object) -> str:
    return " ".join(str(text or "").split())


def _selector(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in (labels or {}).items())


def _broken_pods(api: Api, obj: Mapping[str, Any]) -> list[JSON]:
    namespace, uid = obj["metadata"].get("namespace"), obj["metadata"]["uid"]
    if obj["kind"] == "Pod":
        return [dict(obj)]
    if not namespace:
        return _pods_behind(api, obj)
    selector = (obj.get("spec") or {}).get("selector")
    if obj["kind"] not in ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job"):
        # A custom resource: its operator made StatefulSets or Deployments that it owns.
        for kind in ("StatefulSet", "Deployment", "DaemonSet"):
            for child in api.list("apps/v1", kind, namespace).items:
                owners = child["metadata"].get("ownerReferences") or []
                if any(owner["uid"] == uid for owner in owners) and not readiness(child).ready:
                    return _broken_pods(api, child)
        return []
    labels = _selector((selector or {}).get("matchLabels"))
    pods = api.list("v1", "Pod", namespace, label_selector=labels).items if labels else []
    return [pod for pod in pods if not readiness(pod).ready]


def _pods_behind(api: Api, obj: Mapping[str, Any]) -> list[JSON]:
    """Broken pods of the service that an APIService points to."""
    target = (obj.get("spec") or {}).get("service") if obj["kind"] == "APIService" else None
    service = api.get("v1", "Service", target["name"], target["namespace"]) if target else None
    labels = _selector((service or {}).get("spec", {}).get("selector"))
    if not target or not labels:
        return []
    return [pod for pod in api.list("v1", "Pod", target["namespace"], labels).items if not readiness(pod).ready]


def _explain_pod(api: Api, pod: JSON) -> list[str]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    lines = [f"pod {name}: {readiness(pod).reason}"]
    lines += [f"  {line}" for line in _events_of(api, pod)]
    statuses = [*(_status(pod).get("initContainerStatuses") or []), *(_status(pod).get("containerStatuses") or [])]
    for status in statuses:
        state = status.get("state") or {}
        finished_well = (state.get("terminated") or {}).get("exitCode") == 0
        if status.get("ready") or finished_well:
            continue
        for kind in ("waiting", "terminated"):
            if detail := state.get(kind):
                words = [str(detail[key]) for key in ("reason", "exitCode", "message") if detail.get(key)]
                lines.append(f"  container {status['name']} {kind}: {': '.join(words)}")
        if status.get("restartCount") or "running" in state or "terminated" in state:
            lines += [f"  | {line}" for line in _log(api, namespace, name, status["name"], "waiting" in state)]
    return lines


def _log(api: Api, namespace: str, pod: str, container: str, previous: bool) -> list[str]:
    query = {"container": container, "tailLines": str(LOG_LINES), "previous": str(previous).lower()}
    try:
        text = api.raw(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query, timeout=10.0, accept="text/plain, */*")
    except ApiError as error:
        return [f"(no log: {error})"]
    return str(text).splitlines()


def unready(api: Api, objects: Iterable[JSON]) -> list[Ref]:
    """Those of the objects that are not ready as they stand and have to be waited for."""
    return [ref_of(obj) for obj in objects if not readiness(obj).ready and not _waits_for_consumer(api, obj)]


def _waits_for_consumer(api: Api, obj: Mapping[str, Any]) -> bool:
    """Whether a volume claim is bound only when a pod uses it: then the pod is what there is to wait for."""
    if obj["kind"] != "PersistentVolumeClaim" or _status(obj).get("phase", "Pending") != "Pending":
        return False
    name = obj["spec"].get("storageClassName")
    storage_class = api.get("storage.k8s.io/v1", "StorageClass", name) if name else None
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def in_parallel(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Results of `function` for each item in order, made by a few threads; the first exception is raised."""
    todo = list(items)
    if len(todo) < 2:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(min(CONNECTIONS, len(todo))) as pool:
        return list(pool.map(function, todo))
