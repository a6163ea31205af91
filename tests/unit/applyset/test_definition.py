# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Checks of a definition, and the members that are made of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.definition import as_member, check_scopes
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import PART_OF_LABEL
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import DefinitionError

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "b"},
}


def test_members_are_labelled_copies() -> None:
    member = as_member(DEPLOYMENT, "id")
    assert member["metadata"]["labels"] == {PART_OF_LABEL: "id"}
    assert "labels" not in DEPLOYMENT["metadata"]


def test_text_of_secrets_is_applied_as_data() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a"},
        "stringData": {"a": "b"},
        "data": {"c": "ZA=="},
    }
    member = as_member(body, "id")
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
        check_scopes(ApplySet(NoKinds(), "x"), [monitor])  # type: ignore[arg-type]
