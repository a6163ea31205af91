# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: revisions
short_description: Show the revisions of a cluster's components, with user and time of each change
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Shows the revisions that M(kubescale.fleet.apply_set) keeps in the cluster, as a table or as JSON.
  - M(kubescale.fleet.rollback) goes back to one of them.
  - Runs on the controller, in Ansible's own process.
extends_documentation_fragment:
  [kubescale.fleet.attributes, kubescale.fleet.cluster, kubescale.fleet.cluster.components,
   kubescale.fleet.cluster.context, kubescale.fleet.cluster.sets, kubescale.fleet.document]
"""

EXAMPLES = r"""
- name: Show the revisions of the adapter
  kubescale.fleet.revisions:
    kubeconfig: "{{ cluster_kubeconfig }}"
    component: [prometheus_adapter]
"""

RETURN = r"""
revisions:
  description: All revisions, oldest first within a component.
  returned: always
  type: list
  elements: dict
  contains:
    component: {description: Name of the set, type: str, returned: always}
    revision: {description: Number, type: int, returned: always}
    state: {description: "V(applied), or V(pending) if a run was interrupted", type: str, returned: always}
    run: {description: Run that wrote the revision, type: str, returned: always}
    who: {description: User and machine of the run, type: str, returned: always}
    when: {description: RFC 3339, type: str, returned: always}
    version: {description: Version of the collection, type: str, returned: always}
    summary: {description: Names of the changed objects, type: str, returned: always}
    current: {description: Whether it is the current revision, type: bool, returned: always}
"""
