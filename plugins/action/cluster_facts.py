# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read how kubeadm set up a cluster."""

from __future__ import annotations

from typing import Any

import yaml

from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART


def cluster_facts(configuration: dict[str, Any]) -> dict[str, str]:
    """Return the values of a ClusterConfiguration that roles use; empty strings for an empty one."""
    host, _unused, port = configuration.get("controlPlaneEndpoint", "").rpartition(":")
    networking = configuration.get("networking", {})
    return {
        "host": host,
        "port": port,
        "pod_network": networking.get("podSubnet", ""),
        "service_network": networking.get("serviceSubnet", ""),
        "version": configuration.get("kubernetesVersion", "").lstrip("v"),
    }


class ActionModule(ClusterAction):
    """The action of the module `cluster_facts`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the fact kubescale_cluster."""
        configuration = {}
        if self.is_made or not self.check:
            stored = self.connect(RESTART).get("v1", "ConfigMap", "kubeadm-config", "kube-system")
            if stored is None:
                raise FleetError(
                    f"The cluster of {args['kubeconfig']} has no ConfigMap kube-system/kubeadm-config: kubeadm did not "
                    "make it. It has a pod network of its own then; leave role cni out."
                )
            configuration = yaml.safe_load(stored["data"]["ClusterConfiguration"])
        return {"ansible_facts": {"kubescale_cluster": cluster_facts(configuration)}}
