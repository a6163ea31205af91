# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: drift
short_description: Say what in a cluster is not as it was applied, and who changed it
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Compares the objects of sets of M(kubescale.fleet.apply_set) with the revisions that the cluster keeps of them.
  - Names objects with fields that a run would change back, and who owns these fields now; objects that are missing; and
    objects that carry a set's label and are in no revision.
  - A field that no revision names is nobody's drift, as an autoscaler's number of replicas.
  - Fails when something is not in sync, or cannot be compared because no revision is stored.
  - Reads, and tries with the server's dry run what a fingerprint does not settle. Changes nothing. O(file) is a record
    of the run, not state of the cluster, and therefore is no change.
  - Runs on the controller, in Ansible's own process.
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
extends_documentation_fragment:
  [kubescale.fleet.cluster, kubescale.fleet.cluster.components, kubescale.fleet.cluster.context,
   kubescale.fleet.cluster.sets, kubescale.fleet.document]
"""

EXAMPLES = r"""
- name: Compare all components
  kubescale.fleet.drift:
    kubeconfig: "{{ cluster_kubeconfig }}"
"""

RETURN = r"""
components:
  description: All sets that were compared.
  returned: always
  type: list
  elements: dict
  contains:
    component: {description: Name of the set, type: str, returned: always}
    state: {description: "One of C(in sync), C(drifted) and C(not known)", type: str, returned: always}
    revision: {description: Number of the revision it was compared with, type: int, returned: always}
    note: {description: Why it could not be compared; empty if it was, type: str, returned: always}
    objects:
      description: What is not as it should be.
      returned: always
      type: list
      elements: dict
      sample:
        - apiVersion: apps/v1
          kind: Deployment
          namespace: kube-system
          name: metrics-server
          state: drifted
          fields:
            - {path: 'spec.template.spec.containers[name=metrics-server].image', manager: kubectl-edit}
          note: ''
strays:
  description: Objects that carry the label of a set that is not there any more.
  returned: always
  type: list
  elements: dict
seconds:
  description: Seconds that the comparison took.
  returned: always
  type: float
"""
