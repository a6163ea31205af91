# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Delete members that the set no longer has, and shared namespaces that no set uses any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ..kube.client import JSON, ApiError, Resource
from ..kube.manifests import Key, Ref, in_removal_phases, ref_of
from ..kube.readiness import is_workload
from ..kube.waiting import in_parallel
from .crds import CRD, kinds_of_crds
from .discovery import kinds_that, list_if_served
from .operation import Operation
from .outcome import ApplySetError
from .ownership import DERIVED_KINDS, PART_OF_LABEL, SHARED_LABEL, labels_of
from .parent import ID_LABEL, all_parents, shared_namespaces

#: Objects that Kubernetes creates in every namespace.
_DERIVED_NAMES = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


def delete_members(
    operation: Operation,
    objects: Iterable[JSON],
    action: str,
    desired: Collection[Key] = (),
    shared: Collection[str] = (),
) -> list[JSON]:
    """Delete members in phases and wait for each phase.

    A namespace in `shared` loses the set's label instead. Return the members that are kept, because a `desired` object
    or an object of others would be lost with them. `action` is the word for the outcome.
    """
    kept: list[JSON] = []
    for phase in in_removal_phases(objects):
        doomed = []
        for obj in phase:
            if obj["kind"] == "Namespace" and obj["metadata"]["name"] in shared:
                _make_shared(operation, obj["metadata"]["name"])
            elif user := _user_of(operation, obj, desired):
                kept.append(obj)
                _keep(operation, obj, user)
            else:
                doomed.append(obj)
        _delete(operation, doomed, action)
    return kept


def release_namespaces(operation: Operation, names: Collection[str]) -> None:
    """Delete shared namespaces that a set of ours created, unless another set lists them or others use them."""
    if not names:
        return
    used = operation.options.assumed.used
    listed: set[str] = set()
    for parent in all_parents(operation.api):
        owner = labels_of(parent)[ID_LABEL]
        if owner != operation.id:
            shared = shared_namespaces(parent)
            listed |= shared & set(used[owner]) if owner in used else shared
    for name in sorted(names):
        live = operation.api.get("v1", "Namespace", name)
        if name in listed or live is None or SHARED_LABEL not in labels_of(live):
            continue
        if user := _foreign_in_namespace(operation, name):
            _keep(operation, live, user)
        else:
            _delete(operation, [live], "deleted")


def delete_object(operation: Operation, obj: JSON) -> Ref | None:
    """Request the deletion of an object. Return its identity, or None if it is gone at once."""
    ref = ref_of(obj)
    # Foreground: a workload is gone when its pods are. Then the objects that its pods need can be deleted.
    propagation = "Foreground" if is_workload(obj) else "Background"
    uid = obj["metadata"]["uid"]
    try:
        rest = operation.api.delete(
            ref.api_version, ref.kind, ref.name, ref.namespace or None, uid, propagation, dry_run=operation.check
        )
    except ApiError as error:
        if error.status == 409:  # the name belongs to a new object, which is not ours
            return None
        raise ApplySetError(f"{ref} cannot be deleted: {error}") from error
    return ref if rest is not None else None


def _delete(operation: Operation, objects: list[JSON], action: str) -> None:
    refs = in_parallel(lambda obj: delete_object(operation, obj), objects)
    for obj in objects:
        operation.outcome.add(action, obj, obj, None)
        if obj["kind"] == "Namespace":
            operation.outcome.namespaces[obj["metadata"]["name"]] = None
    if not operation.check:
        operation.wait_until_gone([ref for ref in refs if ref is not None])


def _keep(operation: Operation, obj: JSON, user: str) -> None:
    operation.outcome.add("kept", obj)
    operation.outcome.warnings.append(f"{ref_of(obj)} is kept: {user} would be lost with it")


def _make_shared(operation: Operation, namespace: str) -> None:
    """Remove the set's label from a namespace that is a shared one from now on."""
    if not operation.check:
        operation.api.patch("v1", "Namespace", namespace, {"metadata": {"labels": {PART_OF_LABEL: None}}})


def _user_of(operation: Operation, obj: JSON, desired: Collection[Key]) -> str:
    """Return the name of an object that stays and would be lost with a namespace or CRD; "" if there is none."""
    if obj["kind"] == "Namespace" and obj["apiVersion"] == "v1":
        name = obj["metadata"]["name"]
        return _first(key for key in desired if key.namespace == name) or _foreign_in_namespace(operation, name)
    if obj["kind"] == CRD:
        for kind in kinds_of_crds([obj]).values():
            if user := _first(key for key in desired if (key.group, key.kind) == (kind.group, kind.kind)):
                return user
            if (kind.api_version, kind.kind) in operation.api.resources():
                others = operation.api.list(kind.api_version, kind.kind, label_selector=_others(operation)).items
                return str(ref_of(others[0])) if others else ""
    return ""


def _first(keys: Iterable[Key]) -> str:
    return next((f"{key.kind} {key.namespace}/{key.name}" for key in keys), "")


def _others(operation: Operation) -> str:
    """Return the label selector of all objects that are no members."""
    return f"{PART_OF_LABEL}!={operation.id}"


def _foreign_in_namespace(operation: Operation, namespace: str) -> str:
    """Return the name of an object in a namespace that is no member and that nobody would create again, or ""."""

    def is_stored(kind: Resource) -> bool:
        derived = kind.kind in DERIVED_KINDS or kind.group.endswith("metrics.k8s.io")
        return kind.namespaced and "delete" in kind.verbs and not derived

    def is_lost(kind: str, obj: dict[str, Any]) -> bool:
        metadata = obj["metadata"]
        derived = metadata.get("ownerReferences") or (kind, metadata["name"]) in _DERIVED_NAMES
        going = "deletionTimestamp" in metadata or operation.options.assumed.would_go(obj, namespace)
        return not derived and not going

    def first(kind: Resource) -> str:
        items = list_if_served(operation.api, kind, _others(operation), namespace)
        return next((str(ref_of(item)) for item in items if is_lost(kind.kind, item)), "")

    return next((user for user in in_parallel(first, kinds_that(operation.api, is_stored)) if user), "")
