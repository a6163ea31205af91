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
  memory:
    description: Least memory, in MiB.
    type: int
    required: true
  disk:
    description: Least free disk space below /var/lib, in MiB. Asked of machines that are not nodes yet.
    type: int
    required: true
  tolerate_swap:
    description: Whether swap may be in use.
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: Check the machine
  ansible.builtin.assert:
    that: "{{ problems == [] }}"
  vars:
    problems: >-
      {{ kubescale_machine | kubescale.fleet.machine_problems('demo', memory=1700, disk=4096, tolerate_swap=false) }}
"""

RETURN = r"""
_value:
  description: What is wrong; empty for a machine that can be a node.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_KERNEL = (4, 18)


def machine_problems(
    machine: Mapping[str, Any], cluster: str, *, memory: int, disk: int, tolerate_swap: bool
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
        problems.append(f"{machine['free_mib']} MiB are free below /var/lib; binaries and images need {disk}.")
    if machine["swap"] and not tolerate_swap:
        problems.append(
            f"swap is in use ({', '.join(machine['swap'])}), which makes memory limits meaningless. Switch it off "
            "(swapoff "
            "--all, and remove it from /etc/fstab), or set node_prep_tolerate_swap: true."
        )
    if node["state"] == "foreign":
        problems.append(
            "it belongs to a Kubernetes cluster that was not made from this inventory (it has "
            f"{', '.join(node['foreign'])}). "
            "Take another machine, or remove that cluster yourself with: kubeadm reset"
        )
    elif node["state"] in ("ours", "unfinished") and node["cluster"] != cluster:
        problems.append(
            f"it is a node of cluster {node['cluster']}, but the inventory has it in {cluster}. "
            "Put it back there, or remove it from its cluster first with: kubeadm reset; rm -r /etc/kubescale"
        )
    return problems


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"machine_problems": machine_problems}
