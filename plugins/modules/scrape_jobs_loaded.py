# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: scrape_jobs_loaded
short_description: Bring new scrape jobs into a running Prometheus within seconds
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Prometheus reads its configuration from a mounted Secret or ConfigMap, and the kubelet brings a change of it up to
    90 seconds later. A pod that changes is looked at at once.
  - When a ready Prometheus lacks a job that O(definition) asks for, or has it otherwise, this waits until the operator
    has written the jobs, changes an annotation of the pod, and waits until Prometheus has loaded them.
  - A Prometheus that is not ready yet is left alone. If it starts without the jobs, the task that waits for autoscalers
    loads them, M(kubescale.fleet.apply_set_ready) or M(kubescale.fleet.apply_set).
  - Runs in the controller's own process; nothing is sent to a machine.
attributes:
  check_mode:
    support: full
    description: Says which pods would be changed.
options:
  definition:
    description:
      - Objects as in M(kubescale.fleet.apply_set). Those that say how something is scraped count, which are
        PodMonitors and ServiceMonitors, and the ConfigMap C(prometheus-apps) of the namespace C(prom).
    type: raw
    required: true
  wait_timeout:
    default: 120
extends_documentation_fragment:
  [kubescale.fleet.apps.prometheus, kubescale.fleet.cluster, kubescale.fleet.cluster.context,
   kubescale.fleet.cluster.wait]
"""

EXAMPLES = r"""
- name: Have the app scraped at once
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
  description: Names of the jobs that the definition asks for.
  returned: always
  type: list
  elements: str
pods:
  description: Names of the pods of Prometheus that lacked jobs, whose annotation was changed, or would be.
  returned: always
  type: list
  elements: str
seconds:
  description: Seconds that the task took.
  returned: always
  type: float
"""
