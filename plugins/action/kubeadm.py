# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Makes a machine a node: what the controller does around the module of the same name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from ..plugin_utils.common.action import display
from ..plugin_utils.common.files import replace_file
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART
from ..plugin_utils.kube.kubeconfig import read_kubeconfig
from ..plugin_utils.machines.joining import (
    JoinError,
    JoinToken,
    ca_hash,
    endpoint,
    home_kubeconfig,
    is_home,
    missing_settings,
)
from ..plugin_utils.machines.kubelet_requests import ServingCertificates

# Settings that a running cluster cannot change: its pods and Services use the networks, and versions need an upgrade.
FIXED = ("kubernetesVersion", "controlPlaneEndpoint", "networking.podSubnet", "networking.serviceSubnet")


class ActionModule(ClusterAction):
    """The action of the module `kubeadm`, which runs on the machine."""

    MODULE_OPTIONS = ("ca_hash", "endpoint", "token")
    _requires_connection = True

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run kubeadm on the machine if it is not a node yet, with the steps on the controller."""
        node = self.variables["kubescale_machine"]["node"]
        if args["action"] == "share_certificates":
            return self._on_machine()
        return self._init(args, node) if args["action"] == "init" else self._join(args, node)

    def _on_machine(self, **more: str) -> dict[str, Any]:
        """Run the module on the machine with the given options and more."""
        given = {name: value for name, value in self.args.items() if value}
        result: dict[str, Any] = self._execute_module(
            "kubescale.fleet.kubeadm", {**given, **more}, task_vars=self.variables
        )
        if "module_stdout" in result:  # it did not come to its own end
            said = f"{result['module_stdout']}{result.get('module_stderr', '')}".strip().splitlines()
            broke = f"{self.host} broke off in the middle of kubeadm {self.args['action']}"
            return {
                "failed": True,
                "msg": f"{broke}{': ' + said[-1] if said else ''}. Did the machine restart? When it is back, run "
                "again: this attempt is then taken back first.",
            }
        if result.get("failed"):
            result["msg"] = f"{self.host}: {result['msg']}"
        return result

    def _init(self, args: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        kubeconfig = Path(args["kubeconfig"])
        wanted = next(item for item in args["config"] if item["kind"] == "ClusterConfiguration")
        result: dict[str, Any] = {"changed": False}
        if node["state"] != "ours":
            result = self._on_machine()
            if result.get("failed") or self.check:
                return result
        server = f"https://{wanted['controlPlaneEndpoint']}"
        if not is_home(kubeconfig, node["admin"], server):
            result["changed"] = True
            result["diff"] = {"before": "", "after": f"kubeconfig {kubeconfig}\n"}
            if self.check:
                return result
            source = {"src": "/etc/kubernetes/admin.conf"}
            read: dict[str, Any] = self._execute_module("ansible.legacy.slurp", source, task_vars=self.variables)
            if read.get("failed"):
                return read
            admin = base64.b64decode(read["content"]).decode()
            kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            replace_file(kubeconfig, home_kubeconfig(admin, str(args["cluster"]), str(server)), 0o600)
        if node["state"] == "ours":
            self._compare(wanted)
        return result

    def _compare(self, wanted: dict[str, Any]) -> None:
        """Warn of wanted settings that the running cluster does not have. Raise JoinError if they cannot change."""
        api = self.connect()
        api.wait_ready(RESTART)
        stored = api.get("v1", "ConfigMap", "kubeadm-config", "kube-system")
        live = yaml.safe_load((stored or {}).get("data", {}).get("ClusterConfiguration", "{}"))
        different = missing_settings({k: v for k, v in wanted.items() if k not in ("apiVersion", "kind")}, live)
        texts = {path: f"{path} is {now!r}, wanted is {then!r}" for path, (now, then) in different.items()}
        fixed = [texts[path] for path in FIXED if path in texts]
        if fixed:
            raise JoinError(
                f"{'; '.join(fixed)}. A running cluster keeps these: set the variables of role control_plane as they "
                "were, or make a new cluster. Upgrades are not part of this version of the collection."
            )
        if texts:
            # Not as the result's warnings: those of tasks that changed nothing are not shown.
            display.warning(
                "The running cluster was set up differently, and role control_plane does not change it: "
                f"{'; '.join(texts.values())}"
            )

    def _join(self, args: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        if node["state"] == "ours":
            return {"changed": False}
        if self.check:
            return self._on_machine()
        content, api = read_kubeconfig(Path(args["kubeconfig"])), self.connect(RESTART)
        ServingCertificates(api, self.host, []).forget()
        if node["state"] == "unfinished":
            # kubeadm refuses a name whose node was ready a moment ago.
            api.delete("v1", "Node", self.host)
        with JoinToken(api, self.host) as token:
            return self._on_machine(token=token, ca_hash=ca_hash(content), endpoint=endpoint(content))
