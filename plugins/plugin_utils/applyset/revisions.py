# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Revisions of a set: its definitions, stored in the cluster, with the user, time and run of each.

A revision is a Secret beside the set's parent, because its objects may be Secrets. Its content never changes. Its
annotations contain names and no values, and record whether the revision was applied completely.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import lzma
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from ..common.errors import FleetError
from ..common.paths import COLLECTION
from ..common.runs import who
from ..kube.client import JSON, Api, ApiError, Value
from ..kube.manifests import Key, ref_of
from .ownership import MANAGER, set_id

#: Default number of applied revisions that a set keeps, including the current one.
KEPT = 5
SECRET_TYPE = "fleet.kubescale.io/revision"  # noqa: S105 - the type of a Secret, not a secret
#: Label of a revision with the id of its set. The name of a set may be too long for a label.
OF_LABEL = "fleet.kubescale.io/revision-of"
_ANNOTATION = "fleet.kubescale.io/"
_CONTENT = "content.json.xz"
#: Largest content in bytes. A Secret can have 1 MiB, and needs a part of it for its metadata.
LIMIT = 1_000_000
#: For CRDs, half the size of gzip's result in the same time. Higher presets take six times as long for a seventh less.
_PRESET = 1
#: Number of objects that a summary names as added, changed or removed.
_NAMED = 5
PENDING = "pending"
APPLIED = "applied"


class RevisionError(FleetError):
    """A revision cannot be written, read or found."""


class TooLargeError(RevisionError):
    """A definition does not fit into a Secret."""


class Content(NamedTuple):
    """A set's definition: objects, labels of shared namespaces by name, and the options about other sets."""

    objects: list[JSON]
    shared: dict[str, dict[str, str]]
    take_from: list[str]
    hand_over: list[dict[str, str]]

    @property
    def by_key(self) -> dict[Key, JSON]:
        """Return the objects by their identities."""
        return {ref_of(obj).key: obj for obj in self.objects}

    @property
    def digest(self) -> str:
        """Return a digest of the objects and shared namespaces. Never show it: it confirms guessed Secret values."""
        return hashlib.sha256(_text([sorted(self.by_key.items()), self.shared]).encode()).hexdigest()

    def packed(self) -> bytes:
        """Return the compressed content. Raise TooLargeError if it does not fit into a Secret."""
        packed = lzma.compress(json.dumps(self._asdict(), sort_keys=True).encode(), preset=_PRESET)
        if len(packed) > LIMIT:
            raise TooLargeError(
                f"the definition has {len(packed)} bytes when compressed, and a Secret holds {LIMIT}: no revision is "
                "kept, and the set cannot be rolled back to its present state"
            )
        return packed

    @classmethod
    def unpacked(cls, packed: bytes) -> Content:
        """Return the content that `packed` compressed."""
        return cls(**json.loads(lzma.decompress(packed)))


class Revision(NamedTuple):
    """Facts about a revision. `when` is RFC 3339 in UTC with milliseconds, so it sorts as text."""

    set: str
    number: int
    state: str
    run: str
    who: str
    when: str
    version: str
    summary: str

    def as_dict(self) -> JSON:
        """Return the facts for JSON, where "set" is "component" and "number" is "revision"."""
        facts = self._asdict()
        return {"component": facts.pop("set"), "revision": facts.pop("number"), **facts}


