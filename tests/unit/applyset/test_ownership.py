# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Whose an object is, and what its managedFields become when it is taken over."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import (
    MANAGER,
    PART_OF_LABEL,
    all_fields_ours,
    group_kind,
    how_to_adopt,
    is_member,
    owner_of,
    set_id,
)


def entry(manager: str, operation: str = "Update", api_version: str = "apps/v1", **more: Any) -> dict[str, Any]:
    fields = {"f:spec": {f"f:{manager}": {}}}
    return {"manager": manager, "operation": operation, "apiVersion": api_version, "fieldsV1": fields, **more}


def deployment(*managed: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    known = {"name": "a", "namespace": "b", "managedFields": list(managed), **metadata}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": known}


HELM = {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "n"}
OWNER = [{"kind": "Prometheus", "name": "k8s", "uid": "1"}]


@pytest.mark.parametrize(
    ("obj", "owner"),
    [
        (deployment(entry("kubectl-client-side-apply")), "was made with kubectl-client-side-apply"),
        (deployment(entry("helm"), annotations=HELM), "belongs to Helm release n/r"),
        (deployment(entry("operator"), ownerReferences=OWNER), "belongs to Prometheus k8s"),
        (
            deployment(entry("argocd-controller"), entry("kubectl-edit"), entry("kube-controller-manager")),
            "was made with argocd-controller and kubectl-edit",
        ),
        (deployment(entry("kubelet", subresource="status")), "has no manager"),
    ],
)
def test_whom_an_object_belongs_to(obj: dict[str, Any], owner: str) -> None:
    assert owner_of(obj) == owner


@pytest.mark.parametrize(
    ("obj", "ours"),
    [
        (deployment(labels={PART_OF_LABEL: "set"}), True),
        (deployment(labels={PART_OF_LABEL: "other"}), False),
        (deployment(entry(MANAGER, "Apply"), labels={PART_OF_LABEL: "other"}), False),
        (deployment(entry("somebody")), False),
        # Somebody took the label away, or a run was killed while it adopted.
        (deployment(entry(MANAGER, "Apply")), True),
    ],
)
def test_which_objects_are_members(obj: dict[str, Any], ours: bool) -> None:
    assert is_member(obj, "set") == ours


def test_what_people_and_tools_wrote_becomes_ours_and_nothing_else() -> None:
    status = entry("kube-controller-manager", subresource="status")
    cluster, older = entry("kube-controller-manager"), entry("kubectl", api_version="apps/v1beta1")
    live = deployment(entry("helm", "Apply"), status, entry("kubectl-edit"), cluster, older)
    assert all_fields_ours(live) == [
        status,
        cluster,
        older,
        {
            "manager": MANAGER,
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:helm": {}, "f:kubectl-edit": {}}},
        },
    ]


def test_advice_names_the_variables_of_the_role() -> None:
    assert "adopt=metrics_server" in how_to_adopt("metrics_server")
    assert "metrics_server_state" in how_to_adopt("metrics_server")
    assert "adopt: true" in how_to_adopt(None)


def test_the_id_is_what_the_specification_says() -> None:
    digest = hashlib.sha256(b"metrics-server.kube-system.ConfigMap.").digest()
    encoded = base64.urlsafe_b64encode(digest).decode().removesuffix("=")
    assert set_id("metrics-server", "kube-system") == f"applyset-{encoded}-v1"
    assert len(set_id("metrics-server", "kube-system")) <= 63


def test_group_kinds() -> None:
    assert group_kind(deployment()) == "Deployment.apps"
    assert group_kind({"apiVersion": "v1", "kind": "Pod"}) == "Pod"
