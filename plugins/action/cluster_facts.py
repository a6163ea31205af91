# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Reads how kubeadm set up a cluster, in the controller's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect


def cluster_facts(configuration: dict[str, Any]) -> dict[str, str]:
    """Return what roles need of a ClusterConfiguration; empty strings for an empty one."""
    host, _unused, port = configuration.get("controlPlaneEndpoint", "").rpartition(":")
    networking = configuration.get("networking", {})
    return {
        "host": host,
        "port": port,
        "pod_network": networking.get("podSubnet", ""),
        "service_network": networking.get("serviceSubnet", ""),
        "version": configuration.get("kubernetesVersion", "").lstrip("v"),
    }


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the fact kubescale_cluster."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec({"kubeconfig": {"type": "path", "required": True}})
        if self._task.check_mode and not Path(arguments["kubeconfig"]).exists():
            return {"changed": False, "ansible_facts": {"kubescale_cluster": cluster_facts({})}}
        try:
            stored = connect(arguments["kubeconfig"], patience=RESTART).get(
                "v1", "ConfigMap", "kubeadm-config", "kube-system"
            )
        except (ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(str(error)) from None
        if stored is None:
            raise AnsibleActionFail(
                f"The cluster of {arguments['kubeconfig']} has no ConfigMap kube-system/kubeadm-config: kubeadm did "
                "not make it. "
                "It has a pod network of its own then; leave role cni out."
            )
        facts = cluster_facts(yaml.safe_load(stored["data"]["ClusterConfiguration"]))
        return {"changed": False, "ansible_facts": {"kubescale_cluster": facts}}
