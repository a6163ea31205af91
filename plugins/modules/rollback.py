# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: rollback
short_description: Bring components of a cluster back to earlier revisions
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Applies what a set of M(kubescale.fleet.apply_set) was earlier, from the revision that is kept in the cluster, and
    waits until it is ready. That makes a new revision; none is lost.
  - Without O(revision), a set goes back to its newest applied revision that is older than what it is now. What it is
    now began with the oldest revision of the same content, so going back twice in a row never returns to what was left.
  - Without O(component), all sets whose present revision is of the most recent run go back, each to its newest revision
    of another run, in the order in which the run applied them.
  - A set that has nothing older is left as it is, with a warning. So is one that did not exist before; remove it with
    C(<role>_state=absent). A set that was removed has no revisions any more.
  - Runs in the controller's own process; nothing is sent to a machine.
options:
  component:
    description:
      - Name of the one set that goes back, as M(kubescale.fleet.revisions) shows it; V(_) is the same as V(-).
    type: str
    default: ''
  revision:
    description:
      - Number of the revision that O(component) goes back to.
    type: int
  run:
    description:
      - Run to undo; the most recent one by default. What another run has changed since is left as it is.
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
    description: The server's own dry run.
  diff_mode:
    support: full
    description: Before and after of every object that changes; values of Secrets are redacted.
extends_documentation_fragment:
  [kubescale.fleet.cluster, kubescale.fleet.cluster.context, kubescale.fleet.cluster.sets, kubescale.fleet.cluster.wait]
"""

EXAMPLES = r"""
- name: Undo what the last run changed
  kubescale.fleet.rollback:
    kubeconfig: "{{ cluster_kubeconfig }}"

- name: Bring the adapter back to its third revision
  kubescale.fleet.rollback:
    kubeconfig: "{{ cluster_kubeconfig }}"
    component: prometheus_adapter
    revision: 3
"""

RETURN = r"""
sets:
  description: The sets that went back, in order.
  returned: always
  type: list
  elements: dict
  contains:
    component: {description: Name of the set, type: str, returned: always}
    from: {description: Number of the revision it had, type: int, returned: always}
    to: {description: Number of the revision whose content it has now, type: int, returned: always}
    revision: {description: Number of its revision now; none in check mode, type: int, returned: always}
    changed: {description: Whether any object of it differs from before, type: bool, returned: always}
    objects:
      description: What was done with each object, as M(kubescale.fleet.apply_set) tells it.
      type: list
      elements: dict
      returned: always
left:
  description: Sets that were concerned and left as they are, and why.
  returned: always
  type: list
  elements: str
seconds:
  description: Seconds that the task took, waiting included.
  returned: always
  type: float
"""
