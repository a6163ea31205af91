# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: lease
short_description: Lock a cluster for this run, and verify that it is the right cluster
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Takes the Lease C(kubescale-fleet) in C(kube-system) for this run. Fails with the holder's name while another run
    holds the Lease. The Lease is free if its run has ended on this machine, or did not renew it for a minute.
  - The Lease records the name of the cluster in the inventory. Fails if the kubeconfig leads to a cluster with another
    name, such as after two kubeconfigs were swapped.
  - The callback P(kubescale.fleet.leases#callback) renews the Lease during the run, and ends it with the run. If
    C(callbacks_enabled) lacks the callback, the Lease expires after an hour.
options:
  cluster:
    description:
      - Name of the cluster in the inventory.
    type: str
    required: true
  renamed_from:
    description:
      - Earlier name of the cluster, which is accepted too.
    type: str
    default: ''
  required:
    description:
      - With V(false), ignores a cluster that has no kubeconfig yet or does not answer, because the run will create or
        repair it.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Verifies the name, and does not take the Lease.
  diff_mode:
    support: none
    description: The Lease belongs to the run, not to the configuration of the cluster.
extends_documentation_fragment: [kubescale.fleet.cluster, kubescale.fleet.cluster.context]
"""

EXAMPLES = r"""
- name: Take the lease of the cluster
  kubescale.fleet.lease:
    cluster: "{{ cluster_name }}"
    kubeconfig: "{{ cluster_kubeconfig }}"
"""

RETURN = r"""
lease:
  description: What the callback needs to renew the Lease.
  returned: when the Lease was taken
  type: dict
  sample: {cluster: berlin, kubeconfig: .state/berlin/kubeconfig, context: null, ahead: 0.2}
"""
