# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Comparison of a cluster with the latest revisions of its sets, with the managers of fields that differ."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..common.text import aligned
from ..kube.client import JSON, Api, ApiError, Value
from ..kube.manifests import Key, Ref, owned_fields, ref_of, was_changed
from ..kube.waiting import in_parallel
from .definition import fingerprint_of
from .discovery import kinds_that, list_if_served, read
from .ownership import DERIVED_KINDS, MANAGER, PART_OF_LABEL, is_member, labels_of, set_id
from .parent import ID_LABEL, Parent, all_parents, choose_sets, sets_of
from .revisions import Content, History, RevisionError

_MISSING = object()


class Field(NamedTuple):
    """A field that differs, and its manager; "" if it has none, because it was removed."""

    path: str
    manager: str


class Finding(NamedTuple):
    """An object that differs from its set's revision: `state` is drifted, missing or unknown."""

    ref: Ref
    state: str
    fields: tuple[Field, ...] = ()
    #: Reason why the object cannot be compared, or another hint.
    note: str = ""

    def as_dict(self) -> JSON:
        """Return the finding for JSON."""
        fields = [field._asdict() for field in self.fields]
        return {**self.ref.as_dict(), "state": self.state, "fields": fields, "note": self.note}


class Component(NamedTuple):
    """A set, the `revision` it was compared with, and its findings. `note`: why the comparison is not complete."""

    name: str
    revision: int | None
    findings: tuple[Finding, ...] = ()
    note: str = ""

    @property
    def in_sync(self) -> bool:
        """Return whether the cluster has exactly the objects of the revision."""
        return not self.findings and not self.note

    @property
    def state(self) -> str:
        """Return "in sync", "drifted" or "not known"."""
        if self.findings:
            return "drifted"
        return "in sync" if self.in_sync else "not known"

    def as_dict(self) -> JSON:
        """Return the component for JSON."""
        objects = [finding.as_dict() for finding in self.findings]
        facts = {"component": self.name, "state": self.state, "revision": self.revision, "note": self.note}
        return {**facts, "objects": objects}


class Drift(NamedTuple):
    """The result for a cluster. `strays` are members of sets that have no parent any more."""

    components: tuple[Component, ...]
    strays: tuple[Finding, ...]
    seconds: float

    @property
    def in_sync(self) -> bool:
        """Return whether all components are in sync and there are no strays."""
        return not self.strays and all(component.in_sync for component in self.components)

    def document(self, cluster: str) -> JSON:
        """Return the result for JSON."""
        return {
            "cluster": cluster,
            "in_sync": self.in_sync,
            "seconds": self.seconds,
            "components": [component.as_dict() for component in self.components],
            "strays": [finding.as_dict() for finding in self.strays],
        }


def examine(api: Api, names: Collection[str] = (), namespace: str = "kube-system") -> Drift:
    """Compare sets, or all sets if `names` is empty, with their revisions, by reads and dry runs.

    Raise ApplySetError for a name of no set.
    """
    start = time.monotonic()
    chosen = choose_sets(sets_of(api, namespace), names)
    labelled = _labelled(api)
    components = [
        _component(api, name, namespace, parent, labelled.get(set_id(name, namespace), {}))
        for name, parent in sorted(chosen.items())
    ]
    strays = [] if names else _strays(api, labelled)
    return Drift(tuple(components), tuple(strays), round(time.monotonic() - start, 2))


def _labelled(api: Api) -> dict[str, dict[Key, JSON]]:
    """Return the metadata of all objects with the label of a set, by the id of the set. Leave out derived objects."""
    kinds = kinds_that(api, lambda kind: "delete" in kind.verbs and kind.kind not in DERIVED_KINDS)
    labelled: dict[str, dict[Key, JSON]] = {}
    for items in in_parallel(lambda kind: list_if_served(api, kind, PART_OF_LABEL, metadata_only=True), kinds):
        for item in items:
            # Controllers copy the labels of an object to the objects that they create for it.
            if not item["metadata"].get("ownerReferences"):
                labelled.setdefault(labels_of(item)[PART_OF_LABEL], {})[ref_of(item).key] = item
    return labelled


def _component(api: Api, name: str, namespace: str, parent: Parent, live: Mapping[Key, JSON]) -> Component:
    if parent.revision is None:
        return Component(name, None, note="no revision is stored; the next apply of the set stores one")
    history = History(api, name, namespace)
    try:
        stored = history.content(parent.revision)
    except RevisionError as error:
        return Component(name, parent.revision, note=str(error))
    if stored is None:
        return Component(name, parent.revision, note=f"its revision {parent.revision} is gone: somebody deleted it")
    content = stored[0]
    note = (
        "the run that applies this revision has not ended, or was interrupted: run again" if parent.unfinished else ""
    )
    desired = content.by_key
    unsettled = [
        obj
        for key, obj in desired.items()
        if key not in live or fingerprint_of(obj, live[key]) not in parent.fingerprints
    ]
    compared = in_parallel(lambda obj: _compare(api, obj, history.set_id), unsettled)
    findings = [finding for finding in compared if finding]
    findings += _missing_namespaces(api, content)
    findings += [Finding(ref_of(obj), "unknown") for key, obj in live.items() if key not in desired]
    return Component(name, parent.revision, tuple(sorted(findings)), note)


def _missing_namespaces(api: Api, content: Content) -> list[Finding]:
    missing = [name for name in content.shared if api.get("v1", "Namespace", name) is None]
    return [Finding(Ref("v1", "Namespace", "", name), "missing") for name in missing]


