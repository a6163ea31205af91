# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Why a machine cannot be a node. Each problem names the machine's value and the remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.module_utils.firewall import nothing, rule
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.problems import (
    TOLERABLE,
    Needs,
    Peer,
    machine_problems,
)

DISK = {"device": 1, "total_mib": 50000, "free_mib": 20000}
SURROUNDINGS: dict[str, Any] = {
    "firewall": nothing("iptables"),
    "disks": dict.fromkeys(("/var/lib/containerd", "/var/lib/kubelet", "/var/log"), DISK),
    "missing_modules": [],
    "proxies": {"https_proxy": "", "no_proxy": ""},
    "openssl": [3, 0],
    "selinux": False,
    "installs": True,
    "unresolved": [],
}
MACHINE: dict[str, Any] = {
    "architecture": "x86_64",
    "systemd": True,
    "kernel": [6, 1],
    "family": "debian",
    "missing_packages": [],
    "memory_mib": 2000,
    "swap": [],
    "address": "192.0.2.11",
    "addresses": ["192.0.2.11", "10.0.2.15"],
    "interfaces": {"192.0.2.11": "eth0", "10.0.2.15": "eth1"},
    "resolver": {"file": "/etc/resolv.conf", "servers": ["192.0.2.53"]},
    "listeners": {"22": "sshd (process 1)"},
    "identities": {"host name": "m1", "machine ID": "1", "product UUID": "u1"},
    "node": {"state": "none", "cluster": "", "foreign": []},
    "surroundings": SURROUNDINGS,
}
OURS = {"state": "ours", "cluster": "demo", "version": "1.37.0", "foreign": []}
NEEDS = Needs(
    cluster="demo",
    part="control_plane",
    kubernetes="1.37.0",
    peers=[Peer("m2", "192.0.2.12", {"host name": "m2", "machine ID": "2"})],
)


def problems(needs: Needs = NEEDS, around: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    return machine_problems({**MACHINE, "surroundings": SURROUNDINGS | (around or {}), **changes}, needs)


def only(found: list[str]) -> str:
    (text,) = found
    return text


def test_a_good_machine_has_no_problems() -> None:
    assert problems() == []
    assert problems(replace(NEEDS, part="worker")) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "s390x"}, "s390x; supported are x86_64, aarch64"),
        ({"systemd": False}, "systemd"),
        ({"kernel": [3, 10]}, "3.10"),
        ({"family": "", "missing_packages": ["socat"]}, "Debian, Red Hat"),
        ({"memory_mib": 900}, "900 MiB of memory; its role in the cluster needs 1700"),
        ({"swap": ["/dev/sda2"]}, "node_prep_tolerate_swap"),
        ({"listeners": {"10250": "nginx (process 17)"}}, "TCP port 10250 is taken by nginx (process 17)"),
        ({"identities": {"host name": "m2"}}, "its host name m2 is also that of m2"),
        ({"identities": {"host name": "m1", "machine ID": "2"}}, "its machine ID 2 is also that of m2"),
        ({"node": {"state": "foreign", "cluster": "", "foreign": ["/x"]}}, "/x"),
        ({"node": {"state": "ours", "cluster": "other", "foreign": []}}, "node of cluster other"),
    ],
)
def test_what_keeps_a_machine_from_being_a_node_is_named(changes: dict[str, Any], said: str) -> None:
    assert said in only(problems(**changes))


def test_a_node_may_be_full_and_has_its_own_ports_names_and_firewall() -> None:
    firewall = nothing("ufw") | {"closed": True, "forward_closed": True}
    full = dict.fromkeys(SURROUNDINGS["disks"], DISK | {"free_mib": 10})
    around = {"disks": full, "firewall": firewall}
    taken = {"6443": "kube-apiserver"}
    assert problems(around=around, listeners=taken, identities={"host name": "m2"}, node=OURS) == []
    # Facts about a node have no surroundings.
    assert machine_problems({**MACHINE, "surroundings": {}, "node": OURS}, NEEDS) == []


def test_a_node_keeps_the_version_it_joined_with() -> None:
    assert problems(node=OURS) == []
    said = only(problems(node=OURS | {"version": "1.36.4"}))
    assert "1.36.4" in said
    assert NEEDS.kubernetes in said


# -- swap ----------------------------------------------------------------------------------------------------------


def test_swap_may_be_tolerated() -> None:
    assert problems(replace(NEEDS, tolerate_swap=True), swap=["/dev/sda2"]) == []


@pytest.mark.parametrize(
    ("device", "advice", "wrong"),
    [
        ("/dev/sda2", "/etc/fstab", "zram"),
        ("/dev/zram0", "/etc/systemd/zram-generator.conf", "fstab"),
        ("/var/swap", "dphys-swapfile.service", "fstab"),
    ],
)
def test_the_advice_about_swap_is_for_its_kind(device: str, advice: str, wrong: str) -> None:
    said = only(problems(swap=[device]))
    assert advice in said
    assert wrong not in said


