# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Revisions of a set: what it was to be, kept in the cluster, with who wanted that and when.

A revision is a Secret beside the set's parent, because what it describes may hold Secrets. Its content never changes;
the annotations, which tell of names and never of values, say whether all of it was applied.
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

from ..common.paths import COLLECTION
from ..common.runs import who
from ..kube.client import JSON, Api, ApiError, Value
from ..kube.manifests import Key, ref_of
from .ownership import MANAGER

#: Applied revisions of a set that are kept, the current one included, unless somebody says otherwise.
KEPT = 5
SECRET_TYPE = "fleet.kubescale.io/revision"  # noqa: S105 - the type of a Secret, not a secret
#: On a revision: id of its set, which is a valid label for any name of a set.
OF_LABEL = "fleet.kubescale.io/revision-of"
_ANNOTATION = "fleet.kubescale.io/"
_CONTENT = "content.json.xz"
#: Bytes that a Secret can hold, with some left for what is beside the content.
LIMIT = 1_000_000
#: Half the size of gzip's result for CRDs, in the same time; higher ones take six times as long for a seventh less.
_PRESET = 1
#: Objects of each sort that a summary names.
_NAMED = 5
PENDING = "pending"
APPLIED = "applied"


class RevisionError(Exception):
    """A revision cannot be written, read or found; the message says which, and what there is instead."""


class TooLargeError(RevisionError):
    """A set's content does not fit into a Secret."""


class Content(NamedTuple):
    """What a set was to be: its objects, labels of shared namespaces by name, and the arguments about other sets."""

    objects: list[JSON]
    shared: dict[str, dict[str, str]]
    take_from: list[str]
    hand_over: list[dict[str, str]]

    @property
    def by_key(self) -> dict[Key, JSON]:
        """The objects by their identities."""
        return {ref_of(obj).key: obj for obj in self.objects}

    @property
    def digest(self) -> str:
        """The same for equal objects and shared namespaces. Never to be shown: it tells of Secrets if guessed at."""
        return hashlib.sha256(_text([sorted(self.by_key.items()), self.shared]).encode()).hexdigest()

    def packed(self) -> bytes:
        """Compressed, for a Secret. Raises TooLargeError if it is too large for one."""
        packed = lzma.compress(json.dumps(self._asdict(), sort_keys=True).encode(), preset=_PRESET)
        if len(packed) > LIMIT:
            raise TooLargeError(
                f"{len(packed)} bytes when compressed, and a Secret holds {LIMIT}: no revision is kept, and the set "
                "cannot be rolled back to what it is now"
            )
        return packed

    @classmethod
    def unpacked(cls, packed: bytes) -> Content:
        """The content that `packed` gave."""
        return cls(**json.loads(lzma.decompress(packed)))


class Revision(NamedTuple):
    """What is told of a revision; `when` is RFC 3339 in UTC with milliseconds, so that it sorts."""

    set: str
    number: int
    state: str
    run: str
    who: str
    when: str
    version: str
    summary: str

    def as_dict(self) -> JSON:
        """As JSON shows it: "set" is the component, "number" the revision."""
        told = self._asdict()
        return {"component": told.pop("set"), "revision": told.pop("number"), **told}


class History:
    """The revisions of one set (`name`, with the id `set_id`) in one cluster."""

    def __init__(self, api: Api, name: str, namespace: str, set_id: str) -> None:
        self.api = api
        self.name = name
        self.namespace = namespace
        self.set_id = set_id

    def all(self) -> list[Revision]:
        """All of them, oldest first, as one request tells."""
        return revisions_of(self.api, self.namespace, self.set_id).get(self.name, [])

    def contents(self) -> dict[int, Content]:
        """What all of them hold, by number, in one request; without those that cannot be read."""
        found = {}
        for item in self.api.list("v1", "Secret", self.namespace, f"{OF_LABEL}={self.set_id}").items:
            with contextlib.suppress(RevisionError):
                found[_revision(item).number] = _content(item)
        return found

    def content(self, number: int) -> tuple[Content, str] | None:
        """What a revision holds, and its state; None if it is not there. Raises RevisionError if it cannot be read."""
        found = self.api.get("v1", "Secret", self._name_of(number), self.namespace)
        return None if found is None else (_content(found), _revision(found).state)

    def choose(self, content: Content, current: int | None, run: str, note: str) -> tuple[int, bool]:
        """Number of the revision that has `content`, made if the latest one has not; and whether it is pending.

        `current` is the latest one as the parent knows it. Raises TooLargeError and RevisionError.
        """
        digest = content.digest
        latest = self._readable(current)
        if current and latest and latest[0].digest == digest:
            return current, latest[1] != APPLIED
        # One that a killed run has written before the parent knew of it is taken up.
        newest = max((revision.number for revision in self.all()), default=0)
        if newest != current:
            latest = self._readable(newest)
            if latest and latest[0].digest == digest:
                return newest, latest[1] != APPLIED
        self._write(newest + 1, content, run, note or summary(latest[0] if latest else None, content))
        return newest + 1, True

    def finish(self, number: int, keep: int) -> None:
        """Say that all of a revision was applied, and delete those that are too old."""
        change = {"metadata": {"annotations": {f"{_ANNOTATION}state": APPLIED}}}
        self.api.patch("v1", "Secret", self._name_of(number), change, self.namespace)
        for old in superfluous(self.all(), keep):
            self.api.delete("v1", "Secret", self._name_of(old.number), self.namespace)

    def forget(self) -> None:
        """Delete all revisions of the set."""
        path = self.api.resource("v1", "Secret").path(self.namespace)
        self.api.request("DELETE", path, {"labelSelector": f"{OF_LABEL}={self.set_id}"})

    def _name_of(self, number: int) -> str:
        return f"{self.name}.r{number}"

    def _readable(self, number: int | None) -> tuple[Content, str] | None:
        """As `content`, and None for what nobody can read any more: it stands in no run's way."""
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
            hint = ". Another run applies this set now; run again when it has ended" if error.status == 409 else ""
            raise RevisionError(f"{where}, cannot be written: {error}{hint}") from error


