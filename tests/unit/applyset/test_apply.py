# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Identity of sets, what they make of objects, and words for refusals."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import apply as applyset
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import Outcome, kinds_of_crds, set_id
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import DefinitionError, Ref
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import NotReadyError

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


class NoKinds:
    """An API server that serves nothing."""

    def resources(self) -> dict[tuple[str, str], Any]:
        return {}


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("monitoring.coreos.com/v1", "role prometheus brings it: run site.yml with --tags prometheus first"),
        ("example.org/v1", "apply its CRD first, or correct the apiVersion"),
    ],
)
def test_a_missing_kind_is_said_with_what_brings_it(version: str, advice: str) -> None:
    monitor = {"apiVersion": version, "kind": "Monitor", "metadata": {"name": "a", "namespace": "b"}}
    with pytest.raises(DefinitionError, match=advice):
        applyset.ApplySet(NoKinds(), "x")._check_scopes([monitor])  # type: ignore[arg-type]


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


def test_a_server_that_forgot_a_crd_is_reminded_by_a_change_that_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "things.example.org")
    waits: list[list[Ref]] = []
    patches: list[Any] = []

    class Forgetful(NoKinds):
        def patch(self, api_version: str, kind: str, name: str, body: Any) -> None:
            patches.append((kind, name, body["metadata"]["annotations"][applyset.REMINDER_ANNOTATION]))

    def wait_for(_api: Any, refs: list[Ref], *_rest: Any, **_options: Any) -> None:
        waits.append(refs)
        if not patches:
            raise NotReadyError("not established", refs)

    monkeypatch.setattr(applyset, "wait_for", wait_for)
    applyset.ApplySet(Forgetful(), "x")._wait_established([ref])  # type: ignore[arg-type]
    assert waits == [[ref], [ref]]
    assert patches == [(ref.kind, ref.name, "now"), (ref.kind, ref.name, None)]
