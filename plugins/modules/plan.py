# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# The action plugin of the same name does the work; this file is its documentation.
DOCUMENTATION = r"""
module: plan
short_description: Tell what the plays before would change
version_added: 0.1.0
description:
  - Reads what the plays before it in the same run have found in check mode, from the record that the callback
    P(kubescale.fleet.phases#callback) keeps of them, and tells it; C(playbooks/plan.yml) runs it after those of
    C(site.yml).
  - The first host of the play shows the plan for all clusters. Clusters that would change alike are told together; of a
    component that would make or remove many objects, the text has their number and kinds.
  - Changes nothing. O(file) is a record of the run, not state of the cluster, and therefore is no change.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reads only.
    support: full
options:
  detailed_exit:
    description: Fail for clusters that would change, so that the run ends with status 2.
    type: bool
    default: false
extends_documentation_fragment:
  - kubescale.fleet.document
"""

EXAMPLES = r"""
- name: Tell what would change
  kubescale.fleet.plan:
    output: json
"""

RETURN = r"""
plan:
  description: The plan for the host's cluster.
  returned: unless it fails because of O(detailed_exit)
  type: dict
  contains:
    ring: {description: The cluster's ring, type: int, returned: always}
    environment: {description: Its environment, type: str, returned: always}
    state: {description: "One of: nothing to do, changes, failed", type: str, returned: always}
    would_be_made: {description: Whether the cluster is not there yet, type: bool, returned: always}
    restarts: {description: Number of workloads whose pods would restart, type: int, returned: always}
    changes:
      description:
        - Tasks that would change something, each with C(host), C(role), C(task), and for a set of objects C(set) and
          C(objects) as M(kubescale.fleet.apply_set) returns them, without those that stay.
      type: list
      elements: dict
      returned: always
    message: {description: The first failure; empty if there was none, type: str, returned: always}
"""