def _compare(api: Api, obj: JSON, of_set: str) -> Finding | None:
    """Return the changes that another apply of an object would make, or None. `of_set` is the id of its set."""
    ref = ref_of(obj)
    live = read(api, obj)
    if live is None or "deletionTimestamp" in live["metadata"]:
        return Finding(ref, "missing", note="it is being deleted" if live else "")
    if ref.kind == "Namespace" and not is_member(live, of_set):
        return None  # it existed before the set, and the set leaves it as it is
    try:
        after = api.apply(obj, MANAGER, force=True, dry_run=True)[0]
    except ApiError as error:
        if not error.status:
            raise
        return Finding(ref, "drifted", note=f"its revision cannot be applied: {error}")
    if not was_changed(live, after, obj, MANAGER):
        return None
    return Finding(ref, "drifted", tuple(changed_fields(live, after)))


def _strays(api: Api, labelled: Mapping[str, Mapping[Key, JSON]]) -> list[Finding]:
    parents = {labels_of(item)[ID_LABEL] for item in all_parents(api)}
    strays = [obj for label, objects in labelled.items() if label not in parents for obj in objects.values()]
    # Other tools have sets too, with parents of other kinds.
    ours = [obj for obj in strays if owned_fields(obj, MANAGER) is not None]
    return sorted(
        Finding(ref_of(obj), "unknown", note=f"its set is gone ({labels_of(obj)[PART_OF_LABEL]})") for obj in ours
    )


# -- fields ------------------------------------------------------------------------------------------------------------


def changed_fields(live: Mapping[str, Any], after: Mapping[str, Any]) -> list[Field]:
    """Return our fields that an apply sets, takes back or removes. `after` is the object after that apply."""
    old, new = _fields(owned_fields(live, MANAGER)), _fields(owned_fields(after, MANAGER))
    paths = dict.fromkeys([*_differing(new, live, after), *_differing(old, live, after)])
    if old:  # without a field of ours, the whole object was taken over, so its fields are not listed
        lost = [path for path in _leaves(new) if not _owns(old, path)]
        paths |= dict.fromkeys(path for path in lost if not any(path[: len(known)] == known for known in paths))
    others = [
        entry
        for entry in live["metadata"].get("managedFields") or []
        if (entry.get("manager"), entry.get("operation")) != (MANAGER, "Apply")
    ]
    return [
        Field(_path_text(path), " and ".join(dict.fromkeys(e["manager"] for e in others if _owns(_fields(e), path))))
        for path in paths
    ]


def _fields(entry: Mapping[str, Any] | None) -> JSON:
    return (entry or {}).get("fieldsV1") or {}


def _differing(
    fields: Mapping[str, Any], live: Value, after: Value, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    for key, children in fields.items():
        if key == ".":
            continue
        old, new, here = _step(live, key), _step(after, key), (*path, key)
        # A missing item of a list is one difference; in a missing mapping, each field is one.
        if children and (key.startswith("f:") or _MISSING not in (old, new)):
            yield from _differing(children, old, new, here)
        elif old is not new and old != new:
            yield here


def _leaves(fields: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, children in fields.items():
        if key != ".":
            yield from _leaves(children, (*path, key)) if children.keys() - {"."} else [(*path, key)]


def _owns(fields: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Return whether a manager's fields include a field, a part of it, or a whole that contains it."""
    for key in path:
        if key not in fields:
            return False
        fields = fields[key]
        if not fields:
            return True
    return True


def _step(value: Value, key: str) -> Value:
    """Return the part of a value that a key of managedFields names: a field, an item by its keys, value or index."""
    kind, _separator, rest = key.partition(":")
    if kind == "f":
        return value.get(rest, _MISSING) if isinstance(value, Mapping) else _MISSING
    if not isinstance(value, list):
        return _MISSING
    wanted = json.loads(rest)
    if kind == "k":
        return next((item for item in value if wanted.items() <= item.items()), _MISSING)
    if kind == "v":
        return wanted if wanted in value else _MISSING
    return value[wanted] if wanted < len(value) else _MISSING


def _path_text(path: Sequence[str]) -> str:
    """Return a path as people write it, such as spec.template.spec.containers[name=web].image."""
    text = ""
    for key in path:
        kind, _separator, rest = key.partition(":")
        if kind == "k":
            text += f"[{','.join(f'{name}={value}' for name, value in json.loads(rest).items())}]"
        elif kind != "f" or "." in rest or "/" in rest:
            text += f"[{rest}]"
        else:
            text += f".{rest}"
    return text.removeprefix(".")


# -- for people --------------------------------------------------------------------------------------------------------


def describe(cluster: str, drift: Drift) -> str:
    """Return a table of all components and, below it, each finding."""
    in_sync = sum(component.in_sync for component in drift.components)
    lines = [
        f"{cluster}: {in_sync} of {len(drift.components)} components in sync, compared in {drift.seconds:.1f} s",
        "",
    ]
    head = ["component", "revision", "state", "drifted", "missing", "unknown"]
    lines += aligned([head, *map(_row, drift.components)]) if drift.components else []
    for component in drift.components:
        if not component.in_sync:
            lines += ["", component.name, *([f"  {component.note}"] if component.note else [])]
            lines += [line for finding in component.findings for line in _lines(finding)]
    if drift.strays:
        lines += ["", "of no set", *(line for finding in drift.strays for line in _lines(finding))]
    return "\n".join(lines)


def _row(component: Component) -> list[str]:
    counts = [sum(each.state == state for each in component.findings) for state in ("drifted", "missing", "unknown")]
    revision = "-" if component.revision is None else str(component.revision)
    return [component.name, revision, component.state, *(str(count or "-") for count in counts)]


def _lines(finding: Finding) -> list[str]:
    lines = [f"  {finding.state} {finding.ref}{f': {finding.note}' if finding.note else ''}"]
    return [*lines, *(f"    {field.path}  {field.manager or 'nobody: it was removed'}" for field in finding.fields)]
