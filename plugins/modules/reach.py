# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: reach
short_description: Prove that a machine, or the API of an existing cluster, can be worked on
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - On a machine, opens one connection and runs one small program there. The machine must answer, allow root, have the
    Python that Ansible needs, run systemd, and have a clock that is right by the controller's.
  - On the host of an existing cluster (C(cluster_existing)), asks the API for its version, and whether somebody else
    serves an API there that a role of this run would serve - resource metrics, custom metrics, or the kinds of the
    Prometheus operator. That is a failure unless the role may adopt it or is absent. On the host of a cluster that is
    made here, does nothing.
  - Fails with one sentence that names the machine, its address and what to look at. Takes no options, changes nothing.
attributes:
  check_mode:
    description: Runs the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Reach machines
  hosts: nodes
  become: true
  gather_facts: false
  tasks:
    - name: Reach the machine
      kubescale.fleet.reach:
"""

RETURN = r"""
foreign:
  description: APIServices and CRDs of others that stand in the way, with their owners and the role that meets them.
  returned: when they are why the task failed
  type: list
  elements: dict
  sample:
    - apiVersion: apiregistration.k8s.io/v1
      kind: APIService
      namespace: ''
      name: v1beta1.metrics.k8s.io
      owner: was made with kubectl-client-side-apply
      role: metrics_server
found:
  description: What the machine said about itself.
  returned: when a machine was reached
  type: dict
  sample: {uid: 0, python: [3, 11, 2], init: systemd, time: 1760000000.0}
"""
