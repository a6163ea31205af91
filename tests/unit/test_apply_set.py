# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Identity of sets, what they make of objects, and words for refusals."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.action import apply_set, apply_set_ready
from ansible_collections.kubescale.fleet.plugins.module_utils import applyset
from ansible_collections.kubescale.fleet.plugins.module_utils.applyset import Outcome, kinds_of_crds, set_id
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import ApiError
from ansible_collections.kubescale.fleet.plugins.modules import apply_set as apply_set_documentation
from ansible_collections.kubescale.fleet.plugins.modules import apply_set_ready as apply_set_ready_documentation

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "b"},
}


def test_the_id_is_what_the_specification_says() -> None:
    digest = hashlib.sha256(b"metrics-server.kube-system.ConfigMap.").digest()
    encoded = base64.urlsafe_b64encode(digest).decode().removesuffix("=")
    assert set_id("metrics-server", "kube-system") == f"applyset-{encoded}-v1"
    assert len(set_id("metrics-server", "kube-system")) <= 63


def test_group_kinds() -> None:
    assert applyset.group_kind(DEPLOYMENT) == "Deployment.apps"
    assert applyset.group_kind({"apiVersion": "v1", "kind": "Pod"}) == "Pod"


def test_members_are_labelled_copies() -> None:
    member = applyset._as_member(DEPLOYMENT, "id")
    assert member["metadata"]["labels"] == {applyset.PART_OF_LABEL: "id"}
    assert "labels" not in DEPLOYMENT["metadata"]


def test_text_of_secrets_is_applied_as_data() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a"},
        "stringData": {"a": "b"},
        "data": {"c": "ZA=="},
    }
    member = applyset._as_member(body, "id")
    assert member["data"] == {"a": "Yg==", "c": "ZA=="}
    assert "stringData" not in member
    assert body["stringData"] == {"a": "b"}


def test_kinds_that_crds_make() -> None:
    versions = [{"name": "v1", "served": True}, {"name": "v0", "served": False}]
    spec = {"group": "g.io", "names": {"kind": "Thing", "plural": "things"}, "scope": "Cluster", "versions": versions}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}}
    kinds = kinds_of_crds([crd | {"spec": spec}, DEPLOYMENT])
    assert list(kinds) == [("g.io/v1", "Thing")]
    assert kinds["g.io/v1", "Thing"].path(name="a") == "/apis/g.io/v1/things/a"
    assert not kinds["g.io/v1", "Thing"].namespaced


def test_a_refusal_names_object_field_and_manager() -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "field": ".spec.replicas",
        "message": 'conflict with "hpa" using apps/v1',
    }
    text = applyset._refused(DEPLOYMENT, ApiError("Apply failed with 1 conflict", 409, "Conflict", [cause]))
    assert text.startswith('Deployment b/a: field .spec.replicas: conflict with "hpa" using apps/v1. ')
    assert "force_conflicts: true" in text
    assert "delete the object" in applyset._refused(DEPLOYMENT, ApiError("spec.x: field is immutable", 422))


def test_only_real_actions_count_as_change() -> None:
    outcome = Outcome(with_diff=True)
    outcome.add("unchanged", DEPLOYMENT)
    outcome.add("kept", DEPLOYMENT)
    assert not outcome.changed
    assert outcome.diff == []
    outcome.add("created", DEPLOYMENT, None, DEPLOYMENT)
    assert outcome.changed
    assert len(outcome.diff) == 1


@pytest.mark.parametrize(
    ("plugin", "documentation"),
    [
        (apply_set, apply_set_documentation),
        (apply_set_ready, apply_set_ready_documentation),
    ],
)
def test_documentation_equals_arguments(plugin: Any, documentation: Any) -> None:
    options = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    facts = ("type", "elements", "choices", "default", "required")

    def of(entry: dict[str, Any], nested: str) -> dict[str, Any]:
        known = {key: entry[key] for key in facts if key in entry}
        return known | {"options": {name: of(option, nested) for name, option in (entry.get(nested) or {}).items()}}

    assert {name: of(option, "suboptions") for name, option in options.items()} == {
        name: of(argument, "options") for name, argument in plugin.ARGUMENTS.items()
    }
    yaml.safe_load(documentation.RETURN)
    yaml.safe_load(documentation.EXAMPLES)
