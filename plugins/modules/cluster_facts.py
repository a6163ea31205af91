# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: cluster_facts
short_description: Read how kubeadm set up a cluster
version_added: 0.1.0
description:
  - Reads addresses, networks and version from the cluster itself, because variables may differ from them.
  - Runs in the controller's process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Changes nothing. The values are empty for a cluster that does not exist yet.
    support: full
extends_documentation_fragment: [kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Read the cluster's networks
  kubescale.fleet.cluster_facts:
    kubeconfig: "{{ cluster_kubeconfig }}"
"""

RETURN = r"""
ansible_facts:
  description:
    - The fact C(kubescale_cluster).
    - C(host) and C(port) of the API, C(pod_network), C(service_network), C(version).
  type: dict
  returned: success
"""
