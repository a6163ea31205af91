# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = """
module: reach
short_description: Prove that a machine, or the API of an existing cluster, can be worked on
author: kubescale founders
version_added: 0.1.0
description:
  - On a machine, opens one connection and runs one small program there. The machine must answer, allow root, have the
    Python that Ansible needs, and run systemd.
  - On the host of an existing cluster (C(cluster_existing)), asks the API for its version. On that of a cluster that is
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

EXAMPLES = """
- name: Reach machines
  hosts: nodes
  become: true
  gather_facts: false
  tasks:
    - name: Reach the machine
      kubescale.fleet.reach:
"""

RETURN = """
found:
  description: What the machine said about itself.
  returned: when a machine was reached
  type: dict
  sample: {uid: 0, python: [3, 11, 2], init: systemd}
"""
