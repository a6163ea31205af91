# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Sets of objects that come and go together: server-side apply in phases, prune, removal.

A set is an ApplySet of KEP-3659, so kubectl understands it: its parent is a ConfigMap that carries the set's id, the
group-kinds and namespaces of its members; every member carries a label with that id.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..common.runs import run_id
from ..kube.client import JSON, Api, ApiError, Resource
from ..kube.manifests import (
    REMINDER_ANNOTATION,
    DefinitionError,
    Key,
    Ref,
    changed_fields,
    difference,
    in_phases,
    in_removal_phases,
    owned_fields,
    phase_of,
    ref_of,
    restarts_pods,
    was_changed,
)
from ..kube.readiness import STATIC_KINDS, is_workload
from ..kube.waiting import NotReadyError, absent, in_parallel, present, unready, wait_for
from .ownership import (
    IRREPLACEABLE,
    MANAGER,
    PART_OF_LABEL,
    all_fields_ours,
    is_member,
    labels_of,
    left_without_use,
    owner_of,
)
from .revisions import KEPT, Content, History, RevisionError, TooLargeError

CRD = "CustomResourceDefinition"
ID_LABEL = "applyset.kubernetes.io/id"
KINDS_ANNOTATION = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES_ANNOTATION = "applyset.kubernetes.io/additional-namespaces"
TOOLING_ANNOTATION = "applyset.kubernetes.io/tooling"
#: Tool and version of the set's format (not of the collection: an upgrade must not rewrite every parent).
TOOLING = f"{MANAGER}/v1.0.0"
#: Namespaces that several sets live in: on the parent which ones, on the namespace that a set of ours made it.
SHARED_ANNOTATION = "fleet.kubescale.io/shared-namespaces"
#: On the parent: number of the revision that the set has, and whether a run that applies it has not ended yet.
REVISION_ANNOTATION = "fleet.kubescale.io/revision"
UNFINISHED_ANNOTATION = "fleet.kubescale.io/revision-unfinished"
#: Key of the parent's data that holds a fingerprint of every member as it was last applied.
FINGERPRINTS = "applied"
#: Of these, metadata is enough to see that nothing changed.
_METADATA_KINDS = (STATIC_KINDS | {CRD}) - {"Secret"}
SHARED_LABEL = "fleet.kubescale.io/shared"
#: Seconds in which a CRD is established, and in which its kind must be served then; the server offers nothing to watch
#: for the latter.
CRD_LAG = 10.0
#: What to do about missing kinds that one of the collection's roles brings, by API group.
_BROUGHT_BY = {"monitoring.coreos.com": "role prometheus brings it: run site.yml with --tags prometheus first"}
#: What Kubernetes itself puts into every namespace or derives from other objects.
DERIVED_KINDS = {"Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision"}
_DERIVED_NAMES = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}

#: Work beside a wait: is entered with the set's objects and with those that are not ready, and left after the wait.
Meanwhile = Callable[[Collection[JSON], Collection[Ref]], AbstractContextManager[None]]


class ApplySetError(Exception):
    """The set could not be applied or removed; the message names every object concerned."""


class ForeignError(ApplySetError):
    """Objects that the set would make exist and are not its own; `objects` are their identities with their owners."""

    def __init__(self, message: str, objects: list[JSON]) -> None:
        super().__init__(message)
        self.objects = objects


class SharedNamespace(NamedTuple):
    """A namespace that several sets live in, and the labels it is created with."""

    name: str
    labels: dict[str, str]


def key_of(obj: Mapping[str, Any]) -> Key:
    """Identity of an object, without the version of its API."""
    return ref_of(obj).key


def group_kind(obj: Mapping[str, Any]) -> str:
    """Kind and group as in the parent's annotation: "Deployment.apps", "ConfigMap"."""
    group = str(obj["apiVersion"]).rpartition("/")[0]
    return f"{obj['kind']}.{group}" if group else str(obj["kind"])


