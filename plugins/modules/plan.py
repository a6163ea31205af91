# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: plan
short_description: Report what a playbook would change
version_added: 0.1.0
description:
  - Runs O(playbook) with C(--check) as a child of this run, with the inventory, limit, tags, extra variables and other
    options of its command line, and reports what the playbook would change on each cluster.
  - Clusters with the same changes share one table. If a component would create or delete many objects, the text shows
    their number and kinds only.
  - Changes nothing. Writing O(file) is not a change, because the file is a record of the run.
  - Shows the child's lines of progress, or all its output with C(--diff) or C(-v).
  - Runs on the controller, once for all hosts of the play (C(run_once)).
author: kubescale founders (@kubescale)
options:
  playbook:
    description: The playbook, by path or by its name in a collection.
    type: str
    default: kubescale.fleet.site
  skip_tags:
    description: Tags that the child skips, in addition to the tags that this run skips.
    type: list
    elements: str
    default: [verify]
  detailed_exit:
    description: Fail if a cluster would change, so that the run ends with status 2.
    type: bool
    default: false
extends_documentation_fragment: [kubescale.fleet.attributes, kubescale.fleet.document]
"""

EXAMPLES = r"""
- name: Report what site.yml would change
  kubescale.fleet.plan:
    output: json
  run_once: true
"""

RETURN = r"""
plan:
  description: The plan.
  returned: when the child finished
  type: dict
  contains:
    run: {description: Id of the run, type: str, returned: always}
    clusters:
      description:
        - The plan of each cluster by its name, with C(ring), C(environment), C(state) (one of C(nothing to do),
          C(changes) and C(failed)), C(would_be_made) (whether the cluster does not exist yet), C(restarts) (number of
          workloads whose pods would restart), C(message) (the first failure, or empty) and C(changes).
        - Each change has C(host), C(role), C(task), and for a set of objects C(set) and C(objects) as
          M(kubescale.fleet.apply_set) returns them, without unchanged objects.
      type: dict
      returned: always
"""
