# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: kubelet_certificate
short_description: Approve a kubelet's serving certificate if its machine is the one that asks
version_added: 0.1.0
description:
  - Kubelets ask the cluster to sign the certificate they serve logs and metrics with,
    when they are new and before it expires.
  - A request is approved only if the node itself made it, and it asks for nothing but the machine's name and addresses.
    Another one is an error that says what is wrong with it.
  - Runs in the controller's process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports whether requests would be approved.
    support: full
options:
  machine:
    description: Name of the machine, which is that of its node.
    type: str
    required: true
  addresses:
    description: The machine's addresses.
    type: list
    elements: str
    required: true
  wait:
    description: Whether the kubelet has no certificate yet, so that its request is waited for.
    type: bool
    default: false
  wait_timeout:
    default: 60
extends_documentation_fragment: [kubescale.fleet.cluster, kubescale.fleet.cluster.wait]
"""

EXAMPLES = r"""
- name: Approve the kubelet's certificate
  kubescale.fleet.kubelet_certificate:
    kubeconfig: "{{ cluster_kubeconfig }}"
    machine: "{{ inventory_hostname }}"
    addresses: "{{ kubescale_machine.addresses }}"
"""

RETURN = r"""
approved:
  description: Number of requests that were approved, or would be.
  type: int
  returned: success
"""
