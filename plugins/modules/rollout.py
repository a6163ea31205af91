# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: rollout
short_description: Run a playbook on one cluster after the other, ring by ring, until a cluster fails
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Runs a playbook on each cluster of the play in a separate process, so that a slow or dead cluster does not delay
    others. Rings follow the order of their numbers (C(cluster_ring)). A ring begins after every cluster of the previous
    ring has passed.
  - Runs C(rollout_parallel) clusters of a ring at a time (default 5). If more than C(rollout_max_failures) (default 0)
    clusters of a ring fail, starts no other cluster, and waits for the running ones.
  - With C(rollout_on_failure=rollback), rolls back a cluster that failed. Clusters that passed are not rolled back.
  - Interrupts a cluster after C(rollout_timeout) seconds (default 3600). The cluster has failed then.
  - Keeps its state in C(fleet.d/rollout.json) of the state directory. The same command continues a rollout that was
    halted, interrupted or killed. With another inventory, other variables or another version, it starts over.
  - Children get the inventory, extra variables, vault options, tags and connection options of this run. No child
    outlives this run.
  - Use it with C(run_once) on the group C(clusters).
attributes:
  check_mode:
    description: Reports the order and starts no child.
    support: full
options:
  playbook:
    description: Playbook for each cluster, by path or by its name in a collection.
    type: str
    default: kubescale.fleet.rollout_cluster
  rollback_playbook:
    description: Playbook for a cluster that failed. It gets the extra variable C(run).
    type: str
    default: kubescale.fleet.rollback
  restart:
    description: Start with the first ring, even if the last rollout could be continued.
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
  description: State of the rollout.
  returned: when the rollout started
  type: dict
  contains:
    id:
      description: Id of the rollout, which revisions and leases of its clusters contain.
      type: str
    result:
      description: V(done), V(halted) or V(interrupted). V(done) may include allowed failures.
      type: str
    clusters:
      description:
        - By name, C(ring), C(state) (V(waiting), V(passed), V(failed), V(rolled back) or V(interrupted)), and for
          started clusters C(started), C(ended), C(seconds), C(changed) (number of tasks) and C(reason).
      type: dict
run_record:
  description: File with the results of all clusters, for the callback C(phases).
  returned: when the rollout started
  type: str
"""
