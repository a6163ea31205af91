# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Changes in a run's record, by cluster: the changes that a run made, or would make in check mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..common.text import aligned, first_names
from .run_record import Record, clusters_of

#: More objects of one component than this share one line. The JSON names each of them.
MANY_OBJECTS = 5
#: Most names that are shown of an object's fields, and of the clusters of a group.
NAMED_FIELDS = 3
NAMED_CLUSTERS = 6
#: Subject of the change to a cluster that has no kubeconfig yet.
ALL_OBJECTS = "all its objects"


class Change(NamedTuple):
    """One object that a set changes, or one task that changes something on a host."""

    component: str
    action: str
    subject: str
    fields: tuple[str, ...] = ()
    restarts: bool = False


def changes_of(record: Record, cluster: str) -> list[Change]:
    """Return the changes of a run to a cluster, in the order of the run."""
    changes: list[Change] = []
    for change in record["changes"]:
        if change["cluster"] != cluster:
            continue
        component = change.get("set") or change["role"] or change["task"]
        for obj in change.get("objects", []):
            where = f"{obj['namespace']}/{obj['name']}" if obj["namespace"] else obj["name"]
            fields = tuple(obj.get("fields", ()))
            restarts = obj.get("restarts", False)
            changes.append(Change(component, obj["action"], f"{obj['kind']} {where}", fields, restarts))
        if change.get("would_be_made"):
            changes.append(Change(component, "created", ALL_OBJECTS))
        elif "objects" not in change:
            host = "" if change["host"] == cluster else f" on {change['host']}"
            changes.append(Change(component, "changed", f"{change['task']}{host}"))
    return changes


def count_changes(record: Record) -> Counter[str]:
    """Return the number of changes to each cluster, counted as `changes_of` lists them."""
    counts: Counter[str] = Counter()
    for change in record["changes"]:
        counts[change["cluster"]] += len(change["objects"]) if "objects" in change else 1
    return counts


def grouped(record: Record) -> list[tuple[list[str], list[Change]]]:
    """Return groups of clusters that have the same changes. Clusters without changes are in no group."""
    groups: dict[tuple[Change, ...], list[str]] = {}
    for cluster in clusters_of(record):
        if changes := changes_of(record, cluster):
            groups.setdefault(tuple(changes), []).append(cluster)
    return [(clusters, list(changes)) for changes, clusters in groups.items()]


def folded(changes: Iterable[Change]) -> list[Change]:
    """Return changes in which one line stands for many objects that a component creates or deletes."""
    changes = list(changes)
    counts = Counter((change.component, change.action) for change in changes)
    lines: list[Change] = []
    for change in changes:
        key = (change.component, change.action)
        if counts[key] <= MANY_OBJECTS or change.action not in ("created", "deleted", "pruned"):
            lines.append(change)
        elif not any((line.component, line.action) == key for line in lines):
            kinds = Counter(one.subject.split()[0] for one in changes if (one.component, one.action) == key)
            named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(NAMED_FIELDS))
            more = "" if len(kinds) <= NAMED_FIELDS else ", ..."
            lines.append(Change(*key, f"{counts[key]} objects: {named}{more}"))
    return lines


def describe(record: Record) -> str:
    """Return the plan for people: a table for each group of clusters with the same changes, then all others."""
    parts: list[str] = []
    for clusters, changes in grouped(record):
        restarts = sum(change.restarts for change in changes)
        known = [change for change in changes if change.subject != ALL_OBJECTS]
        heading = f"{first_names(clusters, NAMED_CLUSTERS)}: {len(known)} {'change' if len(known) == 1 else 'changes'}"
        if len(known) < len(changes):
            heading = f"{first_names(clusters, NAMED_CLUSTERS)}: would be created, with all objects"
        if restarts:
            heading += f", pods of {restarts} {'workload' if restarts == 1 else 'workloads'} restart"
        cells = [["  component", "action", "object", "fields"]]
        for change in folded(known):
            fields = first_names(change.fields, NAMED_FIELDS) + (" (pods restart)" if change.restarts else "")
            cells.append([f"  {change.component}", change.action, change.subject, fields.strip()])
        parts.append("\n".join([heading, *(aligned(cells, 4) if known else [])]))
    changing = {cluster for clusters, _unused in grouped(record) for cluster in clusters}
    failed = failures_of(record)
    if idle := [name for name in clusters_of(record) if name not in changing and name not in failed]:
        parts.append(f"{first_names(idle, NAMED_CLUSTERS)}: nothing to do")
    parts += [f"{cluster}: plan incomplete: {message}" for cluster, message in failed.items()]
    return "\n\n".join(parts)


def failures_of(record: Record) -> dict[str, str]:
    """Return the first failure of every cluster that has one."""
    first: dict[str, str] = {}
    for failure in record["failures"]:
        first.setdefault(failure["cluster"], failure["message"])
    return {cluster: first[cluster] for cluster in clusters_of(record) if cluster in first}


def with_states(record: Record) -> Record:
    """Return a record of check mode with the state "would change" for clusters that would change."""
    counts = count_changes(record)
    clusters = {
        name: {**entry, "state": "would change"} if entry["state"] == "ok" and counts[name] else entry
        for name, entry in record["clusters"].items()
    }
    return {**record, "clusters": clusters}


def document(record: Record) -> dict[str, Any]:
    """Return the plan for programs."""
    failed = failures_of(record)
    clusters: dict[str, Mapping[str, Any]] = {}
    for cluster in clusters_of(record):
        known = record["clusters"].get(cluster, {})
        entries = [change for change in record["changes"] if change["cluster"] == cluster]
        clusters[cluster] = {
            "ring": known.get("ring"),
            "environment": known.get("environment"),
            "state": "failed" if cluster in failed else "changes" if entries else "nothing to do",
            "would_be_made": any(change.get("would_be_made", False) for change in entries),
            "restarts": sum(change.restarts for change in changes_of(record, cluster)),
            "changes": [{key: value for key, value in change.items() if key != "cluster"} for change in entries],
            "message": failed.get(cluster, ""),
        }
    return {"run": record["id"], "clusters": clusters}
