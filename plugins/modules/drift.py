# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: drift
short_description: Report objects that differ from their applied revision, and who changed them
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Compares the objects of sets of M(kubescale.fleet.apply_set) with the revisions that the cluster keeps of them.
  - Reports objects with fields that a run would change back, and the owners of these fields; missing objects; and
    objects with a set's label that are in no revision.
  - A field that no revision sets is not drift, such as the number of replicas that an autoscaler sets.
  - Fails if an object differs, or if no revision is stored.
  - Compares fingerprints, and uses the server's dry run where a fingerprint differs. Changes nothing. Writing O(file)
    is not a change, because the file is a record of the run.
  - Runs on the controller, in Ansible's own process.
extends_documentation_fragment:
  [kubescale.fleet.attributes, kubescale.fleet.cluster, kubescale.fleet.cluster.components,
   kubescale.fleet.cluster.context, kubescale.fleet.cluster.sets, kubescale.fleet.document]
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
    revision: {description: Number of the compared revision, type: int, returned: always}
    note: {description: Why the set could not be compared; empty if it was, type: str, returned: always}
    objects:
      description: Objects that differ.
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
  description: Objects with the label of a set that does not exist any more.
  returned: always
  type: list
  elements: dict
seconds:
  description: Seconds that the comparison took.
  returned: always
  type: float
"""
