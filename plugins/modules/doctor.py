# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: doctor
short_description: Say where the chain from an app to its autoscaler breaks, and what to do
version_added: 0.1.0
description:
  - Walks the chain of every autoscaled app, from its workload over scrape, series, adapter and metrics API to the
    autoscaler and its limits, and names the first broken link, what was seen, what it means and what to do.
  - Examines the cluster, too; who serves the metrics APIs, when certificates end, whether clocks agree, and whether
    what is scaled on CPU or memory requests it.
  - Fails when something is not healthy, with the whole text; succeeds and shows a table otherwise.
  - Changes nothing. O(file) is a record of the run, not state of the cluster, and therefore is no change.
  - Whether an API is to be served by this collection is taken from the variables C(metrics_server_state),
    C(prometheus_adapter_state), C(resource_metrics_owner) and C(external_metrics_owner).
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reads only.
    support: full
options:
  apps:
    required: true
  app:
    description: Names of the apps to examine, with what was seen of each link; all apps, without that, when empty.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  [kubescale.fleet.apps, kubescale.fleet.apps.prometheus, kubescale.fleet.cluster, kubescale.fleet.document]
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
  description: Cause (or V(unknown)) of every app that is not healthy, by name; V(cluster) is the cluster itself.
  returned: always
  type: dict
  sample: {shop: port_name_unknown}
seconds:
  description: Seconds that the examination took.
  returned: always
  type: float
"""
