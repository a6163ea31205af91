# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: doctor
short_description: Report where the chain from an app to its autoscaler breaks, and the remedy
version_added: 0.1.0
description:
  - Checks the chain of every autoscaled app, from its workload over scrape, series, adapter and metrics API to the
    autoscaler and its limits. Reports the first broken link, the evidence, its meaning and the remedy.
  - Also checks the cluster, such as the servers of the metrics APIs, the expiry of certificates, the clocks, and the
    requests of workloads that scale on CPU or memory.
  - Fails with the whole report if the cluster or an app is not healthy. Otherwise succeeds and shows a table.
  - Changes nothing. Writing O(file) is not a change, because the file is a record of the run.
  - The variables C(metrics_server_state), C(prometheus_adapter_state), C(resource_metrics_owner) and
    C(external_metrics_owner) decide whether this collection must serve an API.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
options:
  apps:
    required: true
  app:
    description: Names of the apps to check, with the evidence of each link. If empty, all apps without that evidence.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubescale.fleet.apps
  - kubescale.fleet.apps.prometheus
  - kubescale.fleet.attributes
  - kubescale.fleet.cluster
  - kubescale.fleet.document
"""

EXAMPLES = r"""
- name: Examine the chain of one app
  kubescale.fleet.doctor:
    kubeconfig: "{{ cluster_kubeconfig }}"
    apps: "{{ query('kubescale.fleet.autoscaled_apps') }}"
    app: [shop]
"""

RETURN = r"""
ill:
  description: Cause (or V(unknown)) for each app that is not healthy, by name. V(cluster) is the cluster itself.
  returned: always
  type: dict
  sample: {shop: port_name_unknown}
seconds:
  description: Seconds that the examination took.
  returned: always
  type: float
"""
