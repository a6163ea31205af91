# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Decisions of a plan that follow from its objects alone."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.parent import Parent
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.plan import Plan
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import Content
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import Key, ref_of


def service(name: str, *node_ports: int) -> dict[str, Any]:
    ports = [{"port": 80, "nodePort": number} for number in node_ports]
    metadata = {"name": name, "namespace": "a"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 81}, *ports]}}


def plan(desired: list[dict[str, Any]], members: list[dict[str, Any]]) -> Plan:
    by_key = [{ref_of(obj).key: obj for obj in objects} for objects in (desired, members)]
    return Plan(Parent(), [], Content([], {}, [], []), *by_key, {}, {}, frozenset(), {}, {})


def test_a_node_port_goes_from_an_obsolete_service_to_a_desired_one() -> None:
    old, same = service("old", 30001, 30002), service("same", 30003)
    found = plan([service("new", 30002, 30004), same], [old, same, service("unused", 30005)])
    assert set(found.obsolete) == {Key("", "Service", "a", "old"), Key("", "Service", "a", "unused")}
    assert found.port_heirs == {Key("", "Service", "a", "old"): {Key("", "Service", "a", "new")}}
