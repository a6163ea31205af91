# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Judge whether a machine's firewall lets through what a node needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

#: Interfaces of flannel. A firewall that trusts both lets pods through, whatever their addresses are.
POD_INTERFACES = frozenset({"cni0", "flannel.1"})
#: Ports that are needed only by load balancers and by users of node ports, for the advice.
OPTIONAL = "10256/tcp for load balancers that ask kube-proxy, and 30000-32767/tcp for node ports"


class Port(NamedTuple):
    """Ports that a node needs; `first` and `last` are the same for one port."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        numbers = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{numbers}/{self.protocol}"


def needed_ports(is_control_plane: bool, control_planes: int, vxlan: bool) -> list[Port]:
    """Return the ports that a machine's firewall must open to the other machines and to pods."""
    ports = [Port("tcp", 10250, 10250), Port("tcp", 9100, 9100)]
    if is_control_plane:
        ports.insert(0, Port("tcp", 6443, 6443))
    if is_control_plane and control_planes > 1:
        ports.insert(1, Port("tcp", 2379, 2380))
    return [*ports, Port("udp", 8472, 8472)] if vxlan else ports


def closed_ports(
    firewall: Mapping[str, Any], interface: str, sources: Iterable[str], ports: Iterable[Port]
) -> list[Port]:
    """Return the ports that are closed to at least one of the sources (addresses and networks)."""
    if not firewall["closed"]:
        return []
    networks = [ipaddress.ip_network(source) for source in sources]
    return [
        port
        for port in ports
        if not all(any(_admits(rule, network, interface, port) for rule in firewall["allowed"]) for network in networks)
    ]


def drops_pods(firewall: Mapping[str, Any], pod_network: str) -> bool:
    """Return whether the firewall drops what the machine forwards for pods."""
    if not firewall["forward_closed"]:
        return False
    network = ipaddress.ip_network(pod_network)
    rules = firewall["forwarded"]
    if {rule["interface"] for rule in rules if not rule["source"]} >= POD_INTERFACES:
        return False
    return not any(_covers(rule["source"], network) for rule in rules if not rule["interface"])


def firewall_problem(
    firewall: Mapping[str, Any], interface: str, sources: Collection[str], ports: Collection[Port], pod_network: str
) -> str:
    """Return what the firewall of a machine blocks and how to open it, or "" if it blocks nothing."""
    closed, drops = closed_ports(firewall, interface, sources, ports), drops_pods(firewall, pod_network)
    if not closed and not drops:
        return ""
    blocked = [f"the ports {', '.join(map(str, closed))}"] if closed else []
    blocked += [f"the forwarded traffic of pods ({pod_network})"] if drops else []
    kind = "Docker's rules" if firewall["docker"] and drops and not closed else firewall["kind"]
    advice = _ADVICE[firewall["kind"]](firewall, interface, closed, pod_network if drops else "")
    return f"its firewall ({kind}) blocks {' and '.join(blocked)}. {advice} If you use them, open {OPTIONAL}, too."


def _admits(rule: Mapping[str, str], source: Any, interface: str, port: Port) -> bool:  # noqa: ANN401
    first, _dash, last = rule["ports"].partition("-")
    return (
        _covers(rule["source"], source)
        and rule["interface"] in ("", interface)
        and rule["protocol"] in ("", "all", port.protocol)
        and (not first or (int(first) <= port.first and port.last <= int(last or first)))
    )


def _covers(source: str, network: Any) -> bool:  # noqa: ANN401
    """Return whether the source of a rule ("" for everywhere) contains a network."""
    if not source:
        return True
    try:
        known = ipaddress.ip_network(source, strict=False)
    except ValueError:  # a name of an IP set
        return False
    return known.version == network.version and bool(network.subnet_of(known))


def _firewalld(firewall: Mapping[str, Any], interface: str, closed: Collection[Port], pods: str) -> str:
    zone = firewall["zones"].get(interface) or firewall["zones"][""]
    commands = [f"firewall-cmd --permanent --zone={zone} " + " ".join(f"--add-port={port}" for port in closed)]
    commands = commands if closed else []
    commands += [f"firewall-cmd --permanent --zone=trusted --add-source={pods}"] if pods else []
    return f"Run: {'; '.join([*commands, 'firewall-cmd --reload'])}."


def _ufw(_firewall: Mapping[str, Any], _interface: str, closed: Collection[Port], pods: str) -> str:
    commands = [f"ufw allow {str(port).replace('-', ':')}" for port in closed]
    commands += [f"ufw allow from {pods}", f"ufw route allow from {pods}", f"ufw route allow to {pods}"] if pods else []
    return f"Run: {'; '.join(commands)}."


def _iptables(firewall: Mapping[str, Any], _interface: str, closed: Collection[Port], pods: str) -> str:
    steps = []
    if closed:
        steps.append(f"Accept {', '.join(map(str, closed))} in the chain INPUT of its iptables rules.")
    if pods and firewall["docker"]:
        steps.append(
            "Docker drops what it does not forward itself. Remove Docker; the machine needs containerd only. "
            f"Otherwise accept {pods} as source and as destination in the chain DOCKER-USER, at every boot."
        )
    elif pods:
        steps.append(f"Accept {pods} as source and as destination in the chain FORWARD, at every boot.")
    return " ".join(steps)


def _nftables(firewall: Mapping[str, Any], _interface: str, closed: Collection[Port], pods: str) -> str:
    opened = [*map(str, closed), *([f"forwarding from and to {pods}"] if pods else [])]
    return (
        f"Its chains {', '.join(firewall['chains'])} drop by default, and this collection does not read their rules. "
        f"Make sure that they accept {', '.join(opened)}."
    )


_ADVICE = {"firewalld": _firewalld, "ufw": _ufw, "iptables": _iptables, "nftables": _nftables}
