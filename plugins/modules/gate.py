# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: gate
short_description: Wait until a cluster is well enough for the next ones to be worked on
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Waits until all of these hold, measured anew each time - every object of every set is ready, every node is ready,
    every app has its metric for all pods and an autoscaler that can scale, and no alert fires that did not before.
  - Before a run, O(state=before) notes which alerts fire. A gate that does not pass leaves that note, so that the
    alerts of a failed change are not taken for old ones by the next run; one that passes removes it.
  - Without such a note every alert that fires is a new one. Alerts of severity V(none) and V(info) never count, and
    an alert on a pod is the same as that on the pod which replaced it.
  - An app at its maximum is well. What limits an app is told by M(kubescale.fleet.doctor).
  - Changes nothing in the cluster. The note is a record of the run, not state of the cluster, and so is no change.
  - Runs on the controller, in Ansible's own process.
attributes:
  check_mode:
    description: Does nothing.
    support: full
options:
  state:
    description:
      - V(before) notes what is so before a run; it does not fail when the cluster does not answer.
      - V(passed) waits, and fails with every check that does not hold.
    type: str
    choices: [before, passed]
    default: passed
  apps:
    default: []
  prometheus:
    description: How Prometheus is run; V(none) looks at no alerts.
    type: str
    choices: [operator, standalone, none]
    default: operator
  state_dir:
    description: Folder on the controller with what runs leave of this cluster; it is made if it does not exist.
    type: path
    required: true
  timeout:
    description: Seconds within which the time must begin from which on all holds.
    type: float
    default: 120
  soak:
    description:
      - Seconds for which all must hold on end, looked at every 3 seconds.
      - A cluster that the same run has noted before and is known not to have changed passes at the first look.
    type: float
    default: 60
  fresh:
    description: With O(state=before), notes what is so now even if there is a note of a run whose gate did not pass.
    type: bool
    default: false
extends_documentation_fragment: [kubescale.fleet.apps, kubescale.fleet.cluster, kubescale.fleet.cluster.context]
"""

EXAMPLES = r"""
- name: Note which alerts fire
  kubescale.fleet.gate:
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
    state: before

- name: Wait until the cluster is well
  kubescale.fleet.gate:
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
    apps: "{{ query('kubescale.fleet.autoscaled_apps') }}"
    soak: 30
"""

RETURN = r"""
checks:
  description: What was seen last of each thing that was looked at.
  returned: with O(state=passed)
  type: list
  elements: dict
  contains:
    name:
      description: V(ready), V(nodes), V(apps) or V(alerts).
      type: str
    ok:
      description: Whether it holds.
      type: bool
    evidence:
      description: What was seen.
      type: str
seconds:
  description: Seconds that the gate took.
  returned: with O(state=passed)
  type: float
  sample: 61.4
"""
