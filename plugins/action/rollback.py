# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return components to earlier revisions."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.applyset.operation import Options
from ..plugin_utils.applyset.rollback import Target, plan_rollback, roll_back
from ..plugin_utils.common.action import Bound
from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.fleet.command_line import check_variables
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART


class ActionModule(ClusterAction):
    """The action of the module `rollback`."""

    BOUNDS = (Bound("wait_timeout", least=1),)

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Apply the earlier revisions. Return the changes."""
        # A misspelled `component` would select all components.
        if problems := check_variables(self._loader):
            raise FleetError("\n".join(problems))
        options = Options(
            namespace=args["parent_namespace"],
            check=self.check,
            diff=self.diff,
            force=args["force_conflicts"],
            timeout=args["wait_timeout"],
            run=self.run_id,
            say=self.say,
        )
        api = self.connect(RESTART)
        planned = plan_rollback(api, Target(args["component"], args["revision"], args["run"]), options.namespace)
        done = roll_back(api, planned.steps, options)
        for entry in done.sets:
            self.say(f"{entry['component']} {'would be' if self.check else 'is'} back to revision {entry['to']}")
        for text in planned.left:
            # Not a warning: Ansible hides the warnings of a task that it does not show.
            self.say(text)
        result = {"changed": done.changed, "sets": done.sets, "left": planned.left, "seconds": self.seconds}
        if self.diff:
            result["diff"] = done.diff
        if warnings := [*done.warnings, *dict.fromkeys(api.warnings)]:
            result["warnings"] = warnings
        if done.problems:
            result |= {"failed": True, "msg": "\n".join(done.problems)}
        return result
