# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The facts that checks read from a cluster's API, each path once per round."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from ..applyset.ownership import PART_OF_LABEL, labels_of
from ..kube.client import ApiError
from ..kube.objects import matches, parse_time
from ..kube.prometheus import Answer, Reader

APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
AUTOSCALERS = "/apis/autoscaling/v2/horizontalpodautoscalers"
NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Cluster(Reader, Protocol):
    """The part of an API connection that checks need (see ``kube.client.Api``)."""

    def watch(self, api_version: str, kind: str, *, resource_version: str, timeout: float) -> Iterable[Any]:
        """Yield changes of all objects of a kind since a version, for at most ``timeout`` seconds."""


class Facts:
    """The answers of one round, safe for many threads: every path is read once, however many checks ask for it.

    ``lists`` has the API version, kind and resource version of every list that was read, by path.
    """

    def __init__(self, cluster: Reader) -> None:
        self.cluster = cluster
        self.lists: dict[str, tuple[str, str, str]] = {}
        self._answers: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def raw(self, path: str) -> Answer:
        """Return the answer at ``path``. The first caller reads; the others wait for the same answer or error."""
        with self._lock:
            answer = self._answers.get(path)
            first = answer is None
            if answer is None:
                answer = self._answers[path] = Future()
        if first:
            try:
                value = self.cluster.raw(path)
                version = value.get("metadata", {}).get("resourceVersion") if isinstance(value, Mapping) else None
                if version and value["kind"].endswith("List"):
                    self.lists[path] = (value["apiVersion"], value["kind"].removesuffix("List"), version)
                answer.set_result(value)
            except Exception as error:
                answer.set_exception(error)
        return answer.result()


class Watched:
    """The view of the facts that one check gets. It remembers the paths that the check read."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.paths: set[str] = set()

    def raw(self, path: str) -> Answer:
        """See ``Facts.raw``."""
        self.paths.add(path)
        return self._facts.raw(path)

    def optional(self, path: str) -> Answer:
        """Return the answer at a path, or None if there is no such object or kind."""
        try:
            return self.raw(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a list; a list that is not set is empty."""
        return self.raw(path).get("items") or []

    def pods(self, namespace: str, selector: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return the pods of a namespace that a selector chooses, without those that end or have ended."""
        return [
            pod
            for pod in self.items(f"/api/v1/namespaces/{namespace}/pods")
            if "deletionTimestamp" not in pod["metadata"]
            and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            and matches(selector, pod["metadata"].get("labels") or {})
        ]


def key(item: Mapping[str, Any]) -> str:
    """Return ``namespace/name`` of an object, or its name if it has no namespace."""
    metadata = item["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]


def is_ours(item: Mapping[str, Any]) -> bool:
    """Return whether a set of this collection applied an object."""
    return PART_OF_LABEL in labels_of(item)


def seconds_since(text: str | None, now: datetime.datetime) -> float:
    """Return the seconds from a time of the API to now; infinite if there is no time."""
    return (now - parse_time(text)).total_seconds() if text else float("inf")
