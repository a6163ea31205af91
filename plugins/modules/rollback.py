# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: rollback
short_description: Bring components of a cluster back to earlier revisions
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Applies an earlier revision of a set of M(kubescale.fleet.apply_set) from the cluster, and waits until the set is
    ready. This adds a new revision, and deletes none.
  - Without O(revision), a set returns to its newest applied revision before the current content. Later revisions with
    the same content count as one, so two rollbacks in a row never return to the content that the first one replaced.
  - Without O(component), all sets that the most recent run changed return, each to its newest revision of another run,
    in the order in which the run applied them.
  - A set without an older revision is not changed, with a warning. A set that the run created is not deleted; remove it
    with C(<role>_state=absent). A removed set has no revisions any more.
  - Runs in the controller's own process; nothing is sent to a machine.
options:
  component:
    description:
      - Name of the set, as M(kubescale.fleet.revisions) shows it. V(_) is the same as V(-).
    type: str
    default: ''
  revision:
    description:
      - Number of the revision of O(component) to apply.
    type: int
  run:
    description:
      - Run to undo. Defaults to the most recent run. Sets that another run changed since are not changed.
    type: str
    default: ''
  force_conflicts:
    description:
      - Take over fields that another field manager owns, instead of failing with their names.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Uses the server's dry run.
extends_documentation_fragment:
  [kubescale.fleet.attributes.objects, kubescale.fleet.cluster, kubescale.fleet.cluster.context,
   kubescale.fleet.cluster.sets, kubescale.fleet.cluster.wait]
"""

EXAMPLES = r"""
- name: Undo the changes of the last run
  kubescale.fleet.rollback:
    kubeconfig: "{{ cluster_kubeconfig }}"

- name: Apply the third revision of the adapter
  kubescale.fleet.rollback:
    kubeconfig: "{{ cluster_kubeconfig }}"
    component: prometheus_adapter
    revision: 3
"""

RETURN = r"""
sets:
  description: The sets that were rolled back, in order.
  returned: always
  type: list
  elements: dict
  contains:
    component: {description: Name of the set, type: str, returned: always}
    from: {description: Number of the revision before, type: int, returned: always}
    to: {description: Number of the revision that was applied again, type: int, returned: always}
    revision: {description: Number of the new revision; null in check mode, type: int, returned: always}
    changed: {description: Whether an object of the set changed, type: bool, returned: always}
    objects:
      description: The action on each object, as M(kubescale.fleet.apply_set) returns it.
      type: list
      elements: dict
      returned: always
left:
  description: Sets of the run that were not rolled back, with the reason.
  returned: always
  type: list
  elements: str
seconds:
  description: Seconds that the task took, waiting included.
  returned: always
  type: float
"""
