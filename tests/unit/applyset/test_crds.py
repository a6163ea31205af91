# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Kinds of CRDs, and the wait for them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import crds
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.crds import kinds_of_crds
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import REMINDER_ANNOTATION, Ref
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import NotReadyError


def test_kinds_that_crds_make() -> None:
    versions = [{"name": "v1", "served": True}, {"name": "v0", "served": False}]
    spec = {"group": "g.io", "names": {"kind": "Thing", "plural": "things"}, "scope": "Cluster", "versions": versions}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}}
    kinds = kinds_of_crds([crd | {"spec": spec}, {"kind": "Deployment"}])
    assert list(kinds) == [("g.io/v1", "Thing")]
    assert kinds["g.io/v1", "Thing"].path(name="a") == "/apis/g.io/v1/things/a"
    assert not kinds["g.io/v1", "Thing"].namespaced


def test_a_server_that_forgot_a_crd_is_reminded_by_a_change_that_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "things.example.org")
    waits: list[list[Ref]] = []
    patches: list[Any] = []

    class Forgetful:
        def patch(self, api_version: str, kind: str, name: str, body: Any) -> None:
            patches.append((kind, name, body["metadata"]["annotations"][REMINDER_ANNOTATION]))

    def wait_for(_api: Any, refs: list[Ref], *_rest: Any, **_options: Any) -> None:
        waits.append(refs)
        if not patches:
            raise NotReadyError("not established", refs)

    monkeypatch.setattr(crds, "wait_for", wait_for)
    crds._await_established(ApplySet(Forgetful(), "x"), [ref])  # type: ignore[arg-type]
    assert waits == [[ref], [ref]]
    assert patches == [(ref.kind, ref.name, "now"), (ref.kind, ref.name, None)]
