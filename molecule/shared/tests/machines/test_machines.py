"""The machines: what runs on them, in which version, with which rights."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import load_pins
from independent import Cluster
from testinfra.host import Host

PINS = load_pins()["components"]


def test_machines_are_of_the_debian_release_that_was_asked_for(
    machines: dict[str, Host], cluster: dict[str, Any]
) -> None:
    for host in machines.values():
        assert host.system_info.codename == cluster.get("sandbox_suite", "bookworm")


def test_containerd_and_kubelet_run_and_start_at_boot(machines: dict[str, Host]) -> None:
    for host in machines.values():
        for name in ("containerd", "kubelet"):
            service = host.service(name)
            assert service.is_running
            assert service.is_enabled


def test_installed_versions_are_the_pinned_ones(machines: dict[str, Host]) -> None:
    for host in machines.values():
        version = json.loads(host.check_output("kubeadm version --output json"))
        assert version["clientVersion"]["gitVersion"] == f"v{PINS['kubernetes']['version']}"
        assert PINS["containerd"]["version"] in host.check_output("containerd --version")


def test_no_machine_has_failed_units(machines: dict[str, Host]) -> None:
    for host in machines.values():
        assert json.loads(host.check_output("systemctl list-units --failed --output json")) == []


def test_the_cluster_ca_key_is_on_the_control_plane_only(machines: dict[str, Host], cluster: dict[str, Any]) -> None:
    for name, host in machines.items():
        key = host.file("/etc/kubernetes/pki/ca.key")
        assert key.exists == (name in cluster["cluster_control_plane"])
        if key.exists:
            assert key.mode == 0o600


def test_forwarding_is_on(machines: dict[str, Host]) -> None:
    for host in machines.values():
        assert host.sysctl("net.ipv4.ip_forward") == 1


def test_the_kubeconfig_is_for_its_owner_only(cluster: dict[str, Any]) -> None:
    assert stat.S_IMODE(Path(cluster["cluster_kubeconfig"]).stat().st_mode) == 0o600


def test_every_machine_is_a_ready_node(api: Cluster, cluster: dict[str, Any]) -> None:
    nodes = {item["metadata"]["name"]: item for item in api.list("v1", "Node")}
    assert set(nodes) == {*cluster["cluster_control_plane"], *cluster["cluster_workers"]}
    assert {
        entry["status"] for item in nodes.values() for entry in item["status"]["conditions"] if entry["type"] == "Ready"
    } == {"True"}


def test_control_planes_run_pods_if_there_are_no_workers(api: Cluster, cluster: dict[str, Any]) -> None:
    taints = {item["metadata"]["name"]: item["spec"].get("taints") or [] for item in api.list("v1", "Node")}
    for name in cluster["cluster_control_plane"]:
        keys = {taint["key"] for taint in taints[name]}
        assert keys == ({"node-role.kubernetes.io/control-plane"} if cluster["cluster_workers"] else set())


def test_the_api_server_verifies_the_kubelets_that_it_asks_for_logs(api: Cluster) -> None:
    pods = api.list("v1", "Pod", "kube-system")
    commands = [
        pod["spec"]["containers"][0]["command"] for pod in pods if pod["metadata"]["name"].startswith("kube-apiserver-")
    ]
    assert commands
    assert all("--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt" in command for command in commands)
    # One pod of each node, of which kube-proxy writes at its start.
    for name in (pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"].startswith("kube-proxy-")):
        assert api.text(f"/api/v1/namespaces/kube-system/pods/{name}/log?tailLines=1")
