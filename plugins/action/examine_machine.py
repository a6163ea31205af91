# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Fail if a machine cannot be a node of its cluster. Change nothing."""

from __future__ import annotations

import os
import socket
from typing import Any

from ..plugin_utils.apps.catalogue import reader
from ..plugin_utils.common.action import Action
from ..plugin_utils.kube.proxies import proxy_of
from ..plugin_utils.kube.transport import CONNECT_TIMEOUT
from ..plugin_utils.machines.problems import Needs, Peer, machine_problems

API_PORT = 6443


def why_unreachable(host: str, port: int) -> str:
    """Return why this controller cannot reach a port, or "". A host that refuses the connection is reachable."""
    if proxy_of(f"https://{host}:{port}", "", os.environ):
        return ""
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return ""
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


class ActionModule(Action):
    """The action of the module `examine_machine`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Compare the fact `kubescale_machine` with the needs of the cluster, and fail with all problems."""
        machine = self.variables["kubescale_machine"]
        problems = machine_problems(machine, self._needs(args, machine))
        if not problems:
            return {}
        text = f"{self.host} ({machine['system']}) cannot be a node: {' Also, '.join(problems)}"
        return {"failed": True, "msg": text, "problems": problems}

    def _needs(self, args: dict[str, Any], machine: dict[str, Any]) -> Needs:
        value = reader(self.variables, self._templar.template, self._loader.load_from_file)
        control_planes = list(self.variables["cluster_control_plane"])
        endpoint = str(value("control_plane_endpoint", "control_plane"))
        address = args["address"] or machine["address"]
        is_first = self.host == control_planes[0] and machine["node"]["state"] == "none"
        return Needs(
            cluster=str(self.variables["cluster_name"]),
            part="control_plane" if self.host in control_planes else "worker",
            kubernetes=args["kubernetes"],
            control_planes=len(control_planes),
            address=args["address"],
            endpoint=endpoint,
            # Only the API that this run would make at the address of its first control plane.
            unreachable=self._why_unreachable(address) if is_first and address and not endpoint else "",
            pod_network=str(value("control_plane_pod_network", "control_plane")),
            service_network=str(value("control_plane_service_network", "control_plane")),
            vxlan=value("cni_state", "cni") == "present" and value("cni_backend", "cni") == "vxlan",
            kubelet=args["kubelet"],
            tolerate_swap=args["tolerate_swap"],
            tolerate=args["tolerate"],
            peers=self._peers([*control_planes, *self.variables["cluster_workers"]]),
        )

    def _why_unreachable(self, address: str) -> str:
        why = why_unreachable(address, API_PORT)
        if not why:
            return ""
        reached = self._templar.template(self.variables.get("ansible_host", self.host))
        by = "" if reached == address else f" (SSH reaches it as {reached})"
        return f"the controller cannot reach {address}:{API_PORT}, where its API would be: {why}{by}"

    def _peers(self, machines: list[str]) -> list[Peer]:
        """Return the other machines of the cluster that this run has examined."""
        hosts = {name: self.variables["hostvars"][name] for name in machines if name != self.host}
        return [
            Peer(
                name,
                str(host.get("node_prep_address") or host["kubescale_machine"]["address"]),
                host["kubescale_machine"]["identities"],
            )
            for name, host in hosts.items()
            if "kubescale_machine" in host
        ]
