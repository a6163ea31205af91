# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: reach
short_description: Verify that a machine, or the API of an existing cluster, can be used
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - On a machine, opens one connection and runs one small program. The machine must answer, allow root, have the
    Python that Ansible needs, run systemd, and have a clock that agrees with the controller's clock.
  - On the host of an existing cluster (C(cluster_existing)), reads the version of the API. Fails if somebody else
    serves an API that a role of this run would serve (resource metrics, custom metrics, or the kinds of the Prometheus
    operator), unless the role may adopt it or is absent. Does nothing on the host of any other cluster.
  - Fails with a message that names the machine, its address and the remedy. Takes no options, changes nothing.
extends_documentation_fragment: [kubescale.fleet.attributes]
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
  description: APIServices and CRDs of others, with their owners and the role that would apply them.
  returned: when the task failed because of them
  type: list
  elements: dict
found:
  description: Facts of the machine.
  returned: when a machine answered
  type: dict
  sample: {uid: 0, python: [3, 11, 2], init: systemd, time: 1760000000.0}
"""
