# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Results of an apply or removal of a set: the changes, their diffs, warnings, and errors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import FleetError
from ..kube.client import JSON, ApiError
from ..kube.manifests import Key, Ref, difference, ref_of, restarts_pods

#: Actions that leave an object as it was.
_NO_CHANGE = ("unchanged", "kept")


class ApplySetError(FleetError):
    """The set could not be applied or removed; the message names every object concerned."""


class ForeignError(ApplySetError):
    """Objects that the set would create exist and have other owners. `objects` are their identities and owners."""

    def __init__(self, owners: Iterable[tuple[Ref, str]]) -> None:
        foreign = list(owners)
        lines = [f"- {ref} {owner}" for ref, owner in foreign]
        super().__init__("\n".join(["these objects have other owners. Nothing of the set was applied:", *lines]))
        self.objects = [{**ref.as_dict(), "owner": owner} for ref, owner in foreign]


@dataclass
class Outcome:
    """Everything that was done so far or, in check mode, would have been done."""

    with_diff: bool = False
    objects: list[JSON] = field(default_factory=list)
    diff: list[JSON] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    #: Objects of others that nothing refers to any more, because the object that referred to them was adopted.
    unused: list[JSON] = field(default_factory=list)
    #: Number of the set's revision; None if the set has none, and in check mode.
    revision: int | None = None
    #: Namespaces that were applied, as they are now; None for those that were deleted.
    namespaces: dict[str, JSON | None] = field(default_factory=dict)
    #: Namespaces that the set uses from now on; None if the set was not applied or removed completely.
    used: list[str] | None = None

    @property
    def changed(self) -> bool:
        """Return whether any object differs from before."""
        return any(entry["action"] not in _NO_CHANGE for entry in self.objects)

    def add(
        self,
        action: str,
        obj: Mapping[str, Any],
        before: JSON | None = None,
        after: JSON | None = None,
        fields: Iterable[str] = (),
    ) -> None:
        """Add an object with the fields that change, and its diff if diffs are wanted."""
        entry = {**ref_of(obj).as_dict(), "action": action}
        if action in ("configured", "adopted", "replaced"):
            entry["fields"] = list(fields)
            if restarts_pods(obj, entry["fields"] if action != "replaced" else ["spec.template"]):
                entry["restarts"] = True
        self.objects.append(entry)
        if self.with_diff and action not in _NO_CHANGE:
            self.diff.append(difference(before, after))

    def sort(self, keys: Collection[Key]) -> None:
        """Sort the objects as `keys` are sorted; the others come first."""
        order = {key: number for number, key in enumerate(keys)}

        def place(entry: JSON) -> int:
            return order.get(Ref(entry["apiVersion"], entry["kind"], entry["namespace"], entry["name"]).key, -1)

        self.objects.sort(key=place)


def refusal(obj: Mapping[str, Any], error: ApiError) -> str:
    """Return why the API server refused an object; for a conflict, every field with its manager."""
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
