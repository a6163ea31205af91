# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Everything about an apply that is decided before the first write."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..kube.client import JSON
from ..kube.manifests import DefinitionError, Key, ref_of
from .adoption import plan_adoption
from .definition import as_member, check_scopes, fingerprint_of
from .discovery import complete, find_members, find_namespaces, find_others
from .operation import Operation, SharedNamespace
from .ownership import PART_OF_LABEL, SHARED_LABEL, group_kind, is_member, labels_of, set_id
from .parent import Parent, read_parent
from .revisions import Content


@dataclass(frozen=True)
class Plan:
    """The members as they must be, the live objects that concern them, and the decisions about these."""

    parent: Parent
    shared: list[SharedNamespace]
    #: The definition, as a revision stores it.
    content: Content
    #: Members as they must be, in the order of the definition.
    desired: dict[Key, JSON]
    #: Live members.
    members: dict[Key, JSON]
    #: Fingerprints of the desired members that are live already and need no apply. Only metadata of them was read.
    settled: dict[Key, str]
    #: Live objects with the name of a desired one that are no members.
    others: dict[Key, JSON]
    #: Those of them that belong to sets in the option `take_from`.
    taken: frozenset[Key]
    #: Namespaces that the set creates, as they are now; None for those that are not there.
    namespaces: dict[str, JSON | None]
    #: Foreign objects that are adopted, as they will be; None for those that are deleted and created again.
    adopted: dict[Key, JSON | None]

    @functools.cached_property
    def live(self) -> dict[Key, JSON]:
        """Return all live objects."""
        return self.members | self.others

    @functools.cached_property
    def obsolete(self) -> dict[Key, JSON]:
        """Return the members that are deleted."""
        return {key: obj for key, obj in self.members.items() if key not in self.desired}

    @functools.cached_property
    def target(self) -> Parent:
        """Return the parent as it must be in the end, without fingerprints and revision."""
        return Parent(
            True,
            frozenset(map(group_kind, self.desired.values())),
            frozenset(key.namespace for key in self.desired if key.namespace),
            frozenset(namespace.name for namespace in self.shared),
        )

    @functools.cached_property
    def port_heirs(self) -> dict[Key, set[Key]]:
        """Return the desired Services that get a node port of an obsolete one, by the obsolete Service."""
        wanted = {port: key for key, obj in self.desired.items() for port in _node_ports(obj)}
        heirs = {key: {wanted[port] for port in _node_ports(obj) & wanted.keys()} for key, obj in self.obsolete.items()}
        return {key: keys for key, keys in heirs.items() if keys}

    @property
    def is_converged(self) -> bool:
        """Return whether the cluster has everything as it must be."""
        return (
            len(self.settled) == len(self.desired) == len(self.members)
            and self.parent.shared == self.target.shared
            and not any(_lacks_labels(self.namespaces[namespace.name], namespace) for namespace in self.shared)
        )


def make_plan(operation: Operation, objects: list[JSON], shared: list[SharedNamespace]) -> Plan:
    """Validate the definition, read the live objects, and decide which foreign objects are adopted.

    Raise DefinitionError or ApplySetError if the set cannot be applied.
    """
    if not objects:
        raise DefinitionError("definition: it holds no objects; to remove the set, set state: absent")
    parent = read_parent(operation)
    check_scopes(operation, objects)
    desired = {ref_of(obj).key: as_member(obj, operation.id) for obj in objects}
    content = _content(operation, list(desired.values()), shared)
    created = {key.name for key in desired if key.kind == "Namespace"} | {namespace.name for namespace in shared}
    namespaces = find_namespaces(operation, created)
    members = find_members(operation, parent.kinds, objects, metadata_only=True)
    settled = {
        key: fingerprint
        for key, obj in desired.items()
        if key in members and (fingerprint := fingerprint_of(obj, members[key])) in parent.fingerprints
    }
    members |= complete(operation, (obj for key, obj in members.items() if key not in settled))
    others = find_others(operation, desired, members)
    foreign = {key: obj for key, obj in others.items() if not _is_writable(operation, obj)}
    for key in foreign:
        if key.kind == "Namespace":
            # Others may live in a namespace that existed before: it stays as it is, and theirs.
            operation.outcome.add("unchanged", desired.pop(key))
    sources = {set_id(source, operation.namespace) for source in operation.options.take_from}
    taken = frozenset(key for key, obj in others.items() if labels_of(obj).get(PART_OF_LABEL) in sources)
    adoptable = {key: obj for key, obj in foreign.items() if key in desired and key not in taken}
    adopted = plan_adoption(operation, adoptable, desired)
    return Plan(parent, shared, content, desired, members, settled, others, taken, namespaces, adopted)


def _content(operation: Operation, objects: list[JSON], shared: list[SharedNamespace]) -> Content:
    handovers = [{"kind": each.kind, "name": each.name, "to": each.to} for each in operation.options.hand_over]
    labels = {namespace.name: namespace.labels for namespace in shared}
    return Content(objects, labels, list(operation.options.take_from), handovers)


def _is_writable(operation: Operation, obj: JSON) -> bool:
    """Return whether a live object is ours: a member, a namespace of our sets, or an object that is being deleted."""
    shared = obj["kind"] == "Namespace" and SHARED_LABEL in labels_of(obj)
    return shared or is_member(obj, operation.id) or "deletionTimestamp" in obj["metadata"]


def _lacks_labels(live: JSON | None, namespace: SharedNamespace) -> bool:
    """Return whether a shared namespace is missing, or was created by sets of ours and lacks labels."""
    if live is None:
        return True
    return SHARED_LABEL in labels_of(live) and not namespace.labels.items() <= labels_of(live).items()


def _node_ports(obj: Mapping[str, Any]) -> set[int]:
    """Return the node ports of a Service; for other kinds an empty set."""
    if obj["kind"] != "Service" or obj["apiVersion"] != "v1":
        return set()
    return {port["nodePort"] for port in obj["spec"].get("ports") or [] if port.get("nodePort")}