def set_id(name: str, namespace: str) -> str:
    """Id of the set whose parent is ConfigMap `name` in `namespace`, as KEP-3659 derives it."""
    digest = hashlib.sha256(f"{name}.{namespace}.ConfigMap.".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


@dataclass
class Outcome:
    """What was (or, in check mode, would be) done."""

    with_diff: bool = False
    objects: list[JSON] = field(default_factory=list)
    diff: list[JSON] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    #: What others made and nothing refers to any more, because what referred to it was adopted.
    unused: list[JSON] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether any object differs from before."""
        return any(entry["action"] not in ("unchanged", "kept") for entry in self.objects)

    def add(
        self,
        action: str,
        obj: Mapping[str, Any],
        before: JSON | None = None,
        after: JSON | None = None,
        fields: Iterable[str] = (),
    ) -> None:
        """Note one object with the fields that change, and how it changed if a diff is wanted."""
        entry = {**ref_of(obj).as_dict(), "action": action}
        if action in ("configured", "adopted", "replaced"):
            entry["fields"] = list(fields)
            if restarts_pods(obj, entry["fields"] if action != "replaced" else ["spec.template"]):
                entry["restarts"] = True
        self.objects.append(entry)
        if self.with_diff and action not in ("unchanged", "kept"):
            self.diff.append(difference(before, after))


class Handover(NamedTuple):
    """A member that another set shall have now; `done` if that set has it, or (in check mode) would have it by now."""

    kind: str
    name: str
    to: str
    done: bool = False


class Parent(NamedTuple):
    """What the parent says about the set; all sets of names, but for the revision and whether it was applied."""

    exists: bool = False
    kinds: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    fingerprints: frozenset[str] = frozenset()
    revision: int | None = None
    unfinished: bool = False


@dataclass
class Assumed:
    """What sets that were looked at before would have done by now; only check mode knows such things."""

    #: Namespaces as they would be, None for those that would be gone.
    namespaces: dict[str, JSON | None] = field(default_factory=dict)
    #: For the id of each set the namespaces that it would still use.
    used: dict[str, list[str]] = field(default_factory=dict)

    def would_go(self, obj: JSON, namespace: str) -> bool:
        """Whether an object's set would have given up that namespace, and so the object."""
        owner = labels_of(obj).get(PART_OF_LABEL, "")
        return owner in self.used and namespace not in self.used[owner]


class ApplySet:
    """One set in one cluster. With `check`, nothing is changed and the outcome is what would be."""

    def __init__(
        self,
        api: Api,
        name: str,
        namespace: str = "kube-system",
        check: bool = False,
        diff: bool = False,
        force: bool = False,
        adopt: bool = False,
        timeout: float = 300.0,
        say: Callable[[str], None] = lambda text: None,
        take_from: Iterable[str] = (),
        hand_over: Iterable[Handover] = (),
        keep: int = KEPT,
        run: str = "",
        note: str = "",
        assumed: Assumed | None = None,
        meanwhile: Meanwhile = lambda members, pending: nullcontext(),
    ) -> None:
        self.api = api
        self.name = name
        self.namespace = namespace
        self.check = check
        self.force = force
        self.adopt = adopt
        self.deadline = time.monotonic() + timeout
        self.say = say
        self.meanwhile = meanwhile
        self.id = set_id(name, namespace)
        self.selector = f"{PART_OF_LABEL}={self.id}"
        self.others_selector = f"{PART_OF_LABEL}!={self.id}"
        self.take_from = list(take_from)
        self.sources = {set_id(source, namespace) for source in self.take_from}
        self.handovers = {(handover.kind, handover.name): handover for handover in hand_over}
        self.history = History(api, name, namespace, self.id)
        #: Applied revisions to keep, run that a new one belongs to, and what it says of itself.
        self.keep = keep
        self.run = run
        self.note = note
        #: Number of the revision that the set has now; None if it has none, and in check mode.
        self.revision: int | None = None
        self.outcome = Outcome(diff)
        #: Stays empty unless nothing is really done.
        self.assumed = (assumed or Assumed()) if check else Assumed()
        #: Group-kinds whose CRD this run made or changed.
        self.fresh: set[str] = set()
        #: Services that get node ports which a Service that goes holds until then.
        self.inheriting: set[Key] = set()
        #: Others' objects that this run takes over, as they will be; None for those that must be made anew.
        self.adopted: dict[Key, JSON | None] = {}

    # -- the two verbs -------------------------------------------------------------------------------------------

    def apply(self, objects: list[JSON], shared: Iterable[SharedNamespace] = (), wait: bool = True) -> Outcome:
        """Make the cluster have exactly `objects` as members of this set.

        Raises DefinitionError or ApplySetError before the first change for what can be known before; ApplySetError
        for what the server refuses; NotReadyError when something is not ready (or not gone) in time.
        """
        if not objects:
            raise DefinitionError("definition: it holds no objects; to remove the set, say state: absent")
        shared = list(shared)
        parent = self._read_parent()
        self._check_scopes(objects)
        desired = {key_of(obj): _as_member(obj, self.id) for obj in objects}
        content = self._content(list(desired.values()), shared)
        made = {key.name for key in desired if key.kind == "Namespace"} | {namespace.name for namespace in shared}
        namespaces = self._namespaces(made)
        members = self._keep_handovers(self._members(parent.kinds, objects, metadata_only=True))
        settled = {
            key: fingerprint
            for key, obj in desired.items()
            if key in members and (fingerprint := fingerprint_of(obj, members[key])) in parent.fingerprints
        }
        members |= self._complete(obj for key, obj in members.items() if key not in settled)
        others = self._others(desired, members)
        for key in [key for key in others if key.kind == "Namespace" and not self._is_ours(others[key])]:
            # It was there before, and others may live in it: it stays theirs.
            self.outcome.add("unchanged", desired.pop(key))
        live = members | others
        taken = {key for key, obj in others.items() if labels_of(obj).get(PART_OF_LABEL) in self.sources}
        foreign = {key: obj for key, obj in others.items() if key in desired and not self._is_ours(obj)}
        self._adopt({key: obj for key, obj in foreign.items() if key not in taken}, desired)

        now = Parent(
            True,
            frozenset(map(group_kind, desired.values())),
            frozenset(key.namespace for key in desired if key.namespace),
            frozenset(namespace.name for namespace in shared),
        )
        converged = (
            len(settled) == len(desired) == len(members)
            and parent.shared == now.shared
            and not any(_lacks_labels(namespaces[namespace.name], namespace) for namespace in shared)
        )
        unfinished = self._choose_revision(content, parent, converged)
        # First the union of old and new: a run that is killed at any point leaves a parent that knows all members, and
        # takes none for settled that it may have written.
        wide = Parent(
            True,
            parent.kinds | now.kinds,
            parent.namespaces | now.namespaces,
            parent.shared | now.shared,
            frozenset(settled.values()),
            self.revision,
            unfinished,
        )
        self._write_parent(parent, wide)
        for namespace in shared:
            self._apply_shared(namespace, namespaces[namespace.name])

        self._release_node_ports(desired, members)
        applied = {key: members[key] for key in settled}
        for key in settled:
            self.outcome.add("unchanged", desired[key])
        for resource in kinds_of_crds(desired[key] for key in settled).values():
            self.api.add_resource(resource)
        for phase in in_phases(obj for key, obj in desired.items() if key not in settled):
            if not self.check and not taken.isdisjoint(map(key_of, phase)):
                # What serves it until now goes on doing so until what serves it from now on is ready.
                earlier = {key: obj for key, obj in applied.items() if phase_of(obj) < phase_of(phase[0])}
                self._wait_ready(earlier)
            results = self._apply_phase(phase, live, made)
            applied |= results
            if phase[0]["kind"] == CRD:
                self._take_up_kinds(phase, live, results)
        order = {key: number for number, key in enumerate(desired)}
        self.outcome.objects.sort(key=lambda entry: order.get(_ref_of_entry(entry).key, -1))

        kept = self._delete([obj for key, obj in members.items() if key not in desired], "pruned", desired, now.shared)
        self._release(parent.shared - now.shared)
        new = {fingerprint_of(desired[key], obj) for key, obj in applied.items() if key not in settled}
        fingerprints = wide.fingerprints | new - {""}
        kinds = now.kinds | frozenset(map(group_kind, kept))
        if self.revision and unfinished:
            self.history.finish(self.revision, self.keep)
        self._write_parent(wide, now._replace(kinds=kinds, fingerprints=fingerprints, revision=self.revision))
        self.assumed.used[self.id] = sorted(now.namespaces | now.shared)
        if wait and not self.check:
            self._wait_ready(applied)
        return self.outcome

    def remove(self) -> Outcome:
        """Delete all members, then shared namespaces no other set lists, then the parent; wait until they are gone."""
        parent = self._read_parent()
        if not parent.exists:
            return self.outcome
        members = self._keep_handovers(self._members(parent.kinds, []))
        kept = self._delete(list(members.values()), "deleted", (), ())
        if kept:
            self._write_parent(parent, Parent(True, frozenset(map(group_kind, kept)), frozenset(), parent.shared))
            return self.outcome
        self._release(parent.shared)
        self.assumed.used[self.id] = []
        if not self.check:
            self.history.forget()
            self.api.delete("v1", "ConfigMap", self.name, self.namespace)
        return self.outcome

    # -- the revision --------------------------------------------------------------------------------------------

    def _content(self, objects: list[JSON], shared: Iterable[SharedNamespace]) -> Content:
        """What the set is to be, as a revision keeps it."""
        hand_over = [{"kind": entry.kind, "name": entry.name, "to": entry.to} for entry in self.handovers.values()]
        return Content(objects, {namespace.name: namespace.labels for namespace in shared}, self.take_from, hand_over)

    def _choose_revision(self, content: Content, parent: Parent, converged: bool) -> bool:
        """Make `revision` the one that has `content`; returns whether it is still to be applied.

        Where everything is `converged`, the latest revision is known to be it without asking.
        """
        if self.check:
            return False
        if not self.keep:
            if parent.revision is not None:
                self.history.forget()
            return False
        if converged and parent.revision is not None and not parent.unfinished:
            self.revision = parent.revision
            return False
        try:
            self.revision, unfinished = self.history.choose(content, parent.revision, self.run or run_id(), self.note)
        except TooLargeError as error:
            self.outcome.warnings.append(str(error))
            return False
        except RevisionError as error:
            raise ApplySetError(str(error)) from error
        return unfinished

    # -- the parent ----------------------------------------------------------------------------------------------

    def _read_parent(self) -> Parent:
        found = self.api.get("v1", "ConfigMap", self.name, self.namespace)
        if found is None:
            return Parent()
        where = f"ConfigMap {self.namespace}/{self.name}"
        if labels_of(found).get(ID_LABEL) != self.id:
            raise ApplySetError(
                f"{where} exists and is not the parent of a set; name the set otherwise than {self.name!r}"
            )
        tool = _tool(found)
        if tool.partition("/")[0] != MANAGER:
            raise ApplySetError(f"{where} is a set of another tool ({tool or 'unnamed'}); name the set otherwise")
        return _parent(found)

    def _write_parent(self, old: Parent, new: Parent) -> None:
        additional = new.namespaces - {self.namespace}
        if self.check or new._replace(namespaces=additional) == old._replace(
            namespaces=old.namespaces - {self.namespace}
        ):
            return
        revision = {REVISION_ANNOTATION: str(new.revision)} if new.revision else {}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {ID_LABEL: self.id},
                "annotations": {
                    TOOLING_ANNOTATION: TOOLING,
                    KINDS_ANNOTATION: ",".join(sorted(new.kinds)),
                    NAMESPACES_ANNOTATION: ",".join(sorted(additional)),
                    SHARED_ANNOTATION: ",".join(sorted(new.shared)),
                    **revision,
                    **({UNFINISHED_ANNOTATION: "true"} if new.unfinished else {}),
                },
            },
            "data": {FINGERPRINTS: ",".join(sorted(new.fingerprints))},
        }
        try:
            self.api.apply(body, MANAGER, force=True)
        except ApiError as error:
            raise ApplySetError(f"the set's parent, ConfigMap {self.namespace}/{self.name}: {error}") from error

    # -- looking -------------------------------------------------------------------------------------------------

    def _check_scopes(self, objects: list[JSON]) -> None:
        """Refuse objects whose kind nobody serves, and namespaces where none belong or are missing."""
        problems = []
        known = {**self.api.resources(), **kinds_of_crds(objects)}
        for obj in objects:
            ref = ref_of(obj)
            kind = known.get((ref.api_version, ref.kind))
            if kind is None:
                text = f"{ref}: the cluster serves no kind {ref.kind} of {ref.api_version}"
                if self.check:
                    self.outcome.warnings.append(f"{text} now; it is assumed that an earlier step would change that")
                else:
                    advice = _BROUGHT_BY.get(ref.key.group, "apply its CRD first, or correct the apiVersion")
                    problems.append(f"{text}, and no CRD here makes it; {advice}")
            elif kind.namespaced and not ref.namespace:
                problems.append(f"{ref} has no metadata.namespace; kind {ref.kind} needs one")
            elif not kind.namespaced and ref.namespace:
                problems.append(f"{ref}: kind {ref.kind} is cluster-wide; remove metadata.namespace")
        if problems:
            raise DefinitionError("definition: " + "; ".join(problems))

    def _members(self, kinds: Iterable[str], objects: list[JSON], metadata_only: bool = False) -> dict[Key, JSON]:
        """Live objects that carry this set's label, of the kinds that the parent or the new objects name.

        With `metadata_only`, those whose status does not matter come without anything but metadata.
        """
        wanted = {group_kind(obj): (obj["apiVersion"], obj["kind"]) for obj in objects}
        for resource in self.api.resources().values():  # the preferred version of a group comes first
            if resource.group_kind in kinds and "list" in resource.verbs:
                wanted.setdefault(resource.group_kind, (resource.api_version, resource.kind))
        known = [kind for kind in wanted.values() if kind in self.api.resources()]

        def listing(kind: tuple[str, str]) -> list[JSON]:
            partly = metadata_only and kind[1] in _METADATA_KINDS
            return self.api.list(*kind, label_selector=self.selector, metadata_only=partly).items

        return {key_of(item): item for items in in_parallel(listing, known) for item in items}

    def _keep_handovers(self, members: dict[Key, JSON]) -> dict[Key, JSON]:
        """The members without those that another set has by now; refuse to lose one that it has not."""
        waiting = []
        kept = dict(members)
        for key in members:
            if handover := self.handovers.get((key.kind, key.name)):
                del kept[key]
                if not handover.done:
                    waiting.append(f"{ref_of(members[key])} is to go to set {handover.to}, which has not taken it yet")
        if waiting:
            raise ApplySetError("\n".join([*waiting, "Nothing of the set was changed. Apply that set first."]))
        return kept

    def _complete(self, objects: Iterable[JSON]) -> dict[Key, JSON]:
        """The whole objects where only metadata was read."""
        partial = [obj for obj in objects if obj["kind"] in _METADATA_KINDS]
        return {key_of(obj): obj for obj in in_parallel(self._read, partial) if obj is not None}

    def _read(self, obj: JSON) -> JSON | None:
        ref = ref_of(obj)
        return self.api.get(ref.api_version, ref.kind, ref.name, ref.namespace or None)

    def _namespaces(self, names: Iterable[str]) -> dict[str, JSON | None]:
        """The namespaces that this set makes, as they are; those that are going away (and all in them) are awaited."""
        found = {name: self.api.get("v1", "Namespace", name) for name in names}
        found |= {name: live for name, live in self.assumed.namespaces.items() if name in found}
        going = [ref_of(live) for live in found.values() if live and "deletionTimestamp" in live["metadata"]]
        if going and not self.check:
            wait_for(self.api, going, absent, self.deadline, say=self.say, explain=False)
            found |= dict.fromkeys((ref.name for ref in going), None)
        return found

    def _others(self, desired: Mapping[Key, JSON], members: Mapping[Key, JSON]) -> dict[Key, JSON]:
        """Live objects that have the name of a desired one but not this set's label."""
        served = self.api.resources()
        others = (obj for key, obj in desired.items() if key not in members)
        missing = [obj for obj in others if (obj["apiVersion"], obj["kind"]) in served]
        names = {key.namespace for key in map(key_of, missing) if key.namespace}
        found = in_parallel(lambda name: (name, self.api.get("v1", "Namespace", name)), names)
        absent_namespaces = {name for name, namespace in found if namespace is None}
        possible = [obj for obj in missing if key_of(obj).namespace not in absent_namespaces]
        return {key_of(obj): obj for obj in in_parallel(self._read, possible) if obj is not None}

    def _is_ours(self, obj: JSON) -> bool:
        """Whether a live object may be written: a member, a namespace that sets of ours made, or one that goes away."""
        shared = obj["kind"] == "Namespace" and SHARED_LABEL in labels_of(obj)
        return shared or is_member(obj, self.id) or "deletionTimestamp" in obj["metadata"]

    def _adopt(self, foreign: Mapping[Key, JSON], desired: Mapping[Key, JSON]) -> None:
        """Refuse others' objects, or note what becomes of them; nothing is changed yet."""
        if not foreign:
            return
        parents: dict[str, str] = {}
        if any(PART_OF_LABEL in labels_of(obj) for obj in foreign.values()):
            parents = {
                labels_of(item)[ID_LABEL]: f"{item['metadata']['namespace']}/{item['metadata']['name']}"
                for item in self.api.list("v1", "ConfigMap", label_selector=ID_LABEL).items
            }
        problems: list[JSON] = []
        for obj in foreign.values():
            owner = owner_of(obj)
            if label := labels_of(obj).get(PART_OF_LABEL):
                owner = f"belongs to a set that is not there any more ({label})"
                if label in parents:
                    owner = f"belongs to set {parents[label]}; remove it there, or remove its label {PART_OF_LABEL}"
            if not self.adopt or label in parents:
                problems.append({**ref_of(obj).as_dict(), "owner": owner})
        if problems:
            raise ForeignError(_foreign_text(problems), problems)
        self.adopted = dict(in_parallel(lambda key: (key, self._adoption(desired[key], foreign[key])), foreign))
        for obj in left_without_use(self.api, foreign.values(), desired):
            self.outcome.unused.append(ref_of(obj).as_dict())
            self.outcome.warnings.append(
                f"{ref_of(obj)} is of no use any more, and was left as it is; it {owner_of(obj)}: remove it there"
            )

    def _adoption(self, obj: JSON, live: JSON) -> JSON | None:
        """What another's object would be once it is as we describe it; None if only a new one can be that."""
        ref = ref_of(obj)
        resource = self.api.resource(ref.api_version, ref.kind)
        body = {**obj, "metadata": {**obj["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}}
        try:
            return self.api.request(
                "PUT", resource.path(ref.namespace, ref.name), {"dryRun": "All", "fieldManager": MANAGER}, body
            )[1]
        except ApiError as error:
            if error.status == 409:
                raise ApplySetError(f"{ref} was changed while it was looked at; run again: {error}") from error
            if error.status != 422 or ref.kind in IRREPLACEABLE:
                raise ApplySetError(f"{ref} cannot be adopted: {error}") from error
            refused = error
        # One that could be made, but not made from theirs: fields that never change are in the way.
        body = {**obj, "metadata": {**obj["metadata"], "name": None, "generateName": "adopt-"}}
        try:
            self.api.request("POST", resource.path(ref.namespace), {"dryRun": "All"}, body)
        except ApiError as error:
            raise ApplySetError(f"{ref} cannot be adopted: {refused}") from error
        self.outcome.warnings.append(f"{ref} is deleted and made anew, as it cannot be changed in place: {refused}")
        return None

    def _take_over(self, obj: JSON, live: JSON) -> None:
        """Make another's object one that the next apply can turn into ours."""
        ref = ref_of(obj)
        if self.adopted[ref.key] is None:
            if self._delete_one({**live, "apiVersion": ref.api_version, "kind": ref.kind}) is not None:
                wait_for(self.api, [ref], absent, self.deadline, say=self.say, explain=False)
            return
        metadata = {"uid": live["metadata"]["uid"], "managedFields": all_fields_ours(live)}
        self.api.patch(ref.api_version, ref.kind, ref.name, {"metadata": metadata}, ref.namespace or None)

    # -- applying ------------------------------------------------------------------------------------------------

    def _wait_ready(self, applied: Mapping[Key, JSON]) -> None:
        """Wait until all that was applied is ready."""
        # CRDs were waited for in their phase, and of those that are settled only the metadata was read.
        members = [obj for key, obj in applied.items() if key.kind != CRD]
        if pending := unready(self.api, members):
            with self.meanwhile(members, pending):
                wait_for(self.api, pending, present, self.deadline, self.selector, self.say)

    def _apply_shared(self, namespace: SharedNamespace, live: JSON | None) -> None:
        """Make a shared namespace, or set the labels of one that sets of ours made; others' stay as they are."""
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace.name, "labels": {**namespace.labels, SHARED_LABEL: "true"}},
        }
        if live is not None and SHARED_LABEL not in labels_of(live) and labels_of(live).get(PART_OF_LABEL) != self.id:
            self.outcome.add("unchanged", body)
            return
        # Each set owns the labels under a manager name of its own: sets that disagree get a conflict, not a fight.
        manager = f"{MANAGER}/{self.name}"
        try:
            result = self._patch(body, live, {namespace.name}, manager, self.force)
            self._note(body, live, result, manager)
            self.assumed.namespaces[namespace.name] = result
        except ApiError as error:
            raise ApplySetError(_refused(body, error)) from error

    def _apply_phase(self, phase: list[JSON], live: Mapping[Key, JSON], made: set[str]) -> dict[Key, JSON]:
        problems: list[str] = []
        lock = threading.Lock()

        def one(obj: JSON) -> JSON | None:
            key = key_of(obj)
            try:
                if key not in self.adopted:
                    return self._patch(obj, live.get(key), made, MANAGER, self.force)
                if self.check:
                    return self.adopted[key] or obj
                self._take_over(obj, live[key])
                return self._patch(obj, None, made, MANAGER, force=True)
            except ApiError as error:
                with lock:
                    problems.append(_refused(obj, error))
                return None

        results = in_parallel(one, phase)
        applied: dict[Key, JSON] = {}
        for obj, result in zip(phase, results, strict=True):
            if result is not None:
                self._note(obj, live.get(key_of(obj)), result, MANAGER)
                applied[key_of(obj)] = result
                if obj["kind"] == "Namespace":
                    self.assumed.namespaces[obj["metadata"]["name"]] = result
        if problems:
            raise ApplySetError("\n".join(sorted(problems)))
        return applied

    def _release_node_ports(self, desired: Mapping[Key, JSON], members: Mapping[Key, JSON]) -> None:
        """Take ports of the nodes, which only one Service can have, from Services that go for those that come.

        They are deleted last, as all that goes, so that inside the cluster they serve until what comes is there.
        """
        wanted = {port: key for key, obj in desired.items() for port in _node_ports(obj)}
        for key, obj in members.items():
            if key not in desired and (taken := _node_ports(obj) & wanted.keys()):
                self.inheriting |= {wanted[port] for port in taken}
                if not self.check:
                    self.api.patch("v1", "Service", key.name, {"spec": {"type": "ClusterIP"}}, key.namespace)

    def _patch(self, obj: JSON, live: JSON | None, made: set[str], manager: str, force: bool) -> JSON:
        """The object as the server has it after apply (or would have it, in check mode)."""
        kind = (obj["apiVersion"], obj["kind"])
        if live is not None and "deletionTimestamp" in live["metadata"] and not self.check:
            # Somebody (an earlier, interrupted run) is deleting it: what is written now would vanish with it.
            wait_for(self.api, [ref_of(live)], absent, self.deadline, say=self.say)
        if not self.check:
            give_up = time.monotonic() + CRD_LAG
            while True:
                try:
                    return self.api.apply(obj, manager, force)[0]
                except ApiError as error:
                    # The CRD was made or changed a moment ago: its server may lag behind the condition Established.
                    lagging = group_kind(obj) in self.fresh and error.status in (400, 404, 422, 500)
                    if not lagging or time.monotonic() > give_up:
                        raise
                    threading.Event().wait(0.1)
        if kind not in self.api.resources():
            return obj
        if key_of(obj) in self.inheriting and live is None:
            return obj  # a try would say that the port is taken, and it is until then
        try:
            return self.api.apply(obj, manager, force, dry_run=True)[0]
        except ApiError as error:
            namespace = obj["metadata"].get("namespace")
            if error.status == 404 and namespace and live is None:
                if namespace not in made:
                    self.outcome.warnings.append(
                        f"{ref_of(obj)}: namespace {namespace} does not exist, nor is it made here"
                    )
                return obj
            if group_kind(obj) in self.fresh and error.status in (400, 422, 500):
                self.outcome.warnings.append(f"{ref_of(obj)} cannot be tried before its CRD has changed: {error}")
                return {**(live or {}), **obj}
            raise

    def _note(self, obj: JSON, live: JSON | None, result: JSON, manager: str) -> None:
        if key_of(obj) in self.adopted and live is not None:
            # Made anew, an object shares nothing with the one before that would be worth listing.
            fields = changed_fields(live, result, None, manager) if self.adopted[key_of(obj)] else []
            self.outcome.add("adopted" if self.adopted[key_of(obj)] else "replaced", obj, live, result, fields)
        elif live is None or "deletionTimestamp" in live["metadata"]:
            self.outcome.add("created", obj, None, result)
        elif was_changed(live, result, obj, manager):
            self.outcome.add("configured", obj, live, result, changed_fields(live, result, obj, manager))
        else:
            self.outcome.add("unchanged", obj)

    def _take_up_kinds(self, crds: list[JSON], live: Mapping[Key, JSON], results: Mapping[Key, JSON]) -> None:
        """Wait until the kinds of just applied CRDs are served, and remember which of them are new or changed."""
        changed = [
            crd
            for crd in crds
            if (old := live.get(key_of(crd))) is None or was_changed(old, results[key_of(crd)], crd, MANAGER)
        ]
        self.fresh |= {resource.group_kind for resource in kinds_of_crds(changed).values()}
        if self.check:
            return
        if pending := unready(self.api, results.values()):
            self._wait_established(pending)
        for resource in kinds_of_crds(crds).values():
            self.api.add_resource(resource)

    def _wait_established(self, crds: list[Ref]) -> None:
        """Wait until CRDs are established, and remind a server that has forgotten some.

        One that restarts after it has accepted a CRD's names and before it has established the CRD takes that up again
        only when the CRD changes, which applying the same once more does not do.
        """
        soon = min(self.deadline, time.monotonic() + CRD_LAG)
        try:
            wait_for(self.api, crds, present, soon, self.selector, self.say, explain=False)
        except NotReadyError as error:
            for ref in error.objects:
                for value in ("now", None):
                    change = {"metadata": {"annotations": {REMINDER_ANNOTATION: value}}}
                    self.api.patch(ref.api_version, ref.kind, ref.name, change)
            wait_for(self.api, error.objects, present, self.deadline, self.selector, self.say)

    # -- deleting ------------------------------------------------------------------------------------------------

    def _delete(
        self, objects: list[JSON], action: str, desired: Collection[Key], shared: Collection[str]
    ) -> list[JSON]:
        """Delete objects in phases, each waited for. Returns those that are kept because something still needs them."""
        kept: list[JSON] = []
        for phase in in_removal_phases(objects):
            doomed = []
            for obj in phase:
                if obj["kind"] == "Namespace" and obj["metadata"]["name"] in shared:
                    self._make_shared(obj)
                elif user := self._user_of(obj, desired):
                    kept.append(obj)
                    self.outcome.add("kept", obj)
                    self.outcome.warnings.append(f"{ref_of(obj)} is kept: {user} would be lost with it")
                else:
                    doomed.append(obj)
            pending = [ref for ref in in_parallel(self._delete_one, doomed) if ref is not None]
            for obj in doomed:
                self.outcome.add(action, obj, obj, None)
                if obj["kind"] == "Namespace":
                    self.assumed.namespaces[obj["metadata"]["name"]] = None
            if pending and not self.check:
                wait_for(self.api, pending, absent, self.deadline, say=self.say, explain=False)
        return kept

    def _delete_one(self, obj: JSON) -> Ref | None:
        """Ask for the deletion of one object; returns its identity if it is not gone at once."""
        ref = ref_of(obj)
        # Foreground: a workload is gone when its pods are, so what they need can be taken away after that.
        propagation = "Foreground" if is_workload(obj) else "Background"
        try:
            left = self.api.delete(
                *ref[:2], ref.name, ref.namespace or None, obj["metadata"]["uid"], propagation, dry_run=self.check
            )
        except ApiError as error:
            if error.status == 409:  # another object has taken the name: it is not ours
                return None
            raise ApplySetError(f"{ref} cannot be deleted: {error}") from error
        return ref if left is not None else None

    def _make_shared(self, namespace: JSON) -> None:
        """A namespace that was a member is now a shared one (and noted as such): it is not to be pruned."""
        if not self.check:
            change = {"metadata": {"labels": {PART_OF_LABEL: None}}}
            self.api.patch("v1", "Namespace", namespace["metadata"]["name"], change)

    def _user_of(self, obj: JSON, desired: Collection[Key]) -> str:
        """Name of something that stays, or is others', and would be lost with a namespace or CRD; "" if nothing."""
        if obj["kind"] == "Namespace" and obj["apiVersion"] == "v1":
            name = obj["metadata"]["name"]
            for key in desired:
                if key.namespace == name:
                    return f"{key.kind} {key.namespace}/{key.name}"
            return self._foreign_in_namespace(name)
        if obj["kind"] == CRD:
            for resource in kinds_of_crds([obj]).values():
                for key in desired:
                    if (key.group, key.kind) == (resource.group, resource.kind):
                        return f"{key.kind} {key.namespace}/{key.name}"
                if (resource.api_version, resource.kind) in self.api.resources():
                    others = self.api.list(
                        resource.api_version, resource.kind, label_selector=self.others_selector
                    ).items
                    return str(ref_of(others[0])) if others else ""
        return ""

    def _foreign_in_namespace(self, namespace: str) -> str:
        """Name of an object in a namespace that is not of this set and that nobody would make again; "" if none."""
        kinds: dict[str, Resource] = {}
        for resource in self.api.resources().values():
            derived = resource.kind in DERIVED_KINDS or resource.group.endswith("metrics.k8s.io")
            if resource.namespaced and {"list", "delete"} <= resource.verbs and not derived:
                kinds.setdefault(resource.group_kind, resource)

        def first(resource: Resource) -> str:
            try:
                items = self.api.list(resource.api_version, resource.kind, namespace, self.others_selector).items
            except ApiError as error:
                if error.status in (404, 405, 503):
                    return ""
                raise
            for item in items:
                metadata = item["metadata"]
                derived = metadata.get("ownerReferences") or (resource.kind, metadata["name"]) in _DERIVED_NAMES
                if not derived and "deletionTimestamp" not in metadata and not self.assumed.would_go(item, namespace):
                    return str(ref_of(item))
            return ""

        return next((user for user in in_parallel(first, kinds.values()) if user), "")

    def _release(self, namespaces: Iterable[str]) -> None:
        """Delete shared namespaces that sets of ours made, if no other set lists them and nobody else uses them."""
        names = sorted(namespaces)
        if not names:
            return
        listed: set[str] = set()
        for item in self.api.list("v1", "ConfigMap", label_selector=ID_LABEL).items:
            owner = labels_of(item)[ID_LABEL]
            if owner != self.id:
                shared = _names((item["metadata"].get("annotations") or {}).get(SHARED_ANNOTATION))
                listed |= shared & set(self.assumed.used[owner]) if owner in self.assumed.used else shared
        for name in names:
            live = self.api.get("v1", "Namespace", name)
            if name in listed or live is None or SHARED_LABEL not in labels_of(live):
                continue
            if user := self._foreign_in_namespace(name):
                self.outcome.add("kept", live)
                self.outcome.warnings.append(f"{ref_of(live)} is kept: {user} would be lost with it")
                continue
            pending = self._delete_one(live)
            self.outcome.add("deleted", live, live, None)
            self.assumed.namespaces[name] = None
            if pending is not None and not self.check:
                wait_for(self.api, [pending], absent, self.deadline, say=self.say, explain=False)


def sets_of(api: Api, namespace: str = "kube-system") -> dict[str, Parent]:
    """What the parents of all sets of ours in a namespace say, by the set's name."""
    items = api.list("v1", "ConfigMap", namespace, ID_LABEL).items
    ours = [item for item in items if _tool(item).partition("/")[0] == MANAGER]
    return {item["metadata"]["name"]: _parent(item) for item in ours}


def choose_sets(sets: Mapping[str, Parent], names: Collection[str]) -> dict[str, Parent]:
    """Those of the sets that are named, as a role or as a set: '_' is the same as '-'. All of them without names.

    Raises ApplySetError for names of none.
    """
    wanted = {name.replace("_", "-") for name in names}
    chosen = {name: parent for name, parent in sets.items() if not wanted or name.replace("_", "-") in wanted}
    if unknown := sorted(wanted - {name.replace("_", "-") for name in chosen}):
        known = ", ".join(sorted(sets)) or "none"
        raise ApplySetError(f"component is {', '.join(unknown)!r}; the cluster has no such set, there are: {known}")
    return chosen


def wait_for_sets(
    api: Api,
    names: Iterable[str] | None,
    namespace: str = "kube-system",
    timeout: float = 300.0,
    say: Callable[[str], None] = lambda text: None,
    meanwhile: Meanwhile = lambda members, pending: nullcontext(),
) -> int:
    """Wait until all members of sets (all of ours if `names` is None) are ready; returns the number of objects seen.

    Raises ApplySetError for a name that is no set, NotReadyError when objects are not ready in time.
    """
    deadline = time.monotonic() + timeout
    parents = sets_of(api, namespace)
    wanted = sorted(parents) if names is None else sorted(set(names))
    if unknown := [name for name in wanted if name not in parents]:
        known = ", ".join(sorted(parents)) or "none"
        raise ApplySetError(f"names: {', '.join(unknown)}: no such set in namespace {namespace}; there are: {known}")
    if not wanted:
        return 0
    kinds = frozenset().union(*(parents[name].kinds for name in wanted))
    selector = f"{PART_OF_LABEL} in ({','.join(set_id(name, namespace) for name in wanted)})"
    chosen: dict[str, tuple[str, str]] = {}
    for resource in api.resources().values():
        if resource.group_kind in kinds and resource.kind not in STATIC_KINDS and "list" in resource.verbs:
            chosen.setdefault(resource.group_kind, (resource.api_version, resource.kind))
    listings = in_parallel(lambda kind: api.list(kind[0], kind[1], None, selector).items, chosen.values())
    members = {ref_of(item): item for listing in listings for item in listing}
    if pending := unready(api, members.values()):
        with meanwhile(members.values(), pending):
            wait_for(api, pending, present, deadline, selector, say)
    return len(members)


def kinds_of_crds(objects: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Resource]:
    """The kinds that the CRDs among the objects make, by (apiVersion, kind)."""

    def kinds() -> Iterator[Resource]:
        for obj in objects:
            if obj["kind"] != CRD:
                continue
            spec = obj.get("spec") or {}
            names, group = spec.get("names") or {}, spec.get("group", "")
            for version in spec.get("versions") or []:
                if version.get("served"):
                    verbs = frozenset({"get", "list", "watch", "patch", "delete"})
                    yield Resource(
                        f"{group}/{version.get('name')}",
                        names.get("kind", ""),
                        names.get("plural", ""),
                        spec.get("scope") == "Namespaced",
                        verbs,
                    )

    return {(resource.api_version, resource.kind): resource for resource in kinds()}


def _tool(parent: Mapping[str, Any]) -> str:
    return str((parent["metadata"].get("annotations") or {}).get(TOOLING_ANNOTATION, ""))


def _parent(item: Mapping[str, Any]) -> Parent:
    annotations = item["metadata"].get("annotations") or {}
    number = annotations.get(REVISION_ANNOTATION, "")
    return Parent(
        True,
        _names(annotations.get(KINDS_ANNOTATION)),
        _names(annotations.get(NAMESPACES_ANNOTATION)),
        _names(annotations.get(SHARED_ANNOTATION)),
        _names((item.get("data") or {}).get(FINGERPRINTS)),
        int(number) if number.isdigit() else None,
        UNFINISHED_ANNOTATION in annotations,
    )


def fingerprint_of(desired: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """What identifies an applied object: its manifest, and the fields of the live one that we own; "" if none can be.

    While a live object has the same uid and the same entry of ours in its managedFields, nobody has changed a field of
    ours: who does takes it over, and the entry loses it. Applying the same manifest would then change nothing, so it
    need not be sent: finding that out costs the server 2 ms for an object, 100 ms for a large CRD. A Secret has no
    fingerprint, as that would give away whether a guessed value is right.
    """
    metadata = live["metadata"]
    owned = owned_fields(live, MANAGER)
    if desired["kind"] == "Secret" or owned is None or "deletionTimestamp" in metadata:
        return ""
    facts = [key_of(desired), metadata.get("uid"), owned, desired]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _node_ports(obj: Mapping[str, Any]) -> set[int]:
    """Ports of the nodes that lead to a Service; empty for all other kinds."""
    if obj["kind"] != "Service" or obj["apiVersion"] != "v1":
        return set()
    return {port["nodePort"] for port in obj["spec"].get("ports") or [] if port.get("nodePort")}


def _as_member(obj: JSON, set_id_: str) -> JSON:
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), PART_OF_LABEL: set_id_}
    member = {**obj, "metadata": {**metadata, "labels": labels}}
    if obj["kind"] == "Secret" and "stringData" in obj:
        # The server keeps data only: with stringData a value that is no longer named would stay for ever.
        text = member.pop("stringData") or {}
        data = {key: base64.b64encode(str(value).encode()).decode() for key, value in text.items()}
        member["data"] = {**(obj.get("data") or {}), **data}
    return member


