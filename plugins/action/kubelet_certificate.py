# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Approves a kubelet's request for its serving certificate if it asks for what the inventory says."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils.services import service_troubles
from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect
from ..plugin_utils.machines.joining import (
    JoinError,
    LateError,
    ServingCertificates,
)


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Approve what waits; for a kubelet without a certificate, wait for its request."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "required": True},
                "machine": {"type": "str", "required": True},
                "addresses": {"type": "list", "elements": "str", "required": True},
                "wait": {"type": "bool", "default": False},
                "wait_timeout": {"type": "int", "default": 60},
            }
        )
        if self._task.check_mode and not Path(arguments["kubeconfig"]).exists():
            return {"changed": True, "approved": 1, "msg": "The cluster is not made yet."}
        try:
            requests = ServingCertificates(
                connect(arguments["kubeconfig"], patience=RESTART), arguments["machine"], arguments["addresses"]
            )
            if self._task.check_mode:
                approved = len(requests.pending())
            elif arguments["wait"]:
                approved = requests.wait_and_approve(arguments["wait_timeout"])
            else:
                pending = requests.pending()
                for request in pending:
                    requests.approve(request)
                approved = len(pending)
        except LateError as error:
            raise AnsibleActionFail("\n".join([str(error), *service_troubles(self._output)])) from error
        except (JoinError, ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(str(error)) from None
        return {"changed": approved > 0, "approved": approved}

    def _output(self, command: list[str]) -> str:
        """What a command writes on the machine."""
        return str(self._low_level_execute_command(shlex.join(command))["stdout"])
