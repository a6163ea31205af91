# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The client that molecule's verifiers read clusters with agrees with the one of the collection."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api
from independent import Cluster


def test_both_clients_read_the_same(api: Api, kubeconfig: Path) -> None:
    theirs = Cluster(str(kubeconfig))
    for version, kind in (("v1", "Namespace"), ("apiregistration.k8s.io/v1", "APIService")):
        assert theirs.list(version, kind) == api.list(version, kind).items
    assert theirs.get("v1", "Namespace", "kube-system") == api.get("v1", "Namespace", "kube-system")
    assert theirs.get("v1", "ConfigMap", "missing", "kube-system") is None
    assert theirs.raw("/version") == api.raw("/version")
