# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: scrape_jobs_loaded
short_description: Load new scrape jobs into a running Prometheus within seconds
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Prometheus reads its configuration from a mounted Secret or ConfigMap, which the kubelet refreshes up to 90 seconds
    after a change. The kubelet refreshes it immediately if the pod changes.
  - If a ready Prometheus lacks a job of O(definition), or has it with other fields, waits until the operator has
    written the jobs, changes an annotation of the pod, and waits until Prometheus has loaded the jobs.
  - Skips a Prometheus that is not ready yet. If it starts without the jobs, the task that waits for autoscalers loads
    them, M(kubescale.fleet.apply_set_ready) or M(kubescale.fleet.apply_set).
  - Runs in the controller's own process; nothing is sent to a machine.
options:
  definition:
    description:
      - Objects as in M(kubescale.fleet.apply_set). Only objects with scrape jobs are used, which are PodMonitors,
        ServiceMonitors, and the ConfigMap C(prometheus-apps) in the namespace C(prom).
    type: raw
    required: true
  wait_timeout:
    default: 120
extends_documentation_fragment:
  - kubescale.fleet.apps.prometheus
  - kubescale.fleet.attributes.changes
  - kubescale.fleet.cluster
  - kubescale.fleet.cluster.context
  - kubescale.fleet.cluster.wait
"""

EXAMPLES = r"""
- name: Load the scrape job of the app
  kubescale.fleet.scrape_jobs_loaded:
    kubeconfig: "{{ cluster_kubeconfig }}"
    definition:
      apiVersion: monitoring.coreos.com/v1
      kind: PodMonitor
      metadata: {name: shop, namespace: shop}
      spec:
        selector: {}
        podMetricsEndpoints:
          - {port: web, interval: 5s}
"""

RETURN = r"""
jobs:
  description: Names of the jobs in the definition.
  returned: always
  type: list
  elements: str
pods:
  description: Names of the pods of Prometheus that lacked jobs and were changed, or would be in check mode.
  returned: always
  type: list
  elements: str
seconds:
  description: Seconds that the task took.
  returned: always
  type: float
"""
