# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: rollout
short_description: Run a playbook on one cluster after the other, ring by ring, until one does not pass
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Runs a playbook on each cluster of the play, as a process of its own, so that a cluster that is slow or dead holds
    up no other. Rings come in the order of their numbers (C(cluster_ring)); a ring begins when every cluster of
    the one before has passed.
  - C(rollout_parallel) clusters of a ring are worked on at a time (default 5). When more than C(rollout_max_failures)
    (default 0) of it have failed, no other cluster is begun, and what runs is waited for.
  - With C(rollout_on_failure=rollback) a cluster that failed is rolled back, clusters that passed stay as they are.
  - A cluster that takes longer than C(rollout_timeout) seconds (default 3600) is interrupted and has failed.
  - Keeps what is known in C(fleet.d/rollout.json) of the state directory. The same command goes on where the last one
    was halted, interrupted or killed; with another inventory, other variables or another version it begins anew.
  - Children get the inventory, extra variables, vault options, tags and options of connections of this run. None of
    them outlives it.
  - Run it with C(run_once) on the group C(clusters).
attributes:
  check_mode:
    description: Says the order and begins nothing.
    support: full
options:
  playbook:
    description: What is run on each cluster; a file, or the name of a playbook of a collection.
    type: str
    default: kubescale.fleet.rollout_cluster
  rollback_playbook:
    description: What is run on a cluster that failed, with the extra variable C(run).
    type: str
    default: kubescale.fleet.rollback
  restart:
    description: Begin with the first ring, even if the last rollout could go on.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Roll out
  hosts: clusters
  gather_facts: false
  tasks:
    - name: Work on all clusters, ring after ring
      kubescale.fleet.rollout:
      run_once: true
"""

RETURN = r"""
rollout:
  description: What is known of the rollout.
  returned: when it was begun
  type: dict
  contains:
    id:
      description: Name of the rollout, which revisions and leases of its clusters carry.
      type: str
    result:
      description: V(done), V(halted) or V(interrupted). One that is done may have failures that were allowed.
      type: str
    clusters:
      description:
        - By name, C(ring), C(state) (V(waiting), V(passed), V(failed), V(rolled back) or V(interrupted)), and of those
          that were begun C(started), C(ended), C(seconds), C(changed) (number of tasks) and C(reason).
      type: dict
run_record:
  description: File with what was done on all clusters, for the callback C(phases).
  returned: when it was begun
  type: str
"""
