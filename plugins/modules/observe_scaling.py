# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: observe_scaling
short_description: Watch an autoscaler react to a load
version_added: 0.1.0
description:
  - Samples every second what a HorizontalPodAutoscaler sees and does, from before a load's start until scale-in begins.
  - Ends the load, by deleting its Job, once the replicas that it demands have been ready for O(hold) seconds.
  - Fails, saying at which step and why, when the number of replicas that the load demands is not reached, or when
    nothing scales in afterwards.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Does nothing, because there is no load.
    support: full
options:
  namespace:
    description: Namespace of the autoscaler, its pods and the load's Job.
    type: str
    required: true
  autoscaler:
    description: Name of the HorizontalPodAutoscaler; its first metric of type Pods is watched.
    type: str
    required: true
  until:
    description:
      - V(rest) waits until the app is at its minimum of replicas and the metric under its target, so that a load
        meets it cold.
      - V(scaled_in) observes a load until its end and the first scale-in.
    type: str
    choices: [rest, scaled_in]
    required: true
  timeout:
    description: Seconds to wait for rest, or from the load's end to the first scale-in.
    type: float
    default: 300
  job:
    description: Name of the load's Job. Its pod sends requests while its first init container runs.
    type: str
    default: ""
  rate:
    description: Offered load, in requests per second.
    type: float
    default: 0
  weight:
    description:
      - What one request per second adds to the metric that the app scales on.
      - Events per second for metrics of pods, millicores for CPU, MiB for memory.
    type: float
    default: 1.0
  duration:
    description: Seconds after which the load ends by itself.
    type: float
    default: 0
  hold:
    description: Seconds that the demanded replicas must have been ready before the load is ended early.
    type: float
    default: 0
  series:
    description: Series selector of the app's own counter of requests, to show what arrived of the load.
    type: str
    default: ""
extends_documentation_fragment: [kubescale.fleet.apps.prometheus, kubescale.fleet.apps.report, kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Watch the demo app scale
  kubescale.fleet.observe_scaling:
    kubeconfig: "{{ cluster_kubeconfig }}"
    namespace: demo
    autoscaler: demo-app
    job: load
    rate: 5
    duration: 180
    hold: 20
    until: scaled_in
"""

RETURN = r"""
steps:
  description: When each step of the reaction was seen, in seconds since load start; null when it was not.
  returned: when O(until=scaled_in)
  type: dict
demanded:
  description: Replicas that the load demands.
  returned: when O(until=scaled_in)
  type: int
report:
  description: Path of the page that was written.
  returned: when O(report) is given
  type: str
"""
