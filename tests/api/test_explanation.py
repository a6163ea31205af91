# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What is said about broken objects, asked from a real API server; pods and nodes have the status that tests write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import NotReadyError

from .test_apply_set import deployment, namespace

JSON = dict[str, Any]
MakeSet = Callable[..., ApplySet]
TIME = "2026-01-01T00:00:00Z"


def add_node(api: Api, name: str, ready: str, reason: str) -> None:
    api.request("POST", "/api/v1/nodes", body={"metadata": {"name": name}})
    conditions = [
        {"type": "Ready", "status": ready, "reason": reason, "message": "as the test says"},
        {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure", "message": ""},
    ]
    api.patch("v1", "Node", name, {"status": {"conditions": conditions}}, subresource="status")


def add_pod(api: Api, where: str, name: str, status: JSON, **spec: Any) -> JSON:
    pod = copy.deepcopy(deployment(where)["spec"]["template"]) | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": name, "namespace": where}
    pod["spec"] |= {"serviceAccountName": "x", **spec}
    live, _ = api.apply(pod, "somebody")
    return api.patch("v1", "Pod", live["metadata"]["name"], {"status": status}, where, "status")


def add_event(api: Api, about: JSON, reason: str, message: str, kind: str = "Warning") -> None:
    metadata = about["metadata"]
    involved = {key: metadata[key] for key in ("name", "namespace", "uid")} | {"kind": about["kind"]}
    body = {
        "metadata": {"generateName": "event-", "namespace": metadata["namespace"]},
        "involvedObject": involved,
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": TIME,
    }
    api.request("POST", f"/api/v1/namespaces/{metadata['namespace']}/events", body=body)


def container(name: str, **state: JSON) -> JSON:
    made = {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    if last := state.pop("last", None):
        made |= {"lastState": {"terminated": last}, "restartCount": 4}
    return made


def said(make_set: MakeSet, name: str) -> list[str]:
    with pytest.raises(NotReadyError) as caught:
        make_set(timeout=1).apply([namespace(name), deployment(name)])
    return [line.strip() for line in str(caught.value).splitlines()]


@pytest.fixture
def where(api: Api, name: str, make_set: MakeSet) -> str:
    """A namespace with a Deployment whose pods the test makes."""
    make_set().apply([namespace(name), deployment(name)], wait=False)
    api.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", body={"metadata": {"name": "x"}})
    return name


def test_a_crash_on_a_node_in_order(api: Api, where: str, make_set: MakeSet) -> None:
    add_node(api, f"{where}-w1", "True", "KubeletReady")
    last = {"exitCode": 137, "reason": "OOMKilled", "startedAt": TIME, "finishedAt": TIME}
    crashed = container("app", waiting={"reason": "CrashLoopBackOff", "message": "back-off 40s"}, last=last)
    status = {"phase": "Running", "containerStatuses": [crashed]}
    pod = add_pod(api, where, "app-1", status, nodeName=f"{where}-w1")
    add_event(api, pod, "BackOff", "Back-off restarting failed container")
    lines = said(make_set, where)
    assert "event BackOff: Back-off restarting failed container" in lines
    assert "container app waits: CrashLoopBackOff: back-off 40s" in lines
    assert "container app ended before, 4 restarts: OOMKilled, exit code 137" in lines
    assert not any(line.startswith("node") for line in lines)
    # There is no kubelet here to give a log: that is said, and nothing is lost by it.
    assert any(line.startswith("(no log of the run before: ") for line in lines)
    api.delete("v1", "Node", f"{where}-w1")


def test_a_node_that_is_away_and_an_init_container(api: Api, where: str, make_set: MakeSet) -> None:
    add_node(api, f"{where}-w1", "Unknown", "NodeStatusUnknown")
    status = {
        "phase": "Pending",
        "initContainerStatuses": [container("init", waiting={"reason": "ErrImagePull", "message": "no such host"})],
        "containerStatuses": [container("app", waiting={"reason": "PodInitializing"})],
    }
    init = [{"name": "init", "image": "example.com/init"}]
    add_pod(api, where, "app-1", status, nodeName=f"{where}-w1", initContainers=init)
    lines = said(make_set, where)
    assert f"node {where}-w1: Ready=Unknown (NodeStatusUnknown: as the test says)" in lines
    assert "container init waits: ErrImagePull: no such host" in lines
    assert not any("PodInitializing" in line or "no log" in line for line in lines)
    api.delete("v1", "Node", f"{where}-w1")


def test_a_pod_without_a_place_for_its_volume(api: Api, where: str, make_set: MakeSet) -> None:
    add_node(api, f"{where}-w1", "False", "KubeletNotReady")
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = f"/api/v1/namespaces/{where}/persistentvolumeclaims"
    made = api.request("POST", path, body=claim)[1] | {"kind": "PersistentVolumeClaim"}
    add_event(api, made, "FailedBinding", "no persistent volumes available", "Normal")
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = add_pod(api, where, "app-1", {"phase": "Pending", "conditions": [unplaced]}, volumes=volumes)
    add_event(api, pod, "FailedScheduling", "pod has unbound immediate PersistentVolumeClaims")
    lines = said(make_set, where)
    assert "event FailedScheduling: pod has unbound immediate PersistentVolumeClaims" in lines
    assert "volume claim data: phase Pending" in lines
    assert "event FailedBinding: no persistent volumes available" in lines
    assert f"node {where}-w1: Ready=False (KubeletNotReady: as the test says)" in lines
    api.delete("v1", "Node", f"{where}-w1")


def test_pods_that_a_quota_forbids(api: Api, where: str, make_set: MakeSet) -> None:
    live = api.get("apps/v1", "Deployment", "app", where)
    assert live is not None
    spec = {key: live["spec"][key] for key in ("selector", "template")} | {"replicas": 1}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app", "uid": live["metadata"]["uid"]}
    body = {"metadata": {"name": "app-1", "ownerReferences": [owner]}, "spec": spec}
    made = api.request("POST", f"/apis/apps/v1/namespaces/{where}/replicasets", body=body)[1]
    add_event(api, made | {"kind": "ReplicaSet"}, "FailedCreate", "pods is forbidden: exceeded quota")
    lines = said(make_set, where)
    assert lines[-2:] == ["ReplicaSet app-1:", "event FailedCreate: pods is forbidden: exceeded quota"]