# -- disks ---------------------------------------------------------------------------------------------------------


def disks(**other: dict[str, int]) -> dict[str, Any]:
    """Return disks; names are the last parts of folders."""
    return {"disks": {path: other.get(path.rpartition("/")[2], DISK) for path in SURROUNDINGS["disks"]}}


def test_a_disk_must_have_room_for_binaries_and_images() -> None:
    small = {"device": 7, "total_mib": 8000, "free_mib": 10}
    assert "10 MiB are free below /var/lib/containerd; binaries and images need 4096" in only(
        problems(around=disks(containerd=small))
    )


@pytest.mark.parametrize(("free", "wrong"), [(11595, True), (11597, False)])
def test_a_disk_below_the_kubelets_threshold_is_named(free: int, wrong: bool) -> None:
    # 15 % of 50000 MiB for images, and 4096 MiB that the run takes.
    full = DISK | {"free_mib": free}
    found = problems(around=disks(containerd=full, kubelet=full, log=full))
    assert bool(found) is wrong
    if wrong:
        said = only(found)
        assert f"{free} of 50000 MiB (23 %)" in said
        assert "15%" in said
        assert "node_prep_kubelet_config" in said


@pytest.mark.parametrize("folder", ["kubelet", "log"])
def test_folders_on_disks_of_their_own_count_too(folder: str) -> None:
    full = {"device": 9, "total_mib": 1000, "free_mib": 99}
    said = only(problems(around=disks(**{folder: full})))
    assert f"99 of 1000 MiB (9 %) are free below /var/{'log' if folder == 'log' else 'lib/kubelet'}." in said
    assert "10%" in said


@pytest.mark.parametrize(
    ("eviction", "wrong"),
    [
        ({"nodefs.available": "1%", "imagefs.available": "1%"}, False),
        ({"memory.available": "100Mi"}, False),
        ({"nodefs.available": "2Gi"}, True),
        ({"nodefs.available": "1Gi"}, False),
    ],
)
def test_the_thresholds_are_those_of_the_kubelets_configuration(eviction: dict[str, str], wrong: bool) -> None:
    full = DISK | {"free_mib": 4096 + 1500}
    needs = replace(NEEDS, kubelet={"evictionHard": eviction})
    assert bool(problems(needs, disks(containerd=full, kubelet=full, log=full))) is wrong


# -- what is installed and loaded ----------------------------------------------------------------------------------


def test_packages_that_ansible_cannot_install_are_named() -> None:
    around = {"installs": False}
    assert problems(around=around, family="redhat") == []
    said = only(problems(around=around, family="redhat", missing_packages=["socat", "conntrack-tools"]))
    assert "dnf install socat conntrack-tools" in said


def test_kernel_modules() -> None:
    assert "no module br_netfilter" in only(problems(around={"missing_modules": ["br_netfilter"]}))
    assert "no module vxlan" in only(problems(around={"missing_modules": ["vxlan"]}))
    assert problems(replace(NEEDS, vxlan=False), around={"missing_modules": ["vxlan"]}) == []


def test_an_old_openssl_matters_on_a_control_plane() -> None:
    around = {"openssl": [1, 1]}
    assert "its OpenSSL is 1.1" in only(problems(around=around))
    assert problems(replace(NEEDS, part="worker"), around) == []
    assert problems(around={"openssl": []}) == []


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.53", "::1"])
def test_a_name_server_on_a_loopback_address_makes_a_loop(server: str) -> None:
    resolver = {"file": "/etc/resolv.conf", "servers": [server]}
    said = only(problems(resolver=resolver))
    assert server in said
    assert "node_prep_kubelet_config: {resolvConf:" in said
    # As the role sets it, and as a person does.
    assert problems(replace(NEEDS, kubelet={"resolvConf": "/etc/resolv.conf"}), resolver=resolver)
    assert problems(replace(NEEDS, kubelet={"resolvConf": "/etc/other"}), resolver=resolver) == []


# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "changes", "said"),
    [
        ({}, {"address": ""}, "no IPv4 default route, so its address in the cluster is not known (it has 192.0.2.11, "),
        ({}, {"address": "", "addresses": []}, "it has no IPv4 address"),
        ({}, {"address": "", "addresses": [], "missing_packages": ["iproute2"]}, "lacks the program ip"),
        ({"address": "198.51.100.1"}, {}, "node_prep_address is 198.51.100.1, which it does not have"),
        ({"peers": [Peer("m2", "192.0.2.11")]}, {}, "its address 192.0.2.11 is also that of m2"),
        ({"pod_network": "192.0.2.0/24"}, {}, "its address 192.0.2.11 is inside control_plane_pod_network"),
        ({"service_network": "192.0.2.0/24"}, {}, "its address 192.0.2.11 is inside control_plane_service_network"),
    ],
)
def test_addresses(needs: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    assert said in only(problems(replace(NEEDS, **needs), **changes))


def test_an_address_of_the_inventory_repairs_what_was_discovered() -> None:
    peers = [Peer("m2", "192.0.2.11")]
    assert problems(replace(NEEDS, address="10.0.2.15", peers=peers)) == []
    assert problems(replace(NEEDS, address="10.0.2.15"), address="") == []


def test_the_advice_names_the_other_addresses() -> None:
    peers = [Peer("m2", "10.0.2.15")]
    assert "its other addresses are: 192.0.2.11" in only(problems(replace(NEEDS, peers=peers), address="10.0.2.15"))


@pytest.mark.parametrize(
    ("needs", "around", "said"),
    [
        ({"control_planes": 3}, {}, "cluster demo has 3 control planes and no control_plane_endpoint"),
        ({"unreachable": "the controller cannot reach 192.0.2.11:6443"}, {}, "192.0.2.11:6443. The controller and all"),
        ({"endpoint": "api.corp:6443"}, {"unresolved": ["api.corp"]}, "it cannot resolve api.corp"),
    ],
)
def test_endpoints(needs: dict[str, Any], around: dict[str, Any], said: str) -> None:
    wanted = replace(NEEDS, **needs)
    text = only(problems(wanted, around))
    assert said in text
    assert "node_prep_tolerate: [endpoint]" in text
    assert problems(replace(wanted, tolerate=["endpoint"]), around) == []


def test_one_endpoint_for_several_control_planes_is_right() -> None:
    assert problems(replace(NEEDS, control_planes=3, endpoint="192.0.2.100:6443")) == []
    assert problems(replace(NEEDS, control_planes=3, part="worker")) == []


# -- proxies -------------------------------------------------------------------------------------------------------

COMPLETE = "10.244.0.0/16,10.96.0.0/16,.svc,api.corp,192.0.2.0/24"


@pytest.mark.parametrize(
    ("exceptions", "lacks"),
    [
        (COMPLETE, ""),
        ("*", ""),
        ("10.0.0.0/8,.svc,.corp,192.0.2.0/24", ""),
        (
            "localhost,127.0.0.1",
            "10.244.0.0/16, 10.96.0.0/16, .svc, api.corp, 192.0.2.11, 192.0.2.12",
        ),
        (COMPLETE.replace(".svc,", ""), ".svc"),
        (COMPLETE.replace("192.0.2.0/24", "192.0.2.11"), "192.0.2.12"),
        (COMPLETE.replace("api.corp,", ""), "api.corp"),
    ],
)
def test_exceptions_from_a_proxy_must_cover_the_cluster(exceptions: str, lacks: str) -> None:
    needs = replace(NEEDS, endpoint="api.corp:6443")
    around = {"proxies": {"https_proxy": "http://proxy:3128", "no_proxy": exceptions}}
    found = problems(needs, around)
    if not lacks:
        assert found == []
        return
    said = only(found)
    assert f"NO_PROXY lacks {lacks}." in said
    assert f"{exceptions},{lacks.replace(', ', ',')}" in said
    assert problems(replace(needs, tolerate=["proxy"]), around) == []


def test_exceptions_matter_only_with_a_proxy() -> None:
    assert problems(around={"proxies": {"https_proxy": "", "no_proxy": "localhost"}}) == []


def test_enforcing_selinux_is_a_problem_that_may_be_tolerated() -> None:
    said = only(problems(around={"selinux": True}))
    assert "SELINUX=permissive" in said
    assert "node_prep_tolerate: [selinux]" in said
    assert problems(replace(NEEDS, tolerate=["selinux"]), {"selinux": True}) == []
    assert problems(around={"selinux": True}, node=OURS) == []


# -- firewalls -----------------------------------------------------------------------------------------------------


def test_a_firewall_is_a_problem_that_may_be_tolerated() -> None:
    around = {"firewall": nothing("ufw") | {"closed": True, "allowed": [rule(protocol="tcp", ports="22")]}}
    said = only(problems(around=around))
    assert "ufw" in said
    assert "6443/tcp" in said
    assert "node_prep_tolerate: [firewall]" in said
    assert problems(replace(NEEDS, tolerate=["firewall"]), around) == []


def test_the_tolerable_problems_are_those_of_the_role_and_the_module() -> None:
    import yaml
    from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.action import documented_options
    from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.paths import COLLECTION

    specs = yaml.safe_load((COLLECTION / "roles/node_prep/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert specs["argument_specs"]["main"]["options"]["node_prep_tolerate"]["choices"] == [*TOLERABLE]
    assert documented_options("examine_machine")["tolerate"]["choices"] == [*TOLERABLE]
