#!/usr/bin/python
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin kubescale.fleet.apply_set_ready."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: apply_set_ready
short_description: Wait until every object of sets made by apply_set is ready
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Waits, by watching, for several sets at once, so that components can start beside each other
    after M(kubescale.fleet.apply_set) with O(kubescale.fleet.apply_set#module:wait=false).
  - On time-out, or when something failed for good, says for each broken object why - conditions, pod events, last log
    lines.
  - Runs in the controller's own process; nothing is sent to a machine. In check mode it waits for nothing.
options:
  kubeconfig:
    description:
      - Path of the kubeconfig of the cluster.
    type: path
    required: true
  context:
    description:
      - Context of the kubeconfig; its current one by default.
    type: str
  names:
    description:
      - Names of the sets. By default those that M(kubescale.fleet.apply_set) applied to the cluster in this run; if it
        ran for none, all sets in O(parent_namespace).
    type: list
    elements: str
  parent_namespace:
    description:
      - Namespace of the sets' parents.
    type: str
    default: kube-system
  wait_timeout:
    description:
      - Seconds to wait at most.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Wait for all components
  kubescale.fleet.apply_set_ready:
    kubeconfig: "{{ cluster_kubeconfig }}"
"""

RETURN = r"""
members:
  description: Number of objects that were looked at. Kinds that are ready as soon as they are stored are left out.
  returned: when not in check mode
  type: int
seconds:
  description: Seconds that the task took.
  returned: when not in check mode
  type: float
"""
