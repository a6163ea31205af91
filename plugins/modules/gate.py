# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: gate
short_description: Wait until a cluster is healthy, before a rollout continues with other clusters
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Waits until every object of every set is ready, every node is ready, every app has its metric for all pods and an
    autoscaler that can scale, and no new alert fires.
  - Before a run, O(state=before) records the firing alerts in a file. A gate that passes removes the record. A gate
    that does not pass keeps it, so that the next run does not accept the alerts of the failed change as old ones.
  - Without a record, every firing alert is new. Alerts of severity V(none) and V(info) never count. An alert on a pod
    equals the same alert on the pod that replaced it.
  - An app at its maximum is healthy. M(kubescale.fleet.doctor) reports what limits an app.
  - Changes nothing in the cluster. Writing the record is not a change.
  - Runs on the controller, in Ansible's own process.
attributes:
  check_mode:
    description: Does nothing.
    support: full
options:
  state:
    description:
      - V(before) records the firing alerts before a run. It does not fail if the cluster does not answer.
      - V(passed) waits, and fails with every check that does not hold.
    type: str
    choices: [before, passed]
    default: passed
  apps:
    default: []
  prometheus:
    description: Flavour of Prometheus. V(none) ignores alerts.
    type: str
    choices: [operator, standalone, none]
    default: operator
  state_dir:
    description: Folder on the controller for records of runs on this cluster. It is created if missing.
    type: path
    required: true
  timeout:
    description: Seconds within which the period O(soak) must begin.
    type: float
    default: 120
  soak:
    description:
      - Seconds for which all checks must hold without interruption. They are repeated every 3 seconds.
      - If the same run made the record and did not change the cluster, the first successful check is enough.
    type: float
    default: 60
  fresh:
    description: With O(state=before), replaces the record of a run whose gate did not pass.
    type: bool
    default: false
extends_documentation_fragment: [kubescale.fleet.apps, kubescale.fleet.cluster, kubescale.fleet.cluster.context]
"""

EXAMPLES = r"""
- name: Record the firing alerts
  kubescale.fleet.gate:
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
    state: before

- name: Wait until the cluster is healthy
  kubescale.fleet.gate:
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
    apps: "{{ query('kubescale.fleet.autoscaled_apps') }}"
    soak: 30
"""

RETURN = r"""
checks:
  description: The last result of each check.
  returned: with O(state=passed)
  type: list
  elements: dict
  contains:
    name:
      description: V(ready), V(nodes), V(apps) or V(alerts).
      type: str
    ok: {description: Whether it holds, type: bool}
    evidence: {description: What the check saw, type: str}
seconds:
  description: Seconds that the gate took.
  returned: with O(state=passed)
  type: float
  sample: 61.4
"""
