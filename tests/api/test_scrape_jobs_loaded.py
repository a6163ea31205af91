# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The action as a task, on a cluster without a Prometheus that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api

from .test_apply_set_tasks import Playbook

MONITOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": {"name": "shop", "namespace": "shop"},
    "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "web"}]},
}


@pytest.fixture
def run(tmp_path: Path, kubeconfig: Path) -> Playbook:
    """Function that runs tasks."""
    return Playbook(tmp_path, kubeconfig)


def scrape_jobs_loaded(**arguments: Any) -> dict[str, Any]:
    return {"kubescale.fleet.scrape_jobs_loaded": {"definition": [MONITOR], **arguments}}


def test_a_cluster_without_prometheus_has_nothing_to_wait_for(run: Playbook) -> None:
    for flavor in ("operator", "standalone"):
        [result] = run(scrape_jobs_loaded(prometheus_flavor=flavor))
        assert not result.get("failed"), result["msg"]
        assert (result["changed"], result["jobs"], result["pods"]) == (False, ["podMonitor/shop/shop/0"], [])


def test_a_cluster_that_is_not_made_yet(run: Playbook, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    [predicted] = run(scrape_jobs_loaded(kubeconfig=missing), check=True)
    assert (predicted.get("failed"), predicted["changed"]) == (None, False)
    [real] = run(scrape_jobs_loaded(kubeconfig=missing))
    assert missing in real["msg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"wait_timeout": 0}, ["wait_timeout is 0", "1 second"]),
        ({"prometheus_flavor": "other"}, ["prometheus_flavor", "operator", "standalone", "other"]),
        ({"definition": [{"kind": "PodMonitor"}]}, ["definition", "apiVersion"]),
    ],
)
def test_wrong_arguments_are_named(run: Playbook, arguments: dict[str, Any], said: list[str]) -> None:
    [result] = run(scrape_jobs_loaded(**arguments))
    assert result["failed"]
    assert [word for word in said if word not in result["msg"]] == []


def test_a_prometheus_that_cannot_be_asked_is_named(run: Playbook, api: Api) -> None:
    """A pod that says it is ready and has no address: the API server has nowhere to go."""
    labels = {"app.kubernetes.io/name": "prometheus"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prom"}}, "test")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "prometheus", "namespace": "prom", "labels": labels},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    api.apply(pod, "test")
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.patch("v1", "Pod", "prometheus", {"status": ready}, "prom", "status")
    [result] = run(scrape_jobs_loaded(prometheus_flavor="standalone"))
    assert result["failed"]
    assert "pod prom/prometheus does not say which jobs it has loaded" in result["msg"]
    api.delete("v1", "Pod", "prometheus", "prom")
