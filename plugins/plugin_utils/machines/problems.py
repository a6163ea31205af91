# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return why a machine cannot be a node, from the facts about it and the variables of its cluster."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...module_utils.surroundings import is_loopback
from ..kube.proxies import is_exempt, is_exempt_network
from ..kube.quantity import quantity
from .firewall import firewall_problem, needed_ports

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_KERNEL = (4, 18)
#: openssl of this version signs certificates of aggregated APIs with the cluster's CA (x509 -copy_extensions).
OLDEST_OPENSSL = [3, 0]
MIB = 1024 * 1024
#: kubeadm itself asks for 1700 MiB on a control plane; a worker needs half a GiB before the first pod runs.
MEMORY_MIB = {"control_plane": 1700, "worker": 700}
#: Binaries and images of a node, unpacked.
DISK_MIB = 4096
#: TCP ports of kubeadm that must be free.
PORTS = {"control_plane": (2379, 2380, 6443, 10250, 10257, 10259), "worker": (10250,)}
#: Free space at which a kubelet evicts pods, if its configuration sets nothing.
EVICTION = {"nodefs.available": "10%", "imagefs.available": "15%"}
IMAGES = "/var/lib/containerd"
#: The kubelet's signal for the file system of each folder. It does not watch that of logs, which fill up like volumes.
FOLDERS = {IMAGES: "imagefs.available", "/var/lib/kubelet": "nodefs.available", "/var/log": "nodefs.available"}
#: Remedies for an identity that two machines have.
REMEDIES = {
    "host name": "Give one of them another name: hostnamectl set-hostname NAME",
    "machine ID": "Make a new ID on the copied machine: rm /etc/machine-id; systemd-machine-id-setup; reboot",
    "product UUID": "Are they one machine, or copies of one machine? Give the copy its own UUID in the hypervisor",
}
#: Names of the problems that a user can tolerate. They are the values of `node_prep_tolerate`.
TOLERABLE = ("endpoint", "firewall", "proxy", "resolver", "selinux")


class Problem(NamedTuple):
    """Why a machine cannot be a node; `name` is "" if it cannot be tolerated."""

    text: str
    name: str = ""


@dataclass(frozen=True)
class Peer:
    """Another machine of the cluster that this run has examined."""

    name: str
    address: str
    identities: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """Requirements of a cluster on a machine.

    Attributes:
        part: `control_plane` or `worker`.
        kubernetes: Version that the run would install.
        address: The variable node_prep_address; "" for the address of the default route.
        endpoint: The variable control_plane_endpoint, or "".
        unreachable: Why the controller cannot reach the API at the machine's address, or "".
        kubelet: The KubeletConfiguration of the machine.
    """

    cluster: str
    part: str
    kubernetes: str
    control_planes: int = 1
    address: str = ""
    endpoint: str = ""
    unreachable: str = ""
    pod_network: str = "10.244.0.0/16"
    service_network: str = "10.96.0.0/16"
    vxlan: bool = True
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    tolerate_swap: bool = False
    tolerate: Collection[str] = ()
    peers: Collection[Peer] = ()

    @property
    def is_control_plane(self) -> bool:
        """Whether the machine becomes a control plane."""
        return self.part == "control_plane"


def machine_problems(machine: Mapping[str, Any], needs: Needs) -> list[str]:
    """Return why a machine (the fact `kubescale_machine`) cannot be a node, without the tolerated reasons."""
    problems = [
        *system_problems(machine, needs),
        *map(Problem, membership_problems(machine["node"], needs.cluster, needs.kubernetes)),
    ]
    if machine["node"]["state"] == "none":
        problems += new_node_problems(machine, needs)
    return [
        problem.text + (f" If it is right as it is, set node_prep_tolerate: [{problem.name}]." if problem.name else "")
        for problem in problems
        if problem.name not in needs.tolerate
    ]


