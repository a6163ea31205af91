# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: revisions
short_description: Show what a cluster's components were before, who changed them and when
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Shows the revisions that M(kubescale.fleet.apply_set) keeps in the cluster, as a table or as JSON.
  - M(kubescale.fleet.rollback) goes back to one of them.
  - Runs on the controller, in Ansible's own process.
attributes:
  check_mode:
    description: Reads only.
    support: full
extends_documentation_fragment:
  [kubescale.fleet.cluster, kubescale.fleet.cluster.components, kubescale.fleet.cluster.context,
   kubescale.fleet.cluster.sets, kubescale.fleet.document]
"""

EXAMPLES = r"""
- name: Show what the adapter was before
  kubescale.fleet.revisions:
    kubeconfig: "{{ cluster_kubeconfig }}"
    component: [prometheus_adapter]
"""

RETURN = r"""
revisions:
  description: All of them, oldest first within a component.
  returned: always
  type: list
  elements: dict
  contains:
    component: {description: Name of the set, type: str, returned: always}
    revision: {description: Number, type: int, returned: always}
    state: {description: "V(applied), or V(pending) if a run was interrupted", type: str, returned: always}
    run: {description: Run that wrote it, type: str, returned: always}
    who: {description: User and machine that run was started on, type: str, returned: always}
    when: {description: RFC 3339, type: str, returned: always}
    version: {description: Version of the collection, type: str, returned: always}
    summary: {description: "What changed, as names of objects", type: str, returned: always}
    current: {description: Whether the set has it now, type: bool, returned: always}
"""