def _lacks_labels(live: JSON | None, namespace: SharedNamespace) -> bool:
    """Whether a shared namespace is missing, or made by sets of ours with other labels."""
    if live is None:
        return True
    return SHARED_LABEL in labels_of(live) and not namespace.labels.items() <= labels_of(live).items()


def _names(annotation: str | None) -> frozenset[str]:
    return frozenset(name for name in (annotation or "").split(",") if name)


def _ref_of_entry(entry: Mapping[str, str]) -> Ref:
    return Ref(entry["apiVersion"], entry["kind"], entry["namespace"], entry["name"])


def _foreign_text(objects: Collection[JSON]) -> str:
    lines = [f"- {_ref_of_entry(obj)} {obj['owner']}" for obj in objects]
    return "others have made what it would make. Nothing of the set was applied:\n" + "\n".join(lines)


def _refused(obj: Mapping[str, Any], error: ApiError) -> str:
    """One refused object in a person's words: for a conflict every field with its manager."""
    conflicts = [cause for cause in error.causes if cause.get("reason") == "FieldManagerConflict"]
    if conflicts:
        fields = "; ".join(f"field {cause.get('field')}: {cause.get('message')}" for cause in conflicts)
        return (
            f"{ref_of(obj)}: {fields}. Undo that edit, leave these fields out, or take them over with "
            "force_conflicts: true"
        )
    hint = ""
    if "field is immutable" in str(error):
        hint = ". The field cannot be changed in place: delete the object or give the new one another name"
    return f"{ref_of(obj)}: {error}{hint}"
