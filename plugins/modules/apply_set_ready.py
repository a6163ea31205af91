# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: apply_set_ready
short_description: Wait until every object of sets made by apply_set is ready
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Waits, by watching, for several sets at once, so that components can start beside each other
    after M(kubescale.fleet.apply_set) with O(kubescale.fleet.apply_set#module:wait=false).
  - While an autoscaler is not ready, each Prometheus of the role prometheus that becomes ready loads the scrape jobs
    that the sets ask for, as M(kubescale.fleet.scrape_jobs_loaded) does. The annotation of its pod that this needs does
    not count as a change.
  - On time-out, or when something failed for good, says for each broken object why - its conditions and events, its
    broken pods with their events, containers and last log lines (of the run before, too), and what is wrong with the
    volume claims and nodes that these need. An object gets 40 lines at most.
  - Runs in the controller's own process; nothing is sent to a machine.
attributes:
  check_mode:
    support: full
    description: Waits for nothing.
options:
  names:
    description:
      - Names of the sets. By default those that M(kubescale.fleet.apply_set) applied to the cluster in this run; if it
        ran for none, all sets in O(parent_namespace).
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
  description: Number of objects that were looked at. Kinds that are ready as soon as they are stored are left out.
  returned: when not in check mode
  type: int
seconds:
  description: Seconds that the task took.
  returned: when not in check mode
  type: float
"""
