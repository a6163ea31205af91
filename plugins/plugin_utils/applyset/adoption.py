# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Objects that others created: refuse them, or take them over."""

from __future__ import annotations

from collections.abc import Mapping

from ..kube.client import JSON, ApiError
from ..kube.manifests import Key, ref_of
from ..kube.waiting import in_parallel
from .operation import Operation
from .outcome import ApplySetError, ForeignError
from .ownership import (
    IRREPLACEABLE,
    MANAGER,
    PART_OF_LABEL,
    all_fields_ours,
    labels_of,
    left_without_use,
    owner_of,
)
from .parent import ID_LABEL, all_parents
from .pruning import delete_object


def plan_adoption(
    operation: Operation, foreign: Mapping[Key, JSON], desired: Mapping[Key, JSON]
) -> dict[Key, JSON | None]:
    """Return foreign objects as they will be once they are adopted. Change nothing.

    None stands for an object that must be deleted and created again. Raise ForeignError if an object must not be
    adopted, ApplySetError if it cannot be.
    """
    if not foreign:
        return {}
    _refuse(operation, foreign)
    adopted = dict(in_parallel(lambda key: (key, _adoption(operation, desired[key], foreign[key])), foreign))
    for obj in left_without_use(operation.api, foreign.values(), desired):
        operation.outcome.unused.append(ref_of(obj).as_dict())
        operation.outcome.warnings.append(
            f"{ref_of(obj)} is not used any more and was left as it is; it {owner_of(obj)}: remove it there"
        )
    return adopted


def _refuse(operation: Operation, foreign: Mapping[Key, JSON]) -> None:
    """Raise ForeignError for objects of living sets and, without the option `adopt`, for all others."""
    parents: dict[str, str] = {}
    if any(PART_OF_LABEL in labels_of(obj) for obj in foreign.values()):
        parents = {
            labels_of(item)[ID_LABEL]: f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in all_parents(operation.api)
        }
    refused = []
    for obj in foreign.values():
        owner = owner_of(obj)
        if label := labels_of(obj).get(PART_OF_LABEL):
            owner = f"belongs to a set that is not there any more ({label})"
            if label in parents:
                owner = f"belongs to set {parents[label]}; remove it there, or remove its label {PART_OF_LABEL}"
        if not operation.options.adopt or label in parents:
            refused.append((ref_of(obj), owner))
    if refused:
        raise ForeignError(refused)


def _adoption(operation: Operation, obj: JSON, live: JSON) -> JSON | None:
    """Return a foreign object as it will be; None if only a new object can be as `obj` describes it."""
    ref = ref_of(obj)
    resource = operation.api.resource(ref.api_version, ref.kind)
    body = {**obj, "metadata": {**obj["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}}
    try:
        query = {"dryRun": "All", "fieldManager": MANAGER}
        return operation.api.request("PUT", resource.path(ref.namespace, ref.name), query, body)[1]
    except ApiError as error:
        if error.status == 409:
            raise ApplySetError(f"{ref} was changed while it was read; run again: {error}") from error
        if error.status != 422 or ref.kind in IRREPLACEABLE:
            raise ApplySetError(f"{ref} cannot be adopted: {error}") from error
        refused = error
    # If the object can be created under another name, an immutable field of the live one is in the way.
    body = {**obj, "metadata": {**obj["metadata"], "name": None, "generateName": "adopt-"}}
    try:
        operation.api.request("POST", resource.path(ref.namespace), {"dryRun": "All"}, body)
    except ApiError as error:
        raise ApplySetError(f"{ref} cannot be adopted: {refused}") from error
    operation.outcome.warnings.append(
        f"{ref} is deleted and created again, as it cannot be changed in place: {refused}"
    )
    return None


def take_over(operation: Operation, obj: JSON, live: JSON, in_place: bool) -> None:
    """Prepare a foreign object for the next apply: its fields become ours or, if not `in_place`, it is deleted."""
    ref = ref_of(obj)
    if in_place:
        metadata = {"uid": live["metadata"]["uid"], "managedFields": all_fields_ours(live)}
        operation.api.patch(ref.api_version, ref.kind, ref.name, {"metadata": metadata}, ref.namespace or None)
    elif delete_object(operation, {**live, "apiVersion": ref.api_version, "kind": ref.kind}) is not None:
        operation.wait_until_gone([ref])
