# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: apply_set_ready
short_description: Wait until every object of sets made by apply_set is ready
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Watches the objects of several sets together, so that components start in parallel after
    M(kubescale.fleet.apply_set) with O(kubescale.fleet.apply_set#module:wait=false).
  - While an autoscaler is not ready, each Prometheus of the role prometheus that becomes ready loads the scrape jobs
    of the sets, as M(kubescale.fleet.scrape_jobs_loaded) does. This changes an annotation of its pod, which the task
    does not report as a change.
  - If an object fails or the wait times out, the error explains each broken object with its conditions and events, its
    broken pods with their events, containers and last log lines (of the previous run, too), and the problems of the
    volume claims and nodes that the pods need, in at most 40 lines for each object.
  - Runs in the controller's own process; nothing is sent to a machine.
attributes:
  check_mode:
    support: full
    description: Does not wait.
options:
  names:
    description:
      - Names of the sets. Defaults to the sets that M(kubescale.fleet.apply_set) applied to the cluster in this run, or
        else to all sets in O(parent_namespace).
    type: list
    elements: str
extends_documentation_fragment:
  [kubescale.fleet.cluster, kubescale.fleet.cluster.context, kubescale.fleet.cluster.sets, kubescale.fleet.cluster.wait]
"""

EXAMPLES = r"""
- name: Wait for all components
  kubescale.fleet.apply_set_ready:
    kubeconfig: "{{ cluster_kubeconfig }}"
"""

RETURN = r"""
members:
  description: Number of objects that were checked. Kinds that are ready as soon as they are stored do not count.
  returned: when not in check mode
  type: int
seconds:
  description: Seconds that the task took.
  returned: when not in check mode
  type: float
"""
