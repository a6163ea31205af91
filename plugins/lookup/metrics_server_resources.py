# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What metrics-server asks for, by the size of its cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
name: metrics_server_resources
short_description: Requests of metrics-server for the number of nodes that a cluster has
description:
  - Counts the nodes of a cluster by its API, and returns the requests of CPU and memory that metrics-server needs for
    them.
  - A cluster that is not made yet counts as a small one.
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Path of the cluster's kubeconfig, on the controller.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show what metrics-server would ask for
  ansible.builtin.debug:
    msg: "{{ lookup('kubescale.fleet.metrics_server_resources', cluster_kubeconfig) }}"
"""

RETURN = r"""
_raw:
  description: C(requests) with C(cpu) and C(memory).
  type: list
  elements: dict
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.kube.client import RESTART, ApiError, connect
from ..plugin_utils.kube.kubeconfig import KubeconfigError

# What an idle one takes: millicores and MiB.
IDLE_CPU = 40
IDLE_MEMORY = 40
# On top of that for each node, as upstream measured it.
NODE_CPU = 1
NODE_MEMORY = 2
# Nodes are counted by tens: not every node that joins starts metrics-server again.
STEP = 10


def requests_for(nodes: int) -> dict[str, Any]:
    """Requests of a metrics-server that reads this many nodes."""
    counted = max(1, -(-nodes // STEP)) * STEP
    cpu, memory = IDLE_CPU + counted * NODE_CPU, IDLE_MEMORY + counted * NODE_MEMORY
    return {"requests": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}}


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.metrics_server_resources."""

    def run(
        self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object
    ) -> list[dict[str, Any]]:
        """Return the requests for each kubeconfig."""
        return [requests_for(self._nodes(Path(kubeconfig).expanduser())) for kubeconfig in terms]

    @staticmethod
    def _nodes(kubeconfig: Path) -> int:
        if not kubeconfig.exists():
            return 0
        try:
            return len(connect(kubeconfig, patience=RESTART).list("v1", "Node", metadata_only=True).items)
        except (ApiError, KubeconfigError) as error:
            raise AnsibleLookupError(f"The nodes of {kubeconfig} cannot be counted: {error}") from None
