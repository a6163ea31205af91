# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Live objects that concern a set: its members, its namespaces, and objects of others with the same names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..kube.client import JSON, Api, ApiError, Resource
from ..kube.manifests import Key, ref_of
from ..kube.readiness import STATIC_KINDS
from ..kube.waiting import in_parallel
from .crds import CRD
from .operation import Operation
from .outcome import ApplySetError
from .ownership import group_kind

#: Kinds whose metadata is enough to see that nothing changed. A Secret has no fingerprint and is compared as a whole.
_METADATA_KINDS = (STATIC_KINDS | {CRD}) - {"Secret"}
#: HTTP status of a listing whose kind nobody serves now.
_NOT_SERVED = (404, 405, 503)


def read(api: Api, obj: Mapping[str, Any]) -> JSON | None:
    """Return the live object with the identity of `obj`, or None."""
    ref = ref_of(obj)
    return api.get(ref.api_version, ref.kind, ref.name, ref.namespace or None)


def by_key(objects: Iterable[JSON | None]) -> dict[Key, JSON]:
    """Return objects by their identities, without None."""
    return {ref_of(obj).key: obj for obj in objects if obj is not None}


def kinds_that(api: Api, is_wanted: Callable[[Resource], bool]) -> list[Resource]:
    """Return the kinds that can be listed and are wanted, each in the preferred version of its group."""
    kinds: dict[str, Resource] = {}
    for kind in api.resources().values():  # the preferred version of a group comes first
        if "list" in kind.verbs and is_wanted(kind):
            kinds.setdefault(kind.group_kind, kind)
    return list(kinds.values())


def list_if_served(
    api: Api, kind: Resource, selector: str, namespace: str | None = None, metadata_only: bool = False
) -> list[JSON]:
    """Return the objects of a kind with a label selector, or an empty list if nobody serves the kind now."""
    try:
        return api.list(kind.api_version, kind.kind, namespace, selector, metadata_only=metadata_only).items
    except ApiError as error:
        if error.status in _NOT_SERVED:
            return []
        raise


def find_members(
    operation: Operation, kinds: Collection[str], objects: Iterable[JSON] = (), metadata_only: bool = False
) -> dict[Key, JSON]:
    """Return the live objects with the label of the set, of these group-kinds and of the kinds of `objects`.

    Leave out those that another set takes over. With `metadata_only`, kinds without a status have metadata only.
    """
    api = operation.api
    wanted = {group_kind(obj): (obj["apiVersion"], obj["kind"]) for obj in objects}
    for kind in kinds_that(api, lambda kind: kind.group_kind in kinds):
        wanted.setdefault(kind.group_kind, (kind.api_version, kind.kind))
    served = [kind for kind in wanted.values() if kind in api.resources()]

    def listing(kind: tuple[str, str]) -> list[JSON]:
        partly = metadata_only and kind[1] in _METADATA_KINDS
        return api.list(*kind, label_selector=operation.selector, metadata_only=partly).items

    members = by_key(item for items in in_parallel(listing, served) for item in items)
    return _without_handovers(operation, members)


def _without_handovers(operation: Operation, members: Mapping[Key, JSON]) -> dict[Key, JSON]:
    """Return the members that stay in the set. Raise ApplySetError if another set has not taken over its own yet."""
    handovers = {(handover.kind, handover.name): handover for handover in operation.options.hand_over}
    leaving = {key: handovers[key.kind, key.name] for key in members if (key.kind, key.name) in handovers}
    waiting = [
        f"{ref_of(members[key])} is to go to set {handover.to}, which has not taken it yet"
        for key, handover in leaving.items()
        if not handover.done
    ]
    if waiting:
        raise ApplySetError("\n".join([*waiting, "Nothing of the set was changed. Apply that set first."]))
    return {key: obj for key, obj in members.items() if key not in leaving}


def complete(operation: Operation, objects: Iterable[JSON]) -> dict[Key, JSON]:
    """Return whole objects for those of which only the metadata was read."""
    partial = [obj for obj in objects if obj["kind"] in _METADATA_KINDS]
    return by_key(in_parallel(lambda obj: read(operation.api, obj), partial))


def find_namespaces(operation: Operation, names: Iterable[str]) -> dict[str, JSON | None]:
    """Return the namespaces with these names. Wait until those that are being deleted are gone, with all in them."""
    namespaces = {name: operation.api.get("v1", "Namespace", name) for name in names}
    namespaces |= {name: live for name, live in operation.options.assumed.namespaces.items() if name in namespaces}
    going = [ref_of(live) for live in namespaces.values() if live and "deletionTimestamp" in live["metadata"]]
    if going and not operation.check:
        operation.wait_until_gone(going)
        namespaces |= dict.fromkeys((ref.name for ref in going), None)
    return namespaces


def find_others(operation: Operation, desired: Mapping[Key, JSON], members: Mapping[Key, JSON]) -> dict[Key, JSON]:
    """Return the live objects that have the name of a desired one, but not the label of the set."""
    api, served = operation.api, operation.api.resources()
    missing = {
        key: obj for key, obj in desired.items() if key not in members and (obj["apiVersion"], obj["kind"]) in served
    }
    names = {key.namespace for key in missing if key.namespace}
    namespaces = in_parallel(lambda name: (name, api.get("v1", "Namespace", name)), names)
    empty = {name for name, namespace in namespaces if namespace is None}
    possible = [obj for key, obj in missing.items() if key.namespace not in empty]
    return by_key(in_parallel(lambda obj: read(api, obj), possible))
