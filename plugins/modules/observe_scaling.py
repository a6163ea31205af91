# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: observe_scaling
short_description: Measure how an autoscaler reacts to a load
version_added: 0.1.0
description:
  - Samples the metric and replicas of a HorizontalPodAutoscaler every second, from before a load until scale-in begins.
  - Ends the load, by deleting its Job, after the demanded replicas have been ready for O(hold) seconds.
  - Fails if the app does not reach the demanded replicas, or does not scale in afterwards. The message names the step
    and the cause.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Does nothing, because check mode starts no load.
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
      - V(rest) waits until the app has its minimum of replicas and the metric is below its target, so that a load
        starts on an idle app.
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
      - Increase of the metric of the autoscaler for one request per second.
      - Events per second for metrics of pods, millicores for CPU, MiB for memory.
    type: float
    default: 1.0
  duration:
    description: Seconds after which the load ends by itself.
    type: float
    default: 0
  hold:
    description: Seconds for which the demanded replicas must be ready before the load ends early.
    type: float
    default: 0
  series:
    description: Series selector of the app's own counter of requests, to show the received load.
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
  description: Time of each step of the reaction, in seconds since the start of the load, or null.
  returned: when O(until=scaled_in)
  type: dict
demanded:
  description: Number of replicas that the load demands.
  returned: when O(until=scaled_in)
  type: int
report:
  description: Path of the page that was written.
  returned: when O(report) is given
  type: str
"""
