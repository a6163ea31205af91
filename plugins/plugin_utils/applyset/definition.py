# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""A set's definition: check its objects, and make members of them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from ..kube.client import JSON
from ..kube.manifests import DefinitionError, owned_fields, ref_of
from .crds import kinds_of_crds
from .operation import Operation
from .ownership import MANAGER, PART_OF_LABEL

#: Advice for kinds that are missing because a role of the collection did not run, by API group.
_MISSING_GROUPS = {"monitoring.coreos.com": "role prometheus brings it: run site.yml with --tags prometheus first"}


def check_scopes(operation: Operation, objects: Collection[JSON]) -> None:
    """Raise DefinitionError if a kind is not served, or if an object lacks a namespace or must not have one.

    In check mode, a kind that is not served is a warning: an earlier step of the run may apply its CRD.
    """
    problems = []
    known = {**operation.api.resources(), **kinds_of_crds(objects)}
    for obj in objects:
        ref = ref_of(obj)
        kind = known.get((ref.api_version, ref.kind))
        if kind is None:
            text = f"{ref}: the cluster serves no kind {ref.kind} of {ref.api_version}"
            if operation.check:
                operation.outcome.warnings.append(f"{text} now; an earlier step of this run may change that")
            else:
                advice = _MISSING_GROUPS.get(ref.group, "apply its CRD first, or correct the apiVersion")
                problems.append(f"{text}, and the definition has no CRD of it; {advice}")
        elif kind.namespaced and not ref.namespace:
            problems.append(f"{ref} has no metadata.namespace; kind {ref.kind} needs one")
        elif not kind.namespaced and ref.namespace:
            problems.append(f"{ref}: kind {ref.kind} is cluster-wide; remove metadata.namespace")
    if problems:
        raise DefinitionError("definition: " + "; ".join(problems))


def as_member(obj: JSON, set_id: str) -> JSON:
    """Return a copy of an object with the label of the set."""
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), PART_OF_LABEL: set_id}
    member = {**obj, "metadata": {**metadata, "labels": labels}}
    if obj["kind"] == "Secret" and "stringData" in obj:
        # The server stores data only. A value that is removed from stringData would stay in data for ever.
        text = member.pop("stringData") or {}
        data = {key: base64.b64encode(str(value).encode()).decode() for key, value in text.items()}
        member["data"] = {**(obj.get("data") or {}), **data}
    return member


def fingerprint_of(desired: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """Return a digest of a manifest and of our fields in the live object, or "" if there can be none.

    While a live object has the same uid and the same entry of ours in its managedFields, nobody has changed a field of
    ours: another manager that changes a field owns it from then on, and our entry loses it. To apply the same manifest
    would change nothing, so it need not be sent; the server needs 2 ms for that answer, and 100 ms for a large CRD. A
    Secret has no fingerprint, because a fingerprint would confirm a guessed value.
    """
    metadata = live["metadata"]
    owned = owned_fields(live, MANAGER)
    if desired["kind"] == "Secret" or owned is None or "deletionTimestamp" in metadata:
        return ""
    facts = [ref_of(desired).key, metadata.get("uid"), owned, desired]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
