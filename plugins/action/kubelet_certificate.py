# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Approve a kubelet's request for its serving certificate if it asks for what the inventory says."""

from __future__ import annotations

import shlex
from typing import Any

from ..module_utils.services import service_troubles
from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART
from ..plugin_utils.machines.kubelet_requests import LateError, ServingCertificates


class ActionModule(ClusterAction):
    """The action of the module `kubelet_certificate`."""

    _requires_connection = True

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Approve the pending requests; for a kubelet without a certificate, wait for its request."""
        if self.check and not self.is_made:
            return {"changed": True, "approved": 1, "msg": "The cluster is not made yet."}
        requests = ServingCertificates(self.connect(RESTART), args["machine"], args["addresses"])
        if args["wait"] and not self.check:
            try:
                approved = requests.wait_and_approve(args["wait_timeout"])
            except LateError as error:
                raise FleetError("\n".join([str(error), *service_troubles(self._output)])) from error
        else:
            pending = requests.pending()
            for request in [] if self.check else pending:
                requests.approve(request)
            approved = len(pending)
        return {"changed": approved > 0, "approved": approved}

    def _output(self, command: list[str]) -> str:
        """Return what a command writes on the machine."""
        return str(self._low_level_execute_command(shlex.join(command))["stdout"])