class History:
    """The revisions of one set in one cluster."""

    def __init__(self, api: Api, name: str, namespace: str) -> None:
        self.api = api
        self.name = name
        self.namespace = namespace
        self.set_id = set_id(name, namespace)

    def all(self) -> list[Revision]:
        """Return all revisions, oldest first. Send one request."""
        return revisions_of(self.api, self.namespace, self.set_id).get(self.name, [])

    def contents(self) -> dict[int, Content]:
        """Return the contents of all readable revisions, by number. Send one request."""
        contents = {}
        for item in self.api.list("v1", "Secret", self.namespace, f"{OF_LABEL}={self.set_id}").items:
            with contextlib.suppress(RevisionError):
                contents[_revision(item).number] = _content(item)
        return contents

    def content(self, number: int) -> tuple[Content, str] | None:
        """Return the content and state of a revision, or None if there is none. Raise RevisionError if unreadable."""
        secret = self.api.get("v1", "Secret", self._name_of(number), self.namespace)
        return None if secret is None else (_content(secret), _revision(secret).state)

    def choose(self, content: Content, current: int | None, run: str, text: str) -> tuple[int, bool]:
        """Return the number of the revision with `content`, and whether it must still be applied.

        Create the revision unless the latest one has this content. `current` is the number of the latest revision
        according to the parent, `text` the summary of a new one; "" for the differences.

        Raise TooLargeError or RevisionError if the revision cannot be created.
        """
        digest = content.digest
        latest = self._readable(current)
        if current and latest and latest[0].digest == digest:
            return current, latest[1] != APPLIED
        # A run that was killed may have created a revision that the parent does not name yet.
        newest = max((revision.number for revision in self.all()), default=0)
        if newest != current:
            latest = self._readable(newest)
            if latest and latest[0].digest == digest:
                return newest, latest[1] != APPLIED
        self._write(newest + 1, content, run, text or summary(latest[0] if latest else None, content))
        return newest + 1, True

    def finish(self, number: int, keep: int) -> None:
        """Mark a revision as applied, and delete revisions that are too old."""
        change = {"metadata": {"annotations": {f"{_ANNOTATION}state": APPLIED}}}
        self.api.patch("v1", "Secret", self._name_of(number), change, self.namespace)
        for old in superfluous(self.all(), keep):
            self.api.delete("v1", "Secret", self._name_of(old.number), self.namespace)

    def forget(self) -> None:
        """Delete all revisions."""
        path = self.api.resource("v1", "Secret").path(self.namespace)
        self.api.request("DELETE", path, {"labelSelector": f"{OF_LABEL}={self.set_id}"})

    def _name_of(self, number: int) -> str:
        return f"{self.name}.r{number}"

    def _readable(self, number: int | None) -> tuple[Content, str] | None:
        """Return the content and state of a revision, or None if it is missing or unreadable."""
        try:
            return self.content(number) if number else None
        except RevisionError:
            return None

    def _write(self, number: int, content: Content, run: str, text: str) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts = Revision(self.name, number, PENDING, run, who(), now, collection_version(), text)
        annotations = {f"{_ANNOTATION}{key}": str(value) for key, value in facts._asdict().items()}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._name_of(number),
                "namespace": self.namespace,
                "labels": {OF_LABEL: self.set_id},
                "annotations": annotations,
            },
            "type": SECRET_TYPE,
            "immutable": True,
            "data": {_CONTENT: base64.b64encode(content.packed()).decode()},
        }
        path = self.api.resource("v1", "Secret").path(self.namespace)
        try:
            self.api.request("POST", path, {"fieldManager": MANAGER}, body)
        except ApiError as error:
            where = f"revision {number} of the set, Secret {self.namespace}/{self._name_of(number)}"
            hint = ". Another run applies this set now; run again after it has ended" if error.status == 409 else ""
            raise RevisionError(f"{where}, cannot be written: {error}{hint}") from error


def revisions_of(api: Api, namespace: str, of_set: str = "") -> dict[str, list[Revision]]:
    """Return the revisions of all sets in a namespace by the set's name, oldest first. Send one request.

    `of_set` is the id of the only set to read.
    """
    selector = f"{OF_LABEL}={of_set}" if of_set else OF_LABEL
    items = api.list("v1", "Secret", namespace, selector, metadata_only=True).items
    by_set: dict[str, list[Revision]] = {}
    for revision in sorted(map(_revision, items), key=lambda revision: revision.number):
        by_set.setdefault(revision.set, []).append(revision)
    return by_set


