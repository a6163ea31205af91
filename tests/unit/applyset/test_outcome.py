# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The recorded changes of an outcome, and the words for refusals."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import Outcome, refusal
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import Key

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "b"},
}


def test_a_refusal_names_object_field_and_manager() -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "field": ".spec.replicas",
        "message": 'conflict with "hpa" using apps/v1',
    }
    text = refusal(DEPLOYMENT, ApiError("Apply failed with 1 conflict", 409, "Conflict", [cause]))
    assert text.startswith('Deployment b/a: field .spec.replicas: conflict with "hpa" using apps/v1. ')
    assert "force_conflicts: true" in text
    assert "delete the object" in refusal(DEPLOYMENT, ApiError("spec.x: field is immutable", 422))


def test_only_real_actions_count_as_change() -> None:
    outcome = Outcome(with_diff=True)
    outcome.add("unchanged", DEPLOYMENT)
    outcome.add("kept", DEPLOYMENT)
    assert not outcome.changed
    assert outcome.diff == []
    outcome.add("created", DEPLOYMENT, None, DEPLOYMENT)
    assert outcome.changed
    assert len(outcome.diff) == 1


def test_objects_are_sorted_as_in_the_definition_after_those_that_are_not_in_it() -> None:
    outcome = Outcome()
    names = ("a", "b", "c")
    for name in names:
        outcome.add("unchanged", {**DEPLOYMENT, "metadata": {"name": name}})
    outcome.sort([Key("apps", "Deployment", "", name) for name in ("c", "a")])
    assert [entry["name"] for entry in outcome.objects] == ["b", "c", "a"]
