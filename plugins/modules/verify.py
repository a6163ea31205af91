# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: verify
short_description: Check every link of a cluster's chain from node to autoscaler
version_added: 0.1.0
description:
  - Runs the checks of the cluster and the whole chain of every autoscaled app, all at once, over one pool of
    connections, and waits for those that do not hold yet. They are the checks of M(kubescale.fleet.doctor), without
    those of what an owner decides; the limits of an app, and requests of containers.
  - What the API serves is watched; Prometheus, the metrics adapter and Grafana are asked again every second.
  - A failing task lists every check that does not hold, with what was seen, why it matters and what to do next.
  - Changes nothing. The report it writes is a record of the run, not state of the cluster, and therefore is no change.
  - Checks of a component whose variable C(<role>_state) is V(absent) are left out. An app whose workload does not
    exist yet needs only its autoscaler.
  - Certificates must be valid for C(verify_certificate_days) more days (default 14).
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Looks once, does not wait, warns instead of failing (nothing was applied), and writes no report.
    support: full
options:
  apps:
    required: true
  timeout:
    description: Seconds that all checks together may wait.
    type: float
    default: 300
extends_documentation_fragment:
  [kubescale.fleet.apps, kubescale.fleet.apps.prometheus, kubescale.fleet.apps.report, kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Wait for at most a minute until the chain holds
  kubescale.fleet.verify:
    kubeconfig: "{{ cluster_kubeconfig }}"
    apps: "{{ query('kubescale.fleet.autoscaled_apps') }}"
    timeout: 60
"""

RETURN = r"""
checks:
  description: Every check that was run; those of the cluster first, then one for each app.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Name of the link, or C(app_) and the name of the app.
      type: str
    title:
      description: What is checked.
      type: str
    ok:
      description: Whether it holds.
      type: bool
    evidence:
      description: What was seen.
      type: str
    seconds:
      description: Seconds from the start of the task to the last look.
      type: float
report:
  description: Path of the page that was written.
  returned: when O(report) is given
  type: str
"""
