"""What happens to objects while something else goes on, and waiting until they are as wanted; both by watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube

# Seconds in which everything that is waited for comes, unless a test says less.
LONGEST = 150.0
# Seconds after which a watch that saw nothing looks whether it is still wanted.
BREATH = 1

Objects = dict[str, dict[str, Any]]
Name = tuple[str, str]


def until(
    api: kube.Api,
    api_version: str,
    kind: str,
    namespace: str,
    missing: Callable[[Objects], object],
    longest: float = LONGEST,
) -> Objects:
    """Watch the objects of a kind, by name, until nothing is missing; they are returned."""
    deadline = time.monotonic() + longest
    while True:
        listing = api.list(api_version, kind, namespace)
        found = {item["metadata"]["name"]: item for item in listing.items}
        left = max(1.0, deadline - time.monotonic())
        if not missing(found):
            return found
        for event in api.watch(api_version, kind, namespace, None, None, listing.resource_version, timeout=left):
            name = event.object["metadata"]["name"]
            if event.type == "DELETED":
                found.pop(name, None)
            else:
                found[name] = event.object
            if not missing(found):
                return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {longest:g} s: {missing(found)}")


class Witness:
    """What was seen of Deployments and autoscalers, in the order in which it happened."""

    def __init__(self) -> None:
        self.replicas: dict[Name, list[int]] = {}
        self.desired: dict[Name, list[int]] = {}
        self.active: dict[Name, list[str]] = {}

    def see(self, obj: dict[str, Any]) -> None:
        """Note what changed."""
        name = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        if "scaleTargetRef" not in obj["spec"]:
            _add(self.replicas, name, obj["spec"]["replicas"])
            return
        status = obj.get("status", {})
        _add(self.desired, name, status.get("desiredReplicas", 0))
        for entry in status.get("conditions") or []:
            if entry["type"] == "ScalingActive":
                _add(self.active, name, entry["status"])


def _add(seen: dict[Name, list[Any]], name: Name, value: object) -> None:
    values = seen.setdefault(name, [])
    if values[-1:] != [value]:
        values.append(value)


@contextmanager
def watched(api: kube.Api) -> Iterator[Witness]:
    """See all Deployments and autoscalers of the cluster, from now to the end of the block."""
    witness, over = Witness(), threading.Event()
    kinds = [("apps/v1", "Deployment"), ("autoscaling/v2", "HorizontalPodAutoscaler")]
    listings = [api.list(*kind) for kind in kinds]
    for listing in listings:
        for item in listing.items:
            witness.see(item)

    def watch(kind: tuple[str, str], version: str) -> None:
        while not over.is_set():
            for event in api.watch(*kind, resource_version=version, timeout=BREATH):
                version = event.object["metadata"]["resourceVersion"]
                if event.type != "DELETED":
                    witness.see(event.object)

    threads = [
        threading.Thread(target=watch, args=(kind, listing.resource_version))
        for kind, listing in zip(kinds, listings, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield witness
    finally:
        over.set()
        for thread in threads:
            thread.join()
    for kind in kinds:
        for item in api.list(*kind).items:
            witness.see(item)
