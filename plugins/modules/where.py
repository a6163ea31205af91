# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: where
short_description: Show the addresses and files of a cluster
version_added: 0.1.0
description:
  - Shows the address of every service that this collection exposes outside the cluster, the kubeconfig, and the report
    with its verdict.
  - Runs on the controller, in Ansible's own process, and changes nothing.
author: kubescale founders (@kubescale)
options:
  state_dir:
    description: Folder with the cluster's report.
    type: path
    required: true
  published:
    description: Ports of nodes that are published under the same number on 127.0.0.1 of the controller.
    type: list
    elements: int
    default: []
  notes:
    description: Further lines to show, as name and text.
    type: dict
    default: {}
extends_documentation_fragment: [kubescale.fleet.attributes, kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Show addresses and files
  kubescale.fleet.where:
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
    published: [30080]
"""

RETURN = r"""
places:
  description: Addresses and paths by name.
  returned: success
  type: dict
  sample: {demo-app: "http://127.0.0.1:30080"}
"""
