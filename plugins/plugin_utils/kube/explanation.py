# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Explain in a few lines why an object is not ready, from its conditions, events, pods and logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .client import JSON, Api, ApiError
from .manifests import Ref
from .objects import SelectorError, holds, reason_of, say_condition, selector_text, service_selector, status_of
from .readiness import readiness

#: Limits of the output: lines of one object, its broken pods, its events, lines of a log, characters of a line.
LINES = 40
PODS = 3
EVENTS = 5
LOG_LINES = 10
LENGTH = 400
#: Timeout of a request for a log, in seconds. The API server reads the log from the kubelet.
LOG_SECONDS = 10.0
#: Node conditions that report trouble when they are True. Ready reports trouble when it is not True.
_NODE_TROUBLES = ("DiskPressure", "MemoryPressure", "NetworkUnavailable", "PIDPressure")
_POD_OWNERS = ("DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet")


class Explainer:
    """Explains broken objects of one cluster. It explains each pod, volume claim and node once."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._explained: set[str] = set()
        self._nodes: dict[str, JSON] | None = None

    def explain(self, ref: Ref) -> list[str]:
        """Return bad conditions and events of an object, and of the objects that it needs, in at most LINES lines.

        Raise ApiError if the API server does not answer.
        """
        obj = self.api.get(ref.api_version, ref.kind, ref.name, ref.namespace or None)
        if obj is None:
            return []
        lines = [say_condition(item) for item in status_of(obj).get("conditions") or [] if is_bad(item)]
        lines += self._events(obj)
        if obj["kind"] == "APIService":
            lines += self._explain_service(obj)
        elif namespace := obj["metadata"].get("namespace"):
            lines += self._explain_pods(self._pods(obj, namespace))
            lines += self._explain_replica_sets(obj, namespace) if obj["kind"] == "Deployment" else []
        lines = [_cut(line) for line in lines]
        if len(lines) > LINES:
            where = f" --namespace {ref.namespace}" if ref.namespace else ""
            lines[LINES - 1 :] = [f"(and more: kubectl{where} describe {ref.kind.lower()} {ref.name})"]
        return lines

    # -- pods ----------------------------------------------------------------------------------------------------

    def _pods(self, obj: JSON, namespace: str) -> list[JSON]:
        """Return the broken pods of a workload, or of the workloads that an operator made for a custom resource."""
        if obj["kind"] == "Pod":
            return [obj]
        if obj["kind"] in _POD_OWNERS:
            pods = self._chosen(obj["spec"].get("selector"), namespace)
            return [pod for pod in pods if not readiness(pod).ready]
        return [
            pod
            for kind in ("StatefulSet", "Deployment", "DaemonSet")
            for child in self.api.list("apps/v1", kind, namespace).items
            if _is_owned(child, obj) and not readiness(child).ready
            for pod in self._pods(child, namespace)
        ]

    def _chosen(self, selector: Mapping[str, Any] | None, namespace: str) -> list[JSON]:
        """Return the pods of a namespace that a selector chooses; none if the selector is not set or empty."""
        try:
            labels = selector_text(selector)
        except SelectorError:
            return []
        return self.api.list("v1", "Pod", namespace, labels).items

    def _explain_pods(self, pods: list[JSON]) -> list[str]:
        new = [pod for pod in pods if pod["metadata"]["uid"] not in self._explained]
        lines = [f"pod {pod['metadata']['name']}: see above" for pod in pods if pod not in new]
        for pod in new[:PODS]:
            lines += self._explain_pod(pod)
        return lines + ([f"and {len(new) - PODS} more pods"] if len(new) > PODS else [])

    def _explain_pod(self, pod: JSON) -> list[str]:
        self._explained.add(pod["metadata"]["uid"])
        node = pod["spec"].get("nodeName", "")
        place = f" on {node}" if node else ""
        lines = [f"pod {pod['metadata']['name']}{place}: {readiness(pod).reason}"]
        lines += self._indented(self._events(pod))
        lines += self._indented(self._explain_nodes([node] if node else None))
        lines += self._indented(self._explain_claims(pod))
        # The API server would wait for a kubelet that does not answer until the request times out.
        is_node_away = bool(node) and not holds(self._all_nodes().get(node, {}), "Ready")
        for kind in ("initContainerStatuses", "containerStatuses"):
            for status in status_of(pod).get(kind) or []:
                lines += self._indented(self._explain_container(pod, status, with_log=not is_node_away))
        return lines

    def _explain_container(self, pod: JSON, status: JSON, with_log: bool) -> list[str]:
        state, before = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
        waiting, ended = state.get("waiting"), state.get("terminated")
        finished_well = ended and ended.get("exitCode") == 0
        # PodInitializing means that another container, an init container, holds up this one.
        if status.get("ready") or finished_well or (waiting or {}).get("reason") == "PodInitializing":
            return []
        lines = []
        name = f"container {status['name']}"
        if waiting:
            lines.append(f"{name} waits: {_words(waiting)}")
        if ended:
            lines.append(f"{name} ended: {_words(ended)}")
        if before:
            lines.append(f"{name} ended before, {status.get('restartCount', 0)} restarts: {_words(before)}")
        if state.get("running"):
            lines.append(f"{name} runs and is not ready")
        if with_log and before:
            lines += self._log(pod, status["name"], previous=True)
        if with_log and not waiting:
            lines += self._log(pod, status["name"], previous=False)
        return lines

    def _log(self, pod: JSON, container: str, previous: bool) -> list[str]:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log"
        query = {"container": container, "tailLines": str(LOG_LINES), "previous": str(previous).lower()}
        try:
            text = str(self.api.raw(path, query, LOG_SECONDS, "text/plain, */*"))
        except ApiError as error:
            return [f"(no log{' of the run before' if previous else ''}: {error})"]
        title = "last log lines of the run before" if previous else "last log lines"
        return [f"{title}:", *(f"| {line}" for line in text.splitlines())] if text.strip() else []

    # -- what pods need ------------------------------------------------------------------------------------------

    def _explain_replica_sets(self, deployment: JSON, namespace: str) -> list[str]:
        """Return why pods of a Deployment cannot be created, such as a quota, PodSecurity or a webhook."""
        return [
            line
            for item in self.api.list("apps/v1", "ReplicaSet", namespace).items
            if _is_owned(item, deployment) and status_of(item).get("replicas", 0) < item["spec"].get("replicas", 1)
            for line in [f"ReplicaSet {item['metadata']['name']}:", *self._indented(self._events(item))]
        ]

    def _explain_claims(self, pod: JSON) -> list[str]:
        lines = []
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes") or []:
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            claim = self.api.get("v1", "PersistentVolumeClaim", name, namespace) if name else None
            if name and claim is None:
                lines.append(f"volume claim {name} does not exist")
            elif claim and not readiness(claim).ready and claim["metadata"]["uid"] not in self._explained:
                self._explained.add(claim["metadata"]["uid"])
                lines += [f"volume claim {name}: {readiness(claim).reason}", *self._indented(self._events(claim))]
        return lines

    def _explain_service(self, api_service: JSON) -> list[str]:
        """Return what is wrong with the Service of an APIService, and with the pods that the Service selects."""
        target = api_service["spec"].get("service")
        if not target:
            return []
        name = f"Service {target['namespace']}/{target['name']}"
        service = self.api.get("v1", "Service", target["name"], target["namespace"])
        if service is None:
            return [f"{name} does not exist"]
        selector = service_selector(service)
        pods = self._chosen(selector, target["namespace"])
        if not pods:
            return [f"{name} has no pods (selector {selector_text(selector) if selector else 'none'})"]
        if broken := [pod for pod in pods if not readiness(pod).ready]:
            return self._explain_pods(broken)
        # All pods are ready, so only a log can show why the API does not answer.
        return [
            line
            for pod in pods[:1]
            for container in pod["spec"]["containers"]
            for line in [f"pod {pod['metadata']['name']} is ready", *self._log(pod, container["name"], previous=False)]
        ]

    def _all_nodes(self) -> dict[str, JSON]:
        if self._nodes is None:
            self._nodes = {item["metadata"]["name"]: item for item in self.api.list("v1", "Node").items}
        return self._nodes

    def _explain_nodes(self, names: Iterable[str] | None) -> list[str]:
        """Return what is wrong with the named nodes. For a pod without a node, `names` is None: check all nodes."""
        lines = []
        for name in self._all_nodes() if names is None else names:
            if name in self._explained:
                continue
            self._explained.add(name)
            if (node := self._all_nodes().get(name)) is None:
                lines.append(f"node {name} does not exist")
                continue
            bad = [say_condition(item) for item in status_of(node).get("conditions") or [] if is_bad(item)]
            bad += ["is cordoned"] if node["spec"].get("unschedulable") else []
            lines += [f"node {name}: {text}" for text in bad]
        return lines

    # -- events --------------------------------------------------------------------------------------------------

    def _events(self, obj: JSON) -> list[str]:
        metadata = obj["metadata"]
        # Kubernetes reports the trouble of volume claims as events of type Normal.
        kind = "" if obj["kind"] == "PersistentVolumeClaim" else ",type=Warning"
        selector = f"involvedObject.uid={metadata['uid']}{kind}"
        listing = self.api.list("v1", "Event", metadata.get("namespace") or "default", field_selector=selector)
        events = sorted(listing.items, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        texts = dict.fromkeys(f"event {event.get('reason')}: {event.get('message')}" for event in events)
        return list(texts)[-EVENTS:]

    @staticmethod
    def _indented(lines: Iterable[str]) -> list[str]:
        return [f"  {line}" for line in lines]


def is_bad(condition: Mapping[str, Any]) -> bool:
    """Return whether a condition reports trouble. Its type decides whether True or False is bad."""
    kind = str(condition.get("type", ""))
    bad_when_true = kind in _NODE_TROUBLES or kind.endswith(("Failure", "Failed", "Pressure"))
    return bool(condition.get("status") != ("False" if bad_when_true else "True"))


def _is_owned(obj: JSON, owner: JSON) -> bool:
    return any(entry["uid"] == owner["metadata"]["uid"] for entry in obj["metadata"].get("ownerReferences") or [])


def _words(state: Mapping[str, Any]) -> str:
    words = [reason_of(state)] if reason_of(state) else []
    return ", ".join([*words, f"exit code {state['exitCode']}"] if "exitCode" in state else words)


def _cut(line: str) -> str:
    """Return a line with at most LENGTH characters. Keep its indentation."""
    indent = line[: len(line) - len(line.lstrip())]
    text = indent + " ".join(line.split())
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
