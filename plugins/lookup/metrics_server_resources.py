# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the resource requests of metrics-server for the size of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
name: metrics_server_resources
short_description: Resource requests of metrics-server for the number of nodes of a cluster
description:
  - Reads the number of nodes from the API of a cluster, and returns the requests of CPU and memory that metrics-server
    needs for them.
  - A cluster whose kubeconfig does not exist yet counts as a small one.
author: kubescale founders (@kubescale)
version_added: 0.1.0
extends_documentation_fragment: [kubescale.fleet.cluster.term]
"""

EXAMPLES = r"""
- name: Show the requests of metrics-server
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

# Use of an idle metrics-server, in millicores and MiB.
IDLE_CPU = 40
IDLE_MEMORY = 40
# Additional use for each node, as upstream measured it.
NODE_CPU = 1
NODE_MEMORY = 2
# Nodes are rounded up to tens, so that few of the nodes that join restart metrics-server.
STEP = 10


def requests_for(nodes: int) -> dict[str, Any]:
    """Return the requests of a metrics-server that reads this many nodes."""
    rounded = max(1, -(-nodes // STEP)) * STEP
    cpu, memory = IDLE_CPU + rounded * NODE_CPU, IDLE_MEMORY + rounded * NODE_MEMORY
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
