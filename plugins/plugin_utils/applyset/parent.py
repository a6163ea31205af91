# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The parent of a set: a ConfigMap with the set's id and with the group-kinds and namespaces of its members.

The format is that of KEP-3659, so kubectl understands it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..kube.client import JSON, Api, ApiError
from .operation import Operation
from .outcome import ApplySetError
from .ownership import MANAGER, labels_of

ID_LABEL = "applyset.kubernetes.io/id"
KINDS_ANNOTATION = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES_ANNOTATION = "applyset.kubernetes.io/additional-namespaces"
TOOLING_ANNOTATION = "applyset.kubernetes.io/tooling"
#: Tool and version of the format. The version is not the collection's: an upgrade must not rewrite every parent.
TOOLING = f"{MANAGER}/v1.0.0"
#: Names of the shared namespaces that the set uses.
SHARED_ANNOTATION = "fleet.kubescale.io/shared-namespaces"
#: Number of the set's revision.
REVISION_ANNOTATION = "fleet.kubescale.io/revision"
#: Is there while a run applies that revision.
UNFINISHED_ANNOTATION = "fleet.kubescale.io/revision-unfinished"
#: Key of the ConfigMap's data with a fingerprint of every member as it was last applied.
FINGERPRINTS = "applied"


class Parent(NamedTuple):
    """Content of a parent."""

    exists: bool = False
    #: Group-kinds of the members, such as "Deployment.apps".
    kinds: frozenset[str] = frozenset()
    #: Namespaces of the members, and shared namespaces.
    namespaces: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    fingerprints: frozenset[str] = frozenset()
    revision: int | None = None
    #: A run that applies the revision has not ended, or was interrupted.
    unfinished: bool = False


def read_parent(operation: Operation) -> Parent:
    """Return the parent of the operation's set. Raise ApplySetError if the ConfigMap is not a parent of ours."""
    config_map = operation.api.get("v1", "ConfigMap", operation.name, operation.namespace)
    if config_map is None:
        return Parent()
    where = f"ConfigMap {operation.namespace}/{operation.name}"
    if labels_of(config_map).get(ID_LABEL) != operation.id:
        raise ApplySetError(f"{where} exists and is not the parent of a set; give the set another name")
    if not _is_ours(config_map):
        tool = _annotations(config_map).get(TOOLING_ANNOTATION) or "unnamed"
        raise ApplySetError(f"{where} is a set of another tool ({tool}); give the set another name")
    return _parsed(config_map)


def write_parent(operation: Operation, old: Parent, new: Parent) -> None:
    """Write the parent of the operation's set, unless `new` equals `old` or in check mode."""
    own = {operation.namespace}
    additional = new.namespaces - own
    if operation.check or new._replace(namespaces=additional) == old._replace(namespaces=old.namespaces - own):
        return
    annotations = {
        TOOLING_ANNOTATION: TOOLING,
        KINDS_ANNOTATION: _joined(new.kinds),
        NAMESPACES_ANNOTATION: _joined(additional),
        SHARED_ANNOTATION: _joined(new.shared),
    }
    if new.revision:
        annotations[REVISION_ANNOTATION] = str(new.revision)
    if new.unfinished:
        annotations[UNFINISHED_ANNOTATION] = "true"
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": operation.name,
            "namespace": operation.namespace,
            "labels": {ID_LABEL: operation.id},
            "annotations": annotations,
        },
        "data": {FINGERPRINTS: _joined(new.fingerprints)},
    }
    try:
        operation.api.apply(body, MANAGER, force=True)
    except ApiError as error:
        raise ApplySetError(f"the set's parent, ConfigMap {operation.namespace}/{operation.name}: {error}") from error


def all_parents(api: Api, namespace: str | None = None) -> list[JSON]:
    """Return the parents of all sets, of other tools too."""
    return api.list("v1", "ConfigMap", namespace, ID_LABEL).items


def shared_namespaces(config_map: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the shared namespaces that a parent lists."""
    return _split(_annotations(config_map).get(SHARED_ANNOTATION))


def sets_of(api: Api, namespace: str = "kube-system") -> dict[str, Parent]:
    """Return the parents of all sets of ours in a namespace, by the set's name."""
    return {item["metadata"]["name"]: _parsed(item) for item in all_parents(api, namespace) if _is_ours(item)}


def choose_sets(sets: Mapping[str, Parent], names: Collection[str]) -> dict[str, Parent]:
    """Return the sets with these names, or all sets if there are no names. A name may have "_" for each "-".

    Raise ApplySetError for a name of no set.
    """
    wanted = {name.replace("_", "-") for name in names}
    chosen = {name: parent for name, parent in sets.items() if not wanted or name.replace("_", "-") in wanted}
    if unknown := sorted(wanted - {name.replace("_", "-") for name in chosen}):
        known = ", ".join(sorted(sets)) or "none"
        raise ApplySetError(f"component is {', '.join(unknown)!r}; the cluster has no such set, there are: {known}")
    return chosen


def _is_ours(config_map: Mapping[str, Any]) -> bool:
    tool = _annotations(config_map).get(TOOLING_ANNOTATION, "")
    return bool(tool.partition("/")[0] == MANAGER)


def _parsed(config_map: Mapping[str, Any]) -> Parent:
    annotations = _annotations(config_map)
    number = annotations.get(REVISION_ANNOTATION, "")
    return Parent(
        True,
        _split(annotations.get(KINDS_ANNOTATION)),
        _split(annotations.get(NAMESPACES_ANNOTATION)),
        _split(annotations.get(SHARED_ANNOTATION)),
        _split((config_map.get("data") or {}).get(FINGERPRINTS)),
        int(number) if number.isdigit() else None,
        UNFINISHED_ANNOTATION in annotations,
    )


def _annotations(obj: Mapping[str, Any]) -> JSON:
    return obj["metadata"].get("annotations") or {}


def _joined(names: Collection[str]) -> str:
    return ",".join(sorted(names))


def _split(text: str | None) -> frozenset[str]:
    return frozenset(name for name in (text or "").split(",") if name)
