# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Checks of variables against each other before the first change of a run. Each returns a list of error messages."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping, Sequence

from .values import FILE, Setting

#: Prefix lengths that kubeadm allows. It gives each machine a /24 of the pods' range, to at most 65,536 machines.
PREFIXES = {"control_plane_pod_network": (8, 24), "control_plane_service_network": (12, 28)}
#: Prefix length of a machine's part of the pods' range.
MACHINE_PREFIX = 24


def check_volume(flavor: Setting, storage_class: Setting, replicas: Setting) -> list[str]:
    """Check that the pods of one Deployment do not share one volume."""
    if flavor.value != "standalone" or not storage_class.value or not isinstance(replicas.value, int):
        return []
    if replicas.value <= 1:
        return []
    return [
        f"{storage_class}: with {flavor} only one Prometheus can have a volume, but {replicas}; remove the class, "
        "or set prometheus_flavor: operator, which creates a volume for each pod"
    ]


def check_bundle(source: Setting, bundle: Setting) -> list[str]:
    """Check that the archive exists from which artifacts are taken."""
    if source.value != "bundle" or FILE.holds(bundle.value or "/"):
        return []
    return [f"{bundle}: with {source}, it {FILE.words}"]


def check_order(less: Setting, more: Setting, equal: bool = True) -> list[str]:
    """Check that ``less`` is below ``more``, or with ``equal`` not above it."""
    if not isinstance(less.value, int) or not isinstance(more.value, int):
        return []
    if less.value < more.value or (equal and less.value == more.value):
        return []
    return [f"{less}: {'must not be above' if equal else 'must be below'} {more}"]


def check_node_ports(*ports: Setting) -> list[str]:
    """Check that no two services have the same port of the machines."""
    pairs = itertools.combinations([port for port in ports if port.value], 2)
    return [f"{one}: is the port of {other}, too" for one, other in pairs if one.value == other.value]


def check_owner(owner: Setting, adapter: Setting) -> list[str]:
    """Check that an API is not left to an adapter that is absent."""
    if owner.value != "adapter" or adapter.value != "absent" or owner.where == "default":
        return []
    return [f"{owner}: nothing would serve the API, because {adapter}"]


def check_range(machines: int, setting: Setting) -> list[str]:
    """Check that kubeadm accepts a range of pods or services, and that it is large enough for the machines."""
    least, most = PREFIXES[setting.name]
    try:
        net = ipaddress.ip_network(str(setting.value))
    except ValueError:
        return []  # check_networks reports it
    if net.version != 4 or net.is_loopback or net.is_multicast or net.is_link_local or net.is_reserved:
        return [f"{setting}: must be a range of private IPv4 addresses, such as 10.244.0.0/16"]
    if not least <= net.prefixlen <= most:
        return [f"{setting}: the length of its prefix must be from /{least} to /{most}"]
    room = 2 ** (MACHINE_PREFIX - net.prefixlen)
    if setting.name == "control_plane_pod_network" and room < machines:
        return [f"{setting}: has room for {room} machines (a /{MACHINE_PREFIX} each), and the cluster has {machines}"]
    return []


def check_networks(networks: Sequence[Setting], addresses: Sequence[Setting] = ()) -> list[str]:
    """Check that address ranges are CIDRs, do not overlap, and contain no address of a machine."""
    wrong = []
    parsed = []
    for setting in networks:
        try:
            parsed.append((setting, ipaddress.ip_network(str(setting.value))))
        except ValueError as error:
            wrong.append(f"{setting}: must be a range of addresses such as 10.244.0.0/16: {error}")
    for (one, first), (other, second) in itertools.combinations(parsed, 2):
        if first.version == second.version and first.overlaps(second):
            wrong.append(f"{one}: overlaps {other}; choose ranges without a common address")
    for address in addresses:
        try:
            number = ipaddress.ip_address(str(address.value))
        except ValueError:
            continue  # a name; Ansible resolves it
        wrong += [
            f"{address}: is an address inside {setting}; choose another range"
            for setting, net in parsed
            if number in net
        ]
    return wrong


def sandbox_ranges(addresses: Sequence[Setting]) -> list[Setting]:
    """Return the /24 networks of sandbox addresses. Other values stay, so check_networks rejects them."""
    ranges: dict[str, Setting] = {}
    for setting in addresses:
        try:
            value = str(ipaddress.ip_network(f"{setting.value}/24", strict=False))
        except ValueError:
            value = str(setting.value)
        ranges.setdefault(value, Setting(setting.name, value, setting.where))
    return list(ranges.values())


def check_distinct(settings: Mapping[str, Setting]) -> list[str]:
    """Check that no two machines have the same value, such as an address. ``settings`` is by machine."""
    machines: dict[str, list[str]] = {}
    for machine, setting in settings.items():
        if setting.value in (None, ""):
            continue
        machines.setdefault(str(setting.value), []).append(machine)
    return [
        f"{settings[names[0]]}: {' and '.join(names)} have the same value; each machine needs its own"
        for names in machines.values()
        if len(names) > 1
    ]
