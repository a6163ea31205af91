# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.apply_set_ready: works in the controller's process, documented in the module."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.applyset.outcome import ApplySetError
from ..plugin_utils.applyset.ready import wait_for_sets
from ..plugin_utils.applyset.run_facts import applied_sets
from ..plugin_utils.apps.scrape_jobs import load_jobs_meanwhile
from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect
from ..plugin_utils.kube.waiting import NotReadyError

display = Display()

ARGUMENTS: dict[str, Any] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "parent_namespace": {"type": "str", "default": "kube-system"},
    "wait_timeout": {"type": "int", "default": 300},
}


class ActionModule(ActionBase):
    """Wait until all objects of sets are ready."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: members (their number), seconds. Raises AnsibleActionFail when it cannot begin."""
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False}
        started = time.monotonic()
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if args["wait_timeout"] < 1:
            raise AnsibleActionFail(f"wait_timeout is {args['wait_timeout']}; it must be 1 second or more")
        if self._task.check_mode:
            # Nothing was applied, so there is nothing to become ready; what is missing was predicted by apply_set.
            exists = Path(args["kubeconfig"]).expanduser().exists()
            return result | {"msg": "check mode: not waited" if exists else "check mode: the cluster is not made yet"}
        host = (task_vars or {}).get("inventory_hostname", "")
        # What this run did not touch may have reasons of its own for not being ready.
        names = args["names"] if args["names"] is not None else applied_sets(task_vars)

        def say(text: str) -> None:
            display.display(f"[{host}] {text}")

        try:
            api = connect(args["kubeconfig"], args["context"], RESTART)
            meanwhile = functools.partial(load_jobs_meanwhile, api, say=say)
            result["members"] = wait_for_sets(
                api, names, args["parent_namespace"], args["wait_timeout"], say, meanwhile
            )
        except (KubeconfigError, ApiError, ApplySetError, NotReadyError) as error:
            result |= {"failed": True, "msg": str(error)}
        return result | {"seconds": round(time.monotonic() - started, 2)}
