# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The workload of an app: it exists, wants pods, and its pods run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from ...common.text import nearest, shorten
from ...kube.objects import condition, explain, holds, why_not_ready, with_query
from ..facts import Watched, seconds_since
from ..link import Cause, Finding, broken, link, ok
from ..settings import PLURALS, Case

#: Seconds that a new pod may need to become ready while others serve.
STARTING = 120.0
#: Seconds for which an event counts.
RECENT = 900
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CREATION = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"}

CAUSES = {
    "namespace_missing": Cause(
        "The namespace of the app does not exist.",
        "deploy the app, or correct `namespace` of entry {app} in autoscaled_apps",
    ),
    "workload_missing": Cause(
        "The namespace has no workload of that kind and name.",
        "deploy the app, or correct `workload` of entry {app} in autoscaled_apps",
    ),
    "workload_at_zero": Cause(
        "Somebody set the workload's replicas to 0, which switches its autoscaler off.",
        "kubectl --namespace {namespace} scale {workload} --replicas={min}",
    ),
    "image_not_pulled": Cause(
        "The node does not have the image and cannot pull it.",
        "correct the image's name or tag, give the namespace a pull secret, or bring the image to the nodes",
    ),
    "container_not_created": Cause(
        "The kubelet cannot create the container as described, mostly because a ConfigMap or Secret is missing.",
        "kubectl --namespace {namespace} describe pod {pod}",
    ),
    "crash_loop": Cause(
        "The container exits again and again.",
        "kubectl --namespace {namespace} logs {pod} --previous",
    ),
    "pods_refused": Cause(
        "The API server rejects its pods: PodSecurity, a webhook, or a missing ServiceAccount.",
        "kubectl --namespace {namespace} describe {workload}; correct the pod template as the message says",
    ),
    "quota_exceeded": Cause(
        "The namespace's quota allows the workload no pod at all.",
        "kubectl --namespace {namespace} describe resourcequota; raise the quota or lower the requests",
    ),
    "unschedulable": Cause(
        "No node has room for its pods, or accepts them.",
        "lower the requests, free or add nodes; the message counts the nodes and says what each lacks",
    ),
    "pods_not_ready": Cause(
        "Pods run and do not become ready, so they get no requests and the autoscaler ignores them.",
        "kubectl --namespace {namespace} describe pod {pod}; kubectl --namespace {namespace} logs {pod}",
    ),
}


@link("the workload exists and its pods run", CAUSES)
def workload(facts: Watched, case: Case) -> Finding:
    """Check that the workload exists, wants pods, and that its pods run."""
    item = facts.optional(case.workload_path)
    if item is None:
        return missing_workload(facts, case)
    wanted = item["spec"].get("replicas", 1)
    if wanted == 0 and case.app.min_replicas > 0:
        return broken("workload_at_zero", "its spec.replicas is 0")
    pods = case.pods(facts)
    ready = [pod for pod in pods if holds(pod, "Ready")]
    if trouble := container_trouble(pods):
        cause, pod, evidence = trouble
        return broken(cause, evidence, pod=pod)
    refused = refusal(facts, item, case.settings.now)
    if refused and "quota" not in refused:
        return broken("pods_refused", refused)
    if not ready and wanted:
        if refused:
            return broken("quota_exceeded", refused)
        if waiting := unschedulable(pods):
            return broken("unschedulable", waiting)
    if late := readiness_trouble(pods, bool(ready), case.settings.now):
        return broken("pods_not_ready", late[1], pod=late[0])
    if not ready and wanted:
        return broken("pods_not_ready", "it has no pods yet")
    return ok(f"{len(ready)} of {wanted} pods ready")


def missing_workload(facts: Watched, case: Case) -> Finding:
    """Return the finding of a workload that does not exist, with the workloads that do."""
    app = case.app
    if facts.optional(f"/api/v1/namespaces/{app.namespace}") is None:
        return broken("namespace_missing", f"there is no namespace {app.namespace}")
    items = facts.items(f"/apis/apps/v1/namespaces/{app.namespace}/{PLURALS[app.workload_kind]}")
    names = [item["metadata"]["name"] for item in items]
    near = nearest(app.workload_name, names)
    hint = f"; there is {near[0]}" if near else f"; there are {shorten(names)}" if names else ""
    return broken(
        "workload_missing", f"there is no {app.workload_kind} {app.workload_name} in namespace {app.namespace}{hint}"
    )


def container_trouble(pods: Sequence[Mapping[str, Any]]) -> tuple[str, str, str] | None:
    """Return cause, pod and evidence of the first container that cannot run."""
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            reason = (entry.get("state", {}).get("waiting") or {}).get("reason")
            if reason in _IMAGE:
                cause = "image_not_pulled"
            elif reason in _CREATION:
                cause = "container_not_created"
            elif reason == "CrashLoopBackOff" or restarts_in_failure(entry):
                cause = "crash_loop"
            else:
                continue
            ended = entry.get("state", {}).get("terminated")
            exited = f"{entry['name']} ended, exit code {ended.get('exitCode')}: {explain(ended)}" if ended else ""
            return cause, name, f"pod {name}: {exited or why_not_ready(pod)}, {entry.get('restartCount', 0)} restarts"
    return None


def restarts_in_failure(entry: Mapping[str, Any]) -> bool:
    """Return whether a container is between two starts of a crash loop: exited now, and failed before."""
    state, last = entry.get("state", {}), entry.get("lastState", {}).get("terminated") or {}
    ended = state.get("terminated") or {}
    return bool(entry.get("restartCount", 0) > 1 and last.get("exitCode") and ended.get("exitCode"))


def refusal(facts: Watched, item: Mapping[str, Any], now: datetime.datetime) -> str:
    """Return why the API server rejects pods of a workload now, or an empty text."""
    failure = condition(item, "ReplicaFailure")
    if failure.get("status") == "True":
        return explain(failure)
    if "strategy" in item["spec"] or item.get("status", {}).get("replicas", 0) >= item["spec"].get("replicas", 1):
        return ""
    # A StatefulSet has no such condition, only events.
    namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
    chosen = {"fieldSelector": f"involvedObject.kind=StatefulSet,involvedObject.name={name},reason=FailedCreate"}
    events = [
        event
        for event in facts.items(with_query(f"/api/v1/namespaces/{namespace}/events", chosen))
        if seconds_since(event.get("lastTimestamp") or event.get("eventTime"), now) < RECENT
    ]
    return events[-1].get("message", "") if events else ""


def unschedulable(pods: Sequence[Mapping[str, Any]]) -> str:
    """Return the scheduler's reason for the first pod without a node, or an empty text."""
    for pod in pods:
        entry = condition(pod, "PodScheduled")
        if entry.get("status") == "False":
            return f"pod {pod['metadata']['name']}: {explain(entry)}"
    return ""


def readiness_trouble(
    pods: Sequence[Mapping[str, Any]], others_serve: bool, now: datetime.datetime
) -> tuple[str, str] | None:
    """Return the first pod that should be ready and is not, with the reason; new pods beside ready ones have time."""
    for pod in pods:
        if holds(pod, "Ready") or condition(pod, "PodScheduled").get("status") == "False":
            continue
        since = condition(pod, "Ready").get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
        if not others_serve or seconds_since(since, now) > STARTING:
            name = pod["metadata"]["name"]
            return name, f"pod {name}: {why_not_ready(pod)}"
    return None