def revisions_of(api: Api, namespace: str, set_id: str = "") -> dict[str, list[Revision]]:
    """Revisions of one set, or of all in a namespace, by the name of the set and oldest first. One request."""
    selector = f"{OF_LABEL}={set_id}" if set_id else OF_LABEL
    items = api.list("v1", "Secret", namespace, selector, metadata_only=True).items
    found: dict[str, list[Revision]] = {}
    for revision in sorted(map(_revision, items), key=lambda revision: revision.number):
        found.setdefault(revision.set, []).append(revision)
    return found


def superfluous(revisions: Sequence[Revision], keep: int) -> list[Revision]:
    """Those of a set's revisions (oldest first) that need not be kept any more.

    The last `keep` applied ones stay. Interrupted ones stay until a later one was applied.
    """
    applied = [revision for revision in revisions if revision.state == APPLIED]
    newest = applied[-1].number if applied else 0
    interrupted = [revision for revision in revisions if revision.state != APPLIED and revision.number < newest]
    return [*applied[: max(0, len(applied) - keep)], *interrupted]


def previous(
    revisions: Sequence[Revision], digest_of: Callable[[int], str | None], current: int | None, not_by: str = ""
) -> Revision | None:
    """The revision to which a set goes back: the newest applied one that is older than what the set is now.

    What the set is now began with the oldest applied revision of the same content; so going back twice goes back
    further, or ends, and never returns to what was just left. A way back that was interrupted is gone to its end.

    Args:
        revisions: Those of the set, oldest first.
        digest_of: Gives the digest of a revision's content by its number; None if it cannot be told.
        current: Number of the one that the set has now; None if it has none.
        not_by: Run whose revisions are no place to go back to.
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
    """What differs between two contents, as names of objects."""
    if before is None:
        return f"first revision, {_counted(len(after.objects))}"
    old, new = before.by_key, after.by_key
    sorts = {
        "added": [key for key in new if key not in old],
        "changed": [key for key in new if key in old and _text(old[key]) != _text(new[key])],
        "removed": [key for key in old if key not in new],
    }
    found = [f"{len(keys)} {verb}: {_names(keys)}" for verb, keys in sorts.items() if keys]
    if before.shared != after.shared:
        found.append("shared namespaces changed")
    return "; ".join(found)


def collection_version() -> str:
    """Version of this collection, of its source or as it was installed; "" if neither says."""
    for name, keys in (("MANIFEST.json", ("collection_info", "version")), ("galaxy.yml", ("version",))):
        try:
            found: Any = yaml.safe_load((COLLECTION / name).read_text(encoding="utf-8"))
        except OSError:
            continue
        for key in keys:
            found = found.get(key, {})
        return str(found)
    return ""


def _counted(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"


def _names(keys: Collection[Key]) -> str:
    names = [f"{key.kind} {key.namespace}/{key.name}" if key.namespace else f"{key.kind} {key.name}" for key in keys]
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _text(value: Value) -> str:
    """JSON that is equal for equal values, before and after they were stored: names of fields that are numbers become
    text, which sorts otherwise."""
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
            f"Secret {metadata['namespace']}/{metadata['name']} holds no revision: {error!r}"
        ) from error


def numbers(revisions: Iterable[Revision]) -> str:
    """Revisions' numbers for a message."""
    return ", ".join(str(revision.number) for revision in revisions) or "none"
