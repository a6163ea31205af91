# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The action that examines a machine: what it takes from the variables of the cluster, and its probe of the API."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.kubescale.fleet.plugins.action import examine_machine
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import transport

MACHINE = {"address": "192.0.2.11", "identities": {"host name": "m1"}, "node": {"state": "none"}}
VARIABLES: dict[str, Any] = {
    "inventory_hostname": "cp1",
    "cluster_name": "demo",
    "cluster_control_plane": ["cp1", "cp2"],
    "cluster_workers": ["w1", "w2"],
    "hostvars": {
        "cp1": {"kubescale_machine": MACHINE},
        "cp2": {"kubescale_machine": MACHINE | {"address": "192.0.2.12"}},
        "w1": {"kubescale_machine": MACHINE | {"address": "10.0.2.15"}, "node_prep_address": "192.0.2.21"},
        "w2": {},
    },
}
ARGUMENTS = {"kubernetes": "1.37.0", "address": "", "kubelet": {}, "tolerate_swap": False, "tolerate": []}


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Places that the controller tried to reach."""
    places: list[tuple[str, int]] = []
    monkeypatch.setattr(
        examine_machine, "why_unreachable", lambda host, port: places.append((host, port)) or "no answer within 5 s"
    )
    return places


def needs(machine: dict[str, Any] = MACHINE, arguments: dict[str, Any] | None = None, **variables: Any) -> Any:
    action = object.__new__(examine_machine.ActionModule)
    action.variables = VARIABLES | variables
    action._templar = SimpleNamespace(template=lambda value: value)
    action._loader = DataLoader()
    return action._needs(ARGUMENTS | (arguments or {}), machine)


def test_defaults_are_those_of_the_roles(probed: list[tuple[str, int]]) -> None:
    found = needs()
    assert (found.pod_network, found.service_network, found.vxlan) == ("10.244.0.0/16", "10.96.0.0/16", True)
    assert (found.part, found.control_planes, found.endpoint) == ("control_plane", 2, "")
    assert needs(inventory_hostname="w1").part == "worker"
    assert needs(cni_backend="host-gw").vxlan is False
    assert needs(cni_state="absent").vxlan is False


def test_peers_are_the_examined_machines_with_their_addresses(probed: list[tuple[str, int]]) -> None:
    assert [(peer.name, peer.address) for peer in needs().peers] == [("cp2", "192.0.2.12"), ("w1", "192.0.2.21")]


@pytest.mark.parametrize(
    ("variables", "machine", "arguments", "places"),
    [
        ({}, MACHINE, {}, [("192.0.2.11", 6443)]),
        ({}, MACHINE, {"address": "192.0.2.99"}, [("192.0.2.99", 6443)]),
        # Only the first control plane makes an API, and only without an endpoint, at its own address.
        ({"inventory_hostname": "cp2"}, MACHINE, {}, []),
        ({"inventory_hostname": "w1"}, MACHINE, {}, []),
        ({"control_plane_endpoint": "api.corp:6443"}, MACHINE, {}, []),
        ({}, MACHINE | {"node": {"state": "ours"}}, {}, []),
        ({}, MACHINE | {"address": ""}, {}, []),
    ],
)
def test_when_the_controller_tries_to_reach_the_api(
    probed: list[tuple[str, int]], variables: Any, machine: Any, arguments: Any, places: list[tuple[str, int]]
) -> None:
    needs(machine, arguments, **variables)
    assert probed == places


def test_the_address_by_which_the_machine_is_reached_is_named(probed: list[tuple[str, int]]) -> None:
    found = needs(ansible_host="203.0.113.7").unreachable
    assert "192.0.2.11:6443" in found
    assert "SSH reaches it as 203.0.113.7" in found
    assert "SSH" not in needs(ansible_host="192.0.2.11").unreachable


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)


@pytest.mark.usefixtures("_no_proxy")
def test_a_port_that_listens_or_refuses_is_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert examine_machine.why_unreachable("127.0.0.1", port) == ""
    assert examine_machine.why_unreachable("127.0.0.1", port) == ""


@pytest.mark.usefixtures("_no_proxy")
def test_a_port_that_nothing_answers_for_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_machine, "CONNECT_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        # With a full queue, the kernel drops further attempts, as a firewall does.
        full = [socket.socket() for _unused in range(3)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        assert examine_machine.why_unreachable("127.0.0.1", listener.getsockname()[1]) == "no answer within 0.05 s"
        for one in full:
            one.close()
    assert examine_machine.why_unreachable("no.such.name.invalid", 6443) != ""


def test_a_proxy_on_the_way_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    assert examine_machine.why_unreachable("no.such.name.invalid", 6443) == ""


def test_the_probe_waits_as_long_as_a_request() -> None:
    assert examine_machine.CONNECT_TIMEOUT == transport.CONNECT_TIMEOUT