def superfluous(revisions: Sequence[Revision], keep: int) -> list[Revision]:
    """Return the revisions to delete. `revisions` are those of a set, oldest first.

    The last `keep` applied revisions stay. An interrupted revision stays until a later one is applied.
    """
    applied = [revision for revision in revisions if revision.state == APPLIED]
    newest = applied[-1].number if applied else 0
    interrupted = [revision for revision in revisions if revision.state != APPLIED and revision.number < newest]
    return [*applied[: max(0, len(applied) - keep)], *interrupted]


def previous(
    revisions: Sequence[Revision], digest_of: Callable[[int], str | None], current: int | None, not_by: str = ""
) -> Revision | None:
    """Return the revision that a rollback goes back to: the newest applied one before the present content.

    The present content began with the oldest applied revision of the same content. So a second rollback goes back
    further, or ends, and never returns to the content that the first one left. An interrupted rollback is completed.

    Args:
        revisions: Revisions of the set, oldest first.
        digest_of: Returns the digest of a revision's content by its number; None if the content is unreadable.
        current: Number of the set's revision; None if the set has none.
        not_by: Run whose revisions the rollback must not go back to.
    """
    now = digest_of(current) if current else None
    same = [revision for revision in revisions if now and digest_of(revision.number) == now]
    present = next((revision for revision in same if revision.number == current), None)
    begun = [revision for revision in same if revision.state == APPLIED]
    if present and present.state != APPLIED and begun:
        return begun[-1]
    began = begun[0].number if begun else current
    older = [
        revision
        for revision in revisions
        if revision.state == APPLIED
        and (began is None or revision.number < began)
        and not (not_by and revision.run == not_by)
    ]
    return older[-1] if older else None


def summary(before: Content | None, after: Content) -> str:
    """Return the differences between two contents, as names of objects."""
    if before is None:
        return f"first revision, {_counted(len(after.objects))}"
    old, new = before.by_key, after.by_key
    changes = {
        "added": [key for key in new if key not in old],
        "changed": [key for key in new if key in old and _text(old[key]) != _text(new[key])],
        "removed": [key for key in old if key not in new],
    }
    parts = [f"{len(keys)} {verb}: {_names(keys)}" for verb, keys in changes.items() if keys]
    if before.shared != after.shared:
        parts.append("shared namespaces changed")
    return "; ".join(parts)


def collection_version() -> str:
    """Return the version of this collection, from its source or installation; "" if neither has one."""
    for name, keys in (("MANIFEST.json", ("collection_info", "version")), ("galaxy.yml", ("version",))):
        try:
            value: Any = yaml.safe_load((COLLECTION / name).read_text(encoding="utf-8"))
        except OSError:
            continue
        for key in keys:
            value = value.get(key, {})
        return str(value)
    return ""


def _counted(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"


def _names(keys: Collection[Key]) -> str:
    names = [f"{key.kind} {key.namespace}/{key.name}" if key.namespace else f"{key.kind} {key.name}" for key in keys]
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _text(value: Value) -> str:
    """Return JSON that is equal for equal values, before and after they were stored.

    The inner call turns keys that are numbers into text, which sorts in another order.
    """
    return json.dumps(json.loads(json.dumps(value)), sort_keys=True)


def _revision(item: Mapping[str, Any]) -> Revision:
    annotations = item["metadata"].get("annotations") or {}
    facts = {field: annotations.get(f"{_ANNOTATION}{field}", "") for field in Revision._fields}
    number = item["metadata"]["name"].rpartition(".r")[2]
    return Revision(**{**facts, "number": int(number) if number.isdigit() else 0})


def _content(item: Mapping[str, Any]) -> Content:
    try:
        return Content.unpacked(base64.b64decode(item["data"][_CONTENT]))
    except (KeyError, TypeError, ValueError, lzma.LZMAError, EOFError) as error:
        metadata = item["metadata"]
        raise RevisionError(
            f"Secret {metadata['namespace']}/{metadata['name']} has no readable revision: {error!r}"
        ) from error


def numbers(revisions: Iterable[Revision]) -> str:
    """Return the numbers of revisions, for a message."""
    return ", ".join(str(revision.number) for revision in revisions) or "none"
