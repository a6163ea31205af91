# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: lease
short_description: Be the only run that works on a cluster, and be sure that it is the right cluster
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Takes the Lease C(kubescale-fleet) in C(kube-system) for this run. Fails, with the holder's name, while another run
    has it. A Lease whose run ended on this machine, or was not renewed for a minute, is free.
  - The Lease notes the name that the cluster has in the inventory. Fails if the kubeconfig leads to a cluster with
    another name, as it does when two kubeconfigs were swapped.
  - The callback P(kubescale.fleet.leases#callback) renews the Lease while the run goes on, and ends it with the run.
    Where C(callbacks_enabled) lacks it, the Lease holds for an hour.
options:
  cluster:
    description:
      - Name of the cluster in the inventory.
    type: str
    required: true
  renamed_from:
    description:
      - Name that the cluster may have had until now.
    type: str
    default: ''
  required:
    description:
      - With V(false), a cluster that has no kubeconfig yet or does not answer is left alone, because the run is about
        to make or mend it.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: The name is checked, the Lease is not taken.
  diff_mode:
    support: none
    description: The Lease is a matter of the run, not of the cluster.
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
