# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Says why a machine cannot be a node, before anything on it is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: machine_problems
short_description: Why a machine cannot be a node of a cluster
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes the fact C(kubescale_machine) and returns sentences, each with what is wrong, what is allowed and what to do.
positional: cluster
options:
  _input:
    description: The fact C(kubescale_machine) of M(kubescale.fleet.machine_facts).
    type: dict
    required: true
  cluster:
    description: Name of the cluster that the machine belongs to by the inventory.
    type: str
    required: true
  kubernetes:
    description: Version of Kubernetes that the run would install. A node keeps the one it joined with.
    type: str
    required: true
  memory:
    description: Least memory, in MiB.
    type: int
    required: true
  disk:
    description: Least free disk space below /var/lib/containerd, in MiB. Asked of machines that are not nodes yet.
    type: int
    required: true
  ports:
    description: TCP ports that its part in the cluster listens on. Asked of machines that are not nodes yet.
    type: list
    elements: int
    required: true
  tolerate_swap:
    description: Whether swap may be in use.
    type: bool
    required: true
  others:
    description:
      - Variables of the cluster's other machines, with C(inventory_hostname) and the fact C(kubescale_machine).
      - A machine that is not a node yet must not have the host name, machine ID or product UUID of one of them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Check the machine
  ansible.builtin.assert:
    that: "{{ problems == [] }}"
  vars:
    problems: >-
      {{ kubescale_machine | kubescale.fleet.machine_problems('demo', kubernetes='1.37.0', memory=1700, disk=4096,
      ports=[10250], tolerate_swap=false, others=[]) }}
"""

RETURN = r"""
_value:
  description: What is wrong; empty for a machine that can be a node.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_KERNEL = (4, 18)


# What to do about an identity that two machines have.
REMEDIES = {
    "host name": "Give one of them another: hostnamectl set-hostname NAME",
    "machine ID": "Make a new one on the copied machine: rm /etc/machine-id; systemd-machine-id-setup; reboot",
    "product UUID": "Are they one machine, or copies of one? Give the copy a UUID of its own where it is virtualized",
}


def machine_problems(
    machine: Mapping[str, Any],
    cluster: str,
    *,
    kubernetes: str,
    memory: int,
    disk: int,
    ports: Iterable[int],
    tolerate_swap: bool,
    others: Iterable[Mapping[str, Any]],
) -> list[str]:
    """Return what keeps the machine from being a node of ``cluster``; memory and disk in MiB."""
    node = machine["node"]
    problems = []
    if machine["architecture"] not in ARCHITECTURES:
        allowed = ", ".join(ARCHITECTURES)
        problems.append(f"its architecture is {machine['architecture']}; supported are {allowed}.")
    if not machine["systemd"]:
        problems.append("systemd does not run as its first process; kubelet and containerd are systemd services.")
    if tuple(machine["kernel"]) < OLDEST_KERNEL:
        version = ".".join(map(str, machine["kernel"]))
        problems.append(f"its kernel is {version}; Kubernetes needs 4.18 or newer.")
    if not machine["family"] and machine["missing_packages"]:
        problems.append("its packages are of a family this role does not know (known: Debian, Red Hat).")
    if machine["memory_mib"] < memory:
        problems.append(f"it has {machine['memory_mib']} MiB of memory; its part in the cluster needs {memory}.")
    if node["state"] == "none" and machine["free_mib"] < disk:
        problems.append(
            f"{machine['free_mib']} MiB are free below /var/lib/containerd; binaries and images need {disk}."
        )
    if node["state"] == "none":
        problems += [
            f"its TCP port {port} is taken by {machine['listeners'][str(port)]}; Kubernetes needs it. End that program."
            for port in ports
            if str(port) in machine["listeners"]
        ]
        problems += shared_identities(machine, others)
    if machine["swap"] and not tolerate_swap:
        problems.append(
            f"swap is in use ({', '.join(machine['swap'])}), which makes memory limits meaningless. Switch it off "
            "(swapoff "
            "--all, and remove it from /etc/fstab), or set node_prep_tolerate_swap: true."
        )
    return problems + membership_problems(node, cluster, kubernetes)


def membership_problems(node: Mapping[str, Any], cluster: str, kubernetes: str) -> list[str]:
    """Return why a machine that has Kubernetes already cannot be a node of ``cluster`` in this version."""
    if node["state"] == "foreign":
        return [
            "it belongs to a Kubernetes cluster that was not made from this inventory (it has "
            f"{', '.join(node['foreign'])}). "
            "Take another machine, or remove that cluster yourself with: kubeadm reset"
        ]
    if node["state"] in ("ours", "unfinished") and node["cluster"] != cluster:
        return [
            f"it is a node of cluster {node['cluster']}, but the inventory has it in {cluster}. "
            "Put it back there, or remove it from its cluster first with: kubeadm reset; rm -r /etc/kubescale"
        ]
    if node["state"] == "ours" and node["version"] != kubernetes:
        return [
            f"it joined {cluster} with Kubernetes {node['version']} (/etc/kubescale/node.json), and this run would "
            f"bring {kubernetes}; a running cluster keeps its version. Ask for {node['version']} (artifacts_versions), "
            "or make a new cluster."
        ]
    return []


def shared_identities(machine: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what the machine has in common with another one, and must not."""
    return [
        f"its {name} {value} is also that of {other['inventory_hostname']}; a cluster would take the two for one. "
        f"{REMEDIES[name]}."
        for other in others
        for name, value in machine["identities"].items()
        if other["kubescale_machine"]["identities"].get(name) == value
    ]


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"machine_problems": machine_problems}