def system_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield what is wrong with the system of a machine, whether it is a node or not."""
    if machine["architecture"] not in ARCHITECTURES:
        yield Problem(f"its architecture is {machine['architecture']}; supported are {', '.join(ARCHITECTURES)}.")
    if not machine["systemd"]:
        yield Problem("systemd does not run as its first process; kubelet and containerd are systemd services.")
    if tuple(machine["kernel"]) < OLDEST_KERNEL:
        version = ".".join(map(str, machine["kernel"]))
        yield Problem(f"its kernel is {version}; Kubernetes needs 4.18 or newer.")
    if not machine["family"] and machine["missing_packages"]:
        yield Problem("its package family is not known; supported are Debian, Red Hat.")
    if machine["memory_mib"] < MEMORY_MIB[needs.part]:
        memory = machine["memory_mib"]
        yield Problem(f"it has {memory} MiB of memory; its role in the cluster needs {MEMORY_MIB[needs.part]}.")
    if machine["swap"] and not needs.tolerate_swap:
        yield Problem(
            f"swap is in use ({', '.join(machine['swap'])}), which makes memory limits meaningless. "
            f"{swap_advice(machine['swap'])}, or set node_prep_tolerate_swap: true."
        )


def swap_advice(devices: Iterable[str]) -> str:
    """Return how to switch swap off so that it stays off after the next boot."""
    steps = ["Switch it off (swapoff --all)"]
    if any("zram" in device for device in devices):
        steps.append(
            "keep zram off at boot: make an empty file /etc/systemd/zram-generator.conf, or run systemctl disable "
            "zramswap.service where that service exists"
        )
    if "/var/swap" in devices:
        steps.append("keep it off at boot: systemctl disable dphys-swapfile.service")
    elif any("zram" not in device for device in devices):
        steps.append("remove it from /etc/fstab")
    return ", and ".join(steps)


def membership_problems(node: Mapping[str, Any], cluster: str, kubernetes: str) -> list[str]:
    """Return why a machine with Kubernetes cannot be a node of ``cluster`` in this version."""
    if node["state"] == "foreign":
        return [
            "it belongs to a Kubernetes cluster that was not made from this inventory (it has "
            f"{', '.join(node['foreign'])}). "
            "Use another machine, or remove that cluster with: kubeadm reset"
        ]
    if node["state"] in ("ours", "unfinished") and node["cluster"] != cluster:
        return [
            f"it is a node of cluster {node['cluster']}, but the inventory has it in {cluster}. "
            "Correct the inventory, or remove the machine from its cluster with: kubeadm reset; rm -r /etc/kubescale"
        ]
    if node["state"] == "ours" and node["version"] != kubernetes:
        return [
            f"it joined {cluster} with Kubernetes {node['version']} (/etc/kubescale/node.json), and this run would "
            f"install {kubernetes}; a running cluster keeps its version. Set {node['version']} in artifacts_versions, "
            "or make a new cluster."
        ]
    return []


def new_node_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield what keeps a machine from becoming a node."""
    for port in PORTS[needs.part]:
        if program := machine["listeners"].get(str(port)):
            yield Problem(f"its TCP port {port} is taken by {program}; Kubernetes needs it. End that program.")
    for peer in needs.peers:
        for name, value in machine["identities"].items():
            if peer.identities.get(name) == value:
                shared = f"its {name} {value} is also that of {peer.name}; nodes must not share it."
                yield Problem(f"{shared} {REMEDIES[name]}.")
    yield from disk_problems(machine, needs)
    yield from installation_problems(machine, needs)
    yield from address_problems(machine, needs)
    yield from endpoint_problems(machine, needs)
    yield from network_problems(machine, needs)


# -- disks and packages --------------------------------------------------------------------------------------------


def disk_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield the file systems that are too small, or so full that the kubelet would evict pods."""
    thresholds = needs.kubelet.get("evictionHard") or EVICTION
    disks = machine["surroundings"]["disks"]
    for device in dict.fromkeys(disks[folder]["device"] for folder in FOLDERS):
        folders = [folder for folder in FOLDERS if disks[folder]["device"] == device]
        free, total = disks[folders[0]]["free_mib"], disks[folders[0]]["total_mib"]
        takes = DISK_MIB if IMAGES in folders else 0
        if free < takes:
            yield Problem(f"{free} MiB are free below {IMAGES}; binaries and images need {takes}.")
            continue
        values = [thresholds[FOLDERS[folder]] for folder in folders if FOLDERS[folder] in thresholds]
        highest = max(values, key=lambda value: threshold_mib(value, total), default="0%")
        if free - takes < threshold_mib(highest, total):
            taking = f", and binaries and images take {takes} of them" if takes else ""
            yield Problem(
                f"{free} of {total} MiB ({100 * free // total} %) are free below {', '.join(folders)}{taking}. With "
                f"less than {highest} the kubelet evicts pods. Free space, or set evictionHard in "
                "node_prep_kubelet_config."
            )


def threshold_mib(value: str, total_mib: int) -> float:
    """Return a threshold of the kubelet in MiB: a percentage of the total, or a quantity."""
    if value.endswith("%"):
        return float(value[:-1]) / 100 * total_mib
    return quantity(value) / MIB


def installation_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield what the role could not install or load on the machine."""
    around = machine["surroundings"]
    if machine["missing_packages"] and not around["installs"]:
        names = " ".join(machine["missing_packages"])
        yield Problem(
            "it lacks packages, and Ansible cannot install them: no Python 3.9 or newer on it has the bindings of dnf. "
            f"Install them yourself: dnf install {names}"
        )
    modules = [name for name in around["missing_modules"] if name != "vxlan" or needs.vxlan]
    if modules:
        yield Problem(
            f"its kernel has no module {', '.join(modules)}. Install the package with all modules of "
            "this kernel (linux-modules-extra of Ubuntu, kernel-modules of the Red Hat family). Restart the machine if "
            "its kernel was updated. For a container, load the module on its host."
        )
    version = around["openssl"]
    if needs.is_control_plane and version and version < OLDEST_OPENSSL:
        said = ".".join(map(str, version))
        yield Problem(
            f"its OpenSSL is {said}, and a control plane needs 3.0 or newer. Use a newer release of the system."
        )
    if around["selinux"]:
        yield Problem(
            "its SELinux is enforcing, and this collection neither labels files nor switches on SELinux in containerd: "
            "pods may be denied files of the machine. Make it permissive: setenforce 0, and SELINUX=permissive in "
            "/etc/selinux/config.",
            "selinux",
        )
    resolver = machine["resolver"]
    loops = [server for server in resolver["servers"] if is_loopback(server)]
    if loops and needs.kubelet.get("resolvConf", resolver["file"]) == resolver["file"]:
        yield Problem(
            f"its {resolver['file']} names the name server {loops[0]}, which is another one inside of a pod: CoreDNS "
            "would ask itself for ever. Write the real name servers into a file such as /etc/resolv-pods.conf, and set "
            "node_prep_kubelet_config: {resolvConf: /etc/resolv-pods.conf}.",
            "resolver",
        )


