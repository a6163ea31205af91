# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the control plane that does a task which any control plane can do."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ready_control_plane
short_description: First control plane of a cluster that is ready
description:
  - Returns the first machine of C(cluster_control_plane) whose node is ready, for tasks that any control plane can do,
    such as to sign a certificate.
  - Returns the first machine if the cluster does not exist yet, does not answer, or has no control plane that is ready.
author: kubescale founders (@kubescale)
version_added: 0.1.0
extends_documentation_fragment: [kubescale.fleet.cluster.term]
"""

EXAMPLES = r"""
- name: Sign on a control plane that is there
  ansible.builtin.command: openssl version
  delegate_to: "{{ lookup('kubescale.fleet.ready_control_plane', cluster_kubeconfig) }}"
"""

RETURN = r"""
_raw:
  description: Name of the machine.
  type: list
  elements: str
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

from ..plugin_utils.kube.client import ApiError, connect
from ..plugin_utils.kube.kubeconfig import KubeconfigError
from ..plugin_utils.kube.objects import holds


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.ready_control_plane."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object) -> list[str]:
        """Return the name of a machine for each kubeconfig."""
        machines = list((variables or {})["cluster_control_plane"])
        return [self._first_ready(machines, Path(kubeconfig).expanduser()) for kubeconfig in terms]

    @staticmethod
    def _first_ready(machines: list[str], kubeconfig: Path) -> str:
        ready: set[str] = set()
        if len(machines) > 1 and kubeconfig.exists():
            try:
                nodes = connect(kubeconfig).list("v1", "Node").items
            except (ApiError, KubeconfigError):
                nodes = []
            ready = {node["metadata"]["name"] for node in nodes if holds(node, "Ready")}
        return next((name for name in machines if name in ready), machines[0])
