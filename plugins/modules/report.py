# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: report
short_description: Draw the panels of the dashboards into a cluster's report
version_added: 0.1.0
description:
  - Runs the queries of all panels of the Grafana dashboards on Prometheus, through the proxy of the API server, and
    draws the results into C(report.html). This does not need Grafana.
  - Changes nothing. Writing the report is not a change, because the report is a record of the run.
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
    description: Range of the drawings until now, 1 to 90 minutes.
    type: int
    default: 15
extends_documentation_fragment: [kubescale.fleet.apps.prometheus, kubescale.fleet.apps.report, kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Draw the dashboards
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
  description: Number of queries.
  returned: success
  type: int
seconds:
  description: Seconds that the queries took.
  returned: success
  type: float
"""