# -- addresses and networks ----------------------------------------------------------------------------------------


def address_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield what is wrong with the machine's address in its cluster."""
    own = needs.address or machine["address"]
    known = ", ".join(machine["addresses"])
    if not own:
        if any(name.startswith("iproute") for name in machine["missing_packages"]):
            reason = "its addresses are not known, because it lacks the program ip. Install iproute, or set"
        elif known:
            reason = f"it has no IPv4 default route, so its address in the cluster is not known (it has {known}). Set"
        else:
            yield Problem("it has no IPv4 address, and this collection makes clusters with IPv4. Give it an address.")
            return
        yield Problem(f"{reason} node_prep_address.")
        return
    if known and own not in machine["addresses"]:
        yield Problem(
            f"node_prep_address is {own}, which it does not have; it has {known}. Set one of them: the kubelet "
            "needs its own. An address that a router translates belongs into ansible_host."
        )
    for peer in needs.peers:
        if peer.address == own:
            others = ", ".join(one for one in machine["addresses"] if one != own) or "none"
            yield Problem(
                f"its address {own} is also that of {peer.name}, as behind the NAT of a hypervisor. Set "
                f"node_prep_address of both to their addresses in one network; its other addresses are: {others}."
            )
    for variable, network in (
        ("control_plane_pod_network", needs.pod_network),
        ("control_plane_service_network", needs.service_network),
    ):
        if ipaddress.ip_address(own) in ipaddress.ip_network(network):
            yield Problem(f"its address {own} is inside {variable}, {network}. Set another {variable}.")


def endpoint_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield why machines or controller would not reach the API."""
    for name in machine["surroundings"]["unresolved"]:
        yield Problem(
            f"it cannot resolve {name}, the host of control_plane_endpoint. Correct the endpoint, or the machine's "
            "name servers.",
            "endpoint",
        )
    if needs.is_control_plane and needs.control_planes > 1 and not needs.endpoint:
        yield Problem(
            f"cluster {needs.cluster} has {needs.control_planes} control planes and no control_plane_endpoint. "
            "All nodes would use the first control plane only, and the endpoint cannot change later. Set a host and "
            "port that lead to all of them, such as a load balancer.",
            "endpoint",
        )
    if needs.unreachable:
        yield Problem(
            f"{needs.unreachable}. The controller and all machines must reach the API: open TCP 6443, or set "
            "control_plane_endpoint to an address that leads there from everywhere.",
            "endpoint",
        )


def network_problems(machine: Mapping[str, Any], needs: Needs) -> Iterator[Problem]:
    """Yield what a firewall or a proxy keeps from the cluster."""
    around = machine["surroundings"]
    own = needs.address or machine["address"]
    addresses = [peer.address for peer in needs.peers if peer.address]
    text = firewall_problem(
        around["firewall"],
        machine["interfaces"].get(own, ""),
        [*addresses, needs.pod_network],
        needed_ports(needs.is_control_plane, needs.control_planes, needs.vxlan),
        needs.pod_network,
    )
    if text:
        yield Problem(text, "firewall")
    if around["proxies"]["https_proxy"]:
        lacks = proxied(around["proxies"]["no_proxy"], needs, [own, *addresses] if own else addresses)
        if lacks:
            exceptions = ",".join(filter(None, [around["proxies"]["no_proxy"], *lacks]))
            yield Problem(
                f"its environment has the proxy {around['proxies']['https_proxy']}, which kubeadm hands on to the "
                f"API server, and NO_PROXY lacks {', '.join(lacks)}. Set NO_PROXY there (/etc/environment) to "
                f"{exceptions}.",
                "proxy",
            )


def proxied(exceptions: str, needs: Needs, addresses: Iterable[str]) -> list[str]:
    """Return what the value of NO_PROXY, ``exceptions``, lacks for a control plane."""
    lacks = [
        network for network in (needs.pod_network, needs.service_network) if not is_exempt_network(exceptions, network)
    ]
    if not is_exempt(exceptions, "name.namespace.svc", 443):
        lacks.append(".svc")
    host, _colon, port = needs.endpoint.rpartition(":")
    if host and port.isdigit() and not is_exempt(exceptions, host, int(port)):
        lacks.append(host)
    lacks += [address for address in addresses if not is_exempt(exceptions, address, 10250)]
    return list(dict.fromkeys(lacks))
