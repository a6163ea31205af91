# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: kubelet_certificate
short_description: Approve a kubelet's serving certificate if its machine made the request
version_added: 0.1.0
description:
  - A kubelet serves logs and metrics with a certificate. When it is new, and before the certificate expires, it
    requests one from the cluster.
  - Approves a request only if the node itself made it, for the machine's name and addresses only. Fails for any other
    request, with the reason.
  - Runs in the controller's process.
author: kubescale founders (@kubescale)
options:
  machine:
    description: Name of the machine and its node.
    type: str
    required: true
  addresses:
    description: The machine's addresses.
    type: list
    elements: str
    required: true
  wait:
    description: Whether to wait for the request of a kubelet that has no certificate yet.
    type: bool
    default: false
  wait_timeout:
    default: 60
extends_documentation_fragment:
  [kubescale.fleet.attributes.changes, kubescale.fleet.cluster, kubescale.fleet.cluster.wait]
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
