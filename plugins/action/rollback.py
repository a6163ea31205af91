# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.rollback: works in the controller's process, documented in the module."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.applyset.operation import Options
from ..plugin_utils.applyset.outcome import ApplySetError
from ..plugin_utils.applyset.revisions import RevisionError
from ..plugin_utils.applyset.rollback import Target, plan_rollback, roll_back
from ..plugin_utils.common.runs import run_id
from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect

display = Display()

ARGUMENTS: dict[str, Any] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "parent_namespace": {"type": "str", "default": "kube-system"},
    "component": {"type": "str", "default": ""},
    "revision": {"type": "int"},
    "run": {"type": "str", "default": ""},
    "force_conflicts": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 300},
}


class ActionModule(ActionBase):
    """Bring components back to earlier revisions."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: changed, sets, left, diff. Raises AnsibleActionFail for what cannot be gone back to."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        started = time.monotonic()
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if args["wait_timeout"] < 1:
            raise AnsibleActionFail(f"wait_timeout is {args['wait_timeout']}; it must be 1 second or more")
        host = (task_vars or {}).get("inventory_hostname", "")
        namespace = args["parent_namespace"]
        try:
            api = connect(args["kubeconfig"], args["context"], RESTART)
            planned = plan_rollback(api, Target(args["component"], args["revision"], args["run"]), namespace)
            options = Options(
                namespace=namespace,
                check=bool(self._task.check_mode),
                diff=bool(self._task.diff),
                force=args["force_conflicts"],
                timeout=args["wait_timeout"],
                run=run_id(task_vars),
                say=lambda text: display.display(f"[{host}] {text}"),
            )
            done = roll_back(api, planned.steps, options)
        except (ApiError, ApplySetError, KubeconfigError, RevisionError, ValueError) as error:
            raise AnsibleActionFail(f"rollback {host}: {error}") from None
        for entry in done.sets:
            words = "would be" if self._task.check_mode else "is"
            display.display(f"[{host}] {entry['component']} {words} back to revision {entry['to']}")
        for text in planned.left:
            # A warning is shown with its task only, and a task that changed nothing is not shown.
            display.display(f"[{host}] {text}")
        result |= {"changed": done.changed, "sets": done.sets, "left": planned.left}
        result["seconds"] = round(time.monotonic() - started, 2)
        if self._task.diff:
            result["diff"] = done.diff
        if warnings := [*done.warnings, *dict.fromkeys(api.warnings)]:
            result["warnings"] = warnings
        if done.problems:
            result |= {"failed": True, "msg": "\n".join(done.problems)}
        return result
