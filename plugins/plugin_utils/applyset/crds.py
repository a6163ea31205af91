# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""CRDs of a set: the kinds that they define, and the wait until the server serves these kinds."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ..kube.client import JSON, ApiError, Resource
from ..kube.manifests import REMINDER_ANNOTATION, Key, Ref, ref_of, was_changed
from ..kube.waiting import NotReadyError, present, unready, wait_for
from .operation import Operation
from .ownership import MANAGER, group_kind

CRD = "CustomResourceDefinition"
#: Seconds until a CRD is established, and from then until the server serves its kind. The latter cannot be watched.
CRD_LAG = 10.0


def kinds_of_crds(objects: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Resource]:
    """Return the kinds that the CRDs among the objects define, by (apiVersion, kind)."""
    kinds = (kind for obj in objects if obj["kind"] == CRD for kind in _kinds_of(obj.get("spec") or {}))
    return {(kind.api_version, kind.kind): kind for kind in kinds}


def _kinds_of(spec: Mapping[str, Any]) -> Iterator[Resource]:
    names, group, namespaced = spec.get("names") or {}, spec.get("group", ""), spec.get("scope") == "Namespaced"
    verbs = frozenset({"get", "list", "watch", "patch", "delete"})
    for version in spec.get("versions") or []:
        if version.get("served"):
            api_version = f"{group}/{version.get('name')}"
            yield Resource(api_version, names.get("kind", ""), names.get("plural", ""), namespaced, verbs)


def learn_kinds(operation: Operation, crds: Iterable[JSON]) -> None:
    """Add the kinds of CRDs to the kinds that the client knows."""
    for resource in kinds_of_crds(crds).values():
        operation.api.add_resource(resource)


def await_kinds(
    operation: Operation, crds: list[JSON], before: Mapping[Key, JSON], after: Mapping[Key, JSON]
) -> frozenset[str]:
    """Wait until the kinds of CRDs that were just applied are served.

    Return the group-kinds of the CRDs that were created or changed.
    """
    changed = [
        crd
        for crd in crds
        if (old := before.get(ref_of(crd).key)) is None or was_changed(old, after[ref_of(crd).key], crd, MANAGER)
    ]
    if not operation.check:
        if pending := unready(operation.api, after.values()):
            _await_established(operation, pending)
        learn_kinds(operation, crds)
    return frozenset(resource.group_kind for resource in kinds_of_crds(changed).values())


def _await_established(operation: Operation, crds: list[Ref]) -> None:
    """Wait until CRDs are established; change those that the server has forgotten.

    A server that restarts after it has accepted the names of a CRD, and before it has established the CRD, continues
    only when the CRD changes. The same apply once more is no change.
    """
    api, say, selector = operation.api, operation.options.say, operation.selector
    soon = min(operation.deadline, time.monotonic() + CRD_LAG)
    try:
        wait_for(api, crds, present, soon, selector, say, explain=False)
    except NotReadyError as error:
        for ref in error.objects:
            for value in ("now", None):
                change = {"metadata": {"annotations": {REMINDER_ANNOTATION: value}}}
                api.patch(ref.api_version, ref.kind, ref.name, change)
        wait_for(api, error.objects, present, operation.deadline, selector, say)


def apply_patiently(operation: Operation, obj: JSON, manager: str, force: bool, fresh: Collection[str]) -> JSON:
    """Apply an object and return the server's result.

    If its group-kind is in `fresh`, its CRD was created or changed a moment ago, and the server of the kind may lag
    behind the condition Established: retry for CRD_LAG seconds.
    """
    give_up = time.monotonic() + CRD_LAG
    while True:
        try:
            return operation.api.apply(obj, manager, force)[0]
        except ApiError as error:
            lagging = group_kind(obj) in fresh and error.status in (400, 404, 422, 500)
            if not lagging or time.monotonic() > give_up:
                raise
            threading.Event().wait(0.1)
