# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: verify
short_description: Check every link of a cluster's chain from node to autoscaler
version_added: 0.1.0
description:
  - Runs the checks of the cluster and of every autoscaled app in parallel, and waits for checks that do not hold yet.
    They are the checks of M(kubescale.fleet.doctor), except for those that depend on the owner's decisions, which are
    the limits of an app and the requests of containers.
  - Watches objects of the API. Queries Prometheus, the metrics adapter and Grafana every second.
  - A failing task lists every check that does not hold, with the evidence, the reason and the remedy.
  - Changes nothing. Writing the report is not a change, because the report is a record of the run.
  - Skips the checks of a component whose variable C(<role>_state) is V(absent). An app whose workload does not exist
    yet needs only its autoscaler.
  - Certificates must be valid for C(verify_certificate_days) more days (default 14).
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Checks once, warns instead of failing (nothing was applied), and writes no report.
    support: full
options:
  apps:
    required: true
  timeout:
    description: Timeout of all checks together, in seconds.
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
  description: All checks, first the checks of the cluster, then one check for each app.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Name of the link, or C(app_) and the name of the app.
      type: str
    title:
      description: Title of the check.
      type: str
    ok:
      description: Whether it holds.
      type: bool
    evidence:
      description: Evidence of the check.
      type: str
    seconds:
      description: Seconds from the start of the task to the last result.
      type: float
report:
  description: Path of the page that was written.
  returned: when O(report) is given
  type: str
"""
