# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return why a machine cannot be a node, before a role changes anything on it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: machine_problems
short_description: Why a machine cannot be a node of a cluster
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes the fact C(kubescale_machine) and returns sentences that name problem, allowed values and remedy.
positional: cluster
options:
  _input:
    description: The fact C(kubescale_machine) of M(kubescale.fleet.machine_facts).
    type: dict
    required: true
  cluster:
    description: Name of the machine's cluster in the inventory.
    type: str
    required: true
  kubernetes:
    description: Version of Kubernetes that the run would install. A node keeps its version.
    type: str
    required: true
  memory:
    description: Minimum memory, in MiB.
    type: int
    required: true
  disk:
    description: Minimum free disk space below /var/lib/containerd, in MiB. Not checked on a node.
    type: int
    required: true
  ports:
    description: TCP ports on which the Kubernetes programs of the machine listen. Not checked on a node.
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
      - A machine that is not a node yet must not have the host name, machine ID or product UUID of another machine.
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
  description: The problems; empty if the machine can be a node.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_KERNEL = (4, 18)


# Remedies for an identity that two machines have.
REMEDIES = {
    "host name": "Give one of them another name: hostnamectl set-hostname NAME",
    "machine ID": "Make a new ID on the copied machine: rm /etc/machine-id; systemd-machine-id-setup; reboot",
    "product UUID": "Are they one machine, or copies of one machine? Give the copy its own UUID in the hypervisor",
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
    """Return why the machine cannot be a node of ``cluster``. ``memory`` and ``disk`` are in MiB."""
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
        problems.append("its package family is not known; supported are Debian, Red Hat.")
    if machine["memory_mib"] < memory:
        problems.append(f"it has {machine['memory_mib']} MiB of memory; its role in the cluster needs {memory}.")
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
            "(swapoff --all, and remove it from /etc/fstab), or set node_prep_tolerate_swap: true."
        )
    return problems + membership_problems(node, cluster, kubernetes)


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


def shared_identities(machine: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the identities that the machine shares with another machine."""
    return [
        f"its {name} {value} is also that of {other['inventory_hostname']}; nodes must not share it. {REMEDIES[name]}."
        for other in others
        for name, value in machine["identities"].items()
        if other["kubescale_machine"]["identities"].get(name) == value
    ]


class FilterModule:
    """The filter kubescale.fleet.machine_problems."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"machine_problems": machine_problems}
