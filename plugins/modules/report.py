# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: report
short_description: Draw the panels of the dashboards into a cluster's report
version_added: 0.1.0
description:
  - Asks Prometheus every query of every panel of the Grafana dashboards, through the proxy of the API server, and puts
    what it answers into C(report.html) as drawings. Grafana is not needed for it.
  - Changes nothing. The report is a record, not state of the cluster, and therefore writing it is no change.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Does nothing.
    support: full
options:
  report:
    required: true
  minutes:
    description: How far back the drawings go, 1 to 90 minutes.
    type: int
    default: 15
extends_documentation_fragment: [kubescale.fleet.apps.prometheus, kubescale.fleet.apps.report, kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Draw what the dashboards show
  kubescale.fleet.report:
    kubeconfig: "{{ cluster_kubeconfig }}"
    report: "{{ cluster_state_dir }}"
    minutes: 30
"""

RETURN = r"""
report:
  description: Path of the page that was written.
  returned: success
  type: str
queries:
  description: Number of queries that were asked.
  returned: success
  type: int
seconds:
  description: Seconds that it took to ask them.
  returned: success
  type: float
"""
