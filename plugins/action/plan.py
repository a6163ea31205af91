# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Runs a playbook in check mode as a child of this run, and reports what the playbook would change."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.common.output import OUTPUT_OPTIONS, write_document
from ..plugin_utils.common.runs import RUN_VARIABLE, run_id
from ..plugin_utils.fleet import plan, run_record
from ..plugin_utils.fleet.child_runs import (
    PROGRESS,
    ChildError,
    Children,
    Files,
    child_environment,
    child_options,
    tag_options,
)

ARGUMENTS: dict[str, Any] = {
    **OUTPUT_OPTIONS,
    "playbook": {"type": "str", "default": "kubescale.fleet.site"},
    "skip_tags": {"type": "list", "elements": "str", "default": ["verify"]},
    "detailed_exit": {"type": "bool", "default": False},
}
display = Display()


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan of all clusters."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(ARGUMENTS)
        try:
            record = predict(run_id(task_vars), arguments)
            document = plan.document(record)
            write_document(arguments["file"], document)
        except (ChildError, ValueError) as error:
            raise AnsibleActionFail(f"plan: {error}") from None
        except OSError as error:
            raise AnsibleActionFail(f"plan: a file cannot be used: {error}") from None
        display.display(json.dumps(document) if arguments["output"] == "json" else f"\n{plan.describe(record)}\n")
        result: dict[str, Any] = {"changed": False, "plan": document}
        if own := os.environ.get(run_record.CURRENT):
            # The callback makes it part of this run.
            run_record.save(Path(own), record)
            result["run_record"] = own
        states = {name: found["state"] for name, found in document["clusters"].items()}
        failed = {name: document["clusters"][name]["message"] for name, state in states.items() if state == "failed"}
        if failed:
            lines = [f"- {name}: {message}" for name, message in failed.items()]
            return {**result, "failed": True, "msg": "\n".join(["not known to its end:", *lines])}
        changing = [name for name, state in states.items() if state == "changes"]
        result["msg"] = f"{len(changing)} of {len(states)} clusters would change"
        return {**result, "failed": bool(changing and arguments["detailed_exit"])}


def predict(ident: str, arguments: dict[str, Any]) -> run_record.Record:
    """Return the record of the playbook in check mode, on the hosts and with the tags of this run.

    Raises ChildError if it has not come to its end.
    """
    told = context.CLIARGS
    options = [*child_options(told), *tag_options(told), f"--skip-tags={','.join(arguments['skip_tags'])}", "--check"]
    options += [f"--limit={told['subset']}"] if told.get("subset") else []
    options += ["--extra-vars", json.dumps({RUN_VARIABLE: ident})]
    # Differences of objects are no lines of progress.
    shows = bool if told.get("diff") or told.get("verbosity") else PROGRESS.match
    with tempfile.TemporaryDirectory(prefix="kubescale-plan-") as folder:
        files = Files(Path(folder) / "log", Path(folder) / "record.json")
        environment = child_environment(files.record, constants.CALLBACKS_ENABLED, os.environ)
        children = Children(display.display, shows=shows)
        outcome = children.run([*options, arguments["playbook"]], "", "", files, environment, math.inf)
        record = run_record.read(files.record)
    if record is None or not record["ended"]:
        raise ChildError(outcome.reason)
    return plan.with_states(record)
