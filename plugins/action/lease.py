# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.lease: works in the controller's process, documented in the module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.fleet.lease import (
    DURATION,
    UNATTENDED_DURATION,
    LeaseError,
    check,
    take,
    this_run,
)
from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect

display = Display()

CALLBACK = "kubescale.fleet.leases"
ARGUMENTS: dict[str, Any] = {
    "cluster": {"type": "str", "required": True},
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "renamed_from": {"type": "str", "default": ""},
    "required": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Take the lease of a cluster for this run."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task; ``lease`` is for the callback that renews it."""
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False}
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        cluster = args["cluster"]
        if not args["required"] and not Path(args["kubeconfig"]).expanduser().exists():
            return result | {"msg": f"cluster {cluster} is not made yet"}
        try:
            api = connect(args["kubeconfig"], args["context"], RESTART if args["required"] else 0)
            if self._task.check_mode:
                if other := check(api, cluster, args["renamed_from"]):
                    display.display(f"Mind: {other} works on this cluster now. [{cluster}]", color="yellow")
                return result
            attended = CALLBACK in constants.CALLBACKS_ENABLED
            # Workers of a run are children of its main process.
            holder = this_run(os.getppid())
            held = take(api, cluster, holder, DURATION if attended else UNATTENDED_DURATION, args["renamed_from"])
        except LeaseError as error:
            return result | {"failed": True, "msg": f"Cluster {cluster} ({args['kubeconfig']}): {error}."}
        except (ApiError, KubeconfigError) as error:
            if not args["required"] and getattr(error, "status", 0) == 0:
                return result | {"msg": f"cluster {cluster} does not answer yet: {error}"}
            return result | {"failed": True, "msg": f"Cluster {cluster}: its lease cannot be taken: {error}"}
        if not attended:
            display.display(
                f"Mind: callbacks_enabled in ansible.cfg lacks {CALLBACK}, so nothing ends the lease of this cluster "
                f"with it: a run on another machine is refused for {UNATTENDED_DURATION // 60} minutes. [{cluster}]",
                color="yellow",
            )
        where = {"kubeconfig": args["kubeconfig"], "context": args["context"]}
        return result | {"lease": {"cluster": cluster, **where, "ahead": held.ahead}}
