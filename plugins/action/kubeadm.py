# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Makes a machine a node: what the controller does around the module of the same name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.kube.client import (
    RESTART,
    ApiError,
    KubeconfigError,
    connect,
)
from ..plugin_utils.kube.kubeconfig import read_kubeconfig
from ..plugin_utils.machines.joining import (
    JoinError,
    JoinToken,
    ServingCertificates,
    ca_hash,
    endpoint,
    home_kubeconfig,
    is_home,
    missing_settings,
    write_private,
)

# What cannot be changed by writing it somewhere: addresses of pods and services are in use, versions need an upgrade.
FIXED = ("kubernetesVersion", "controlPlaneEndpoint", "networking.podSubnet", "networking.serviceSubnet")


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run kubeadm on the machine if it is not a node yet, and do what that needs here."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "action": {"type": "str", "choices": ["init", "join"], "required": True},
                "cluster": {"type": "str", "required": True},
                "config": {"type": "list", "elements": "dict", "required": True},
                "certificate_key": {"type": "str", "no_log": True},
                "kubeconfig": {"type": "path", "required": True},
            }
        )
        variables = task_vars or {}
        node = variables["kubescale_machine"]["node"]
        try:
            if arguments["action"] == "init":
                return self._init(arguments, node, variables)
            return self._join(arguments, node, variables)
        except (JoinError, ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(str(error)) from None

    def _on_machine(self, arguments: dict[str, Any], variables: dict[str, Any], **more: str) -> dict[str, Any]:
        names = ("action", "cluster", "config", "certificate_key")
        given = {name: arguments[name] for name in names if arguments[name]}
        result = self._execute_module("kubescale.fleet.kubeadm", {**given, **more}, task_vars=variables)
        if "module_stdout" in result:  # it did not come to its own end
            said = f"{result['module_stdout']}{result.get('module_stderr', '')}".strip().splitlines()
            broke = f"{variables['inventory_hostname']} broke off in the middle of kubeadm {arguments['action']}"
            return {
                "failed": True,
                "msg": f"{broke}{': ' + said[-1] if said else ''}. Did the machine restart? When it is back, run "
                "again: this attempt is then taken back first.",
            }
        if result.get("failed"):
            result["msg"] = f"{variables['inventory_hostname']}: {result['msg']}"
        return result

    def _init(self, arguments: dict[str, Any], node: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        kubeconfig = Path(arguments["kubeconfig"])
        wanted = next(item for item in arguments["config"] if item["kind"] == "ClusterConfiguration")
        result: dict[str, Any] = {"changed": False}
        if node["state"] != "ours":
            result = self._on_machine(arguments, variables)
            if result.get("failed") or self._task.check_mode:
                return result
        server = f"https://{wanted['controlPlaneEndpoint']}"
        if not is_home(kubeconfig, node["admin"], server):
            result["changed"] = True
            result["diff"] = {"before": "", "after": f"kubeconfig {kubeconfig}\n"}
            if self._task.check_mode:
                return result
            read = self._execute_module(
                "ansible.legacy.slurp", {"src": "/etc/kubernetes/admin.conf"}, task_vars=variables
            )
            if read.get("failed"):
                return read
            admin = base64.b64decode(read["content"]).decode()
            write_private(kubeconfig, home_kubeconfig(admin, str(arguments["cluster"]), str(server)))
        if node["state"] == "ours":
            self._compare(kubeconfig, wanted)
        return result

    def _compare(self, kubeconfig: Path, wanted: dict[str, Any]) -> None:
        """Say which wanted settings the running cluster does not have; those that cannot be had are errors."""
        api = connect(kubeconfig)
        api.wait_ready(RESTART)
        stored = api.get("v1", "ConfigMap", "kubeadm-config", "kube-system")
        live = yaml.safe_load((stored or {}).get("data", {}).get("ClusterConfiguration", "{}"))
        different = missing_settings({k: v for k, v in wanted.items() if k not in ("apiVersion", "kind")}, live)
        texts = {path: f"{path} is {now!r}, wanted is {then!r}" for path, (now, then) in different.items()}
        fixed = [texts[path] for path in FIXED if path in texts]
        if fixed:
            raise JoinError(
                f"{'; '.join(fixed)}. A running cluster keeps these: set the variables of role control_plane as they "
                "were, or "
                "make a new cluster. Upgrades are not part of this version of the collection."
            )
        if texts:
            # Not as the result's warnings: those of tasks that changed nothing are not shown.
            Display().warning(
                "The running cluster was set up differently, and role control_plane does not change it: "
                f"{'; '.join(texts.values())}"
            )

    def _join(self, arguments: dict[str, Any], node: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if node["state"] == "ours":
            return {"changed": False}
        if self._task.check_mode:
            return self._on_machine(arguments, variables)
        name = variables["inventory_hostname"]
        path = Path(arguments["kubeconfig"])
        content, api = read_kubeconfig(path), connect(path, patience=RESTART)
        ServingCertificates(api, name, []).forget()
        if node["state"] == "unfinished":
            # kubeadm refuses a name whose node was ready a moment ago.
            api.delete("v1", "Node", name)
        with JoinToken(api, name) as token:
            return self._on_machine(
                arguments, variables, token=token, ca_hash=ca_hash(content), endpoint=endpoint(content)
            )
