# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Run a playbook in check mode as a child of this run, and report the changes that it would make."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible import constants, context

from ..plugin_utils.common.action import Action, display
from ..plugin_utils.common.runs import RUN_VARIABLE
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


class ActionModule(Action):
    """The action of the module `plan`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the plan of all clusters."""
        record = predict(self.run_id, args)
        document = plan.document(record)
        self.publish(document, f"\n{plan.describe(record)}\n")
        result: dict[str, Any] = {"plan": document}
        if own := os.environ.get(run_record.CURRENT):
            # Callback phases merges this record into the record of the run.
            run_record.save(Path(own), record)
            result["run_record"] = own
        states = {name: entry["state"] for name, entry in document["clusters"].items()}
        failed = {name: document["clusters"][name]["message"] for name, state in states.items() if state == "failed"}
        if failed:
            lines = [f"- {name}: {message}" for name, message in failed.items()]
            return result | {"failed": True, "msg": "\n".join(["the plan is incomplete:", *lines])}
        changing = [name for name, state in states.items() if state == "changes"]
        result["msg"] = f"{len(changing)} of {len(states)} clusters would change"
        return result | {"failed": bool(changing and args["detailed_exit"])}


def predict(ident: str, args: dict[str, Any]) -> run_record.Record:
    """Return the record of the playbook in check mode, on the hosts and with the tags of this run.

    Raise ChildError if the child does not finish.
    """
    arguments = context.CLIARGS
    options = [
        *child_options(arguments),
        *tag_options(arguments),
        f"--skip-tags={','.join(args['skip_tags'])}",
        "--check",
    ]
    options += [f"--limit={arguments['subset']}"] if arguments.get("subset") else []
    options += ["--extra-vars", json.dumps({RUN_VARIABLE: ident})]
    # PROGRESS does not match the lines of a diff, so show every line.
    shows = bool if arguments.get("diff") or arguments.get("verbosity") else PROGRESS.match
    with tempfile.TemporaryDirectory(prefix="kubescale-plan-") as folder:
        files = Files(Path(folder) / "log", Path(folder) / "record.json")
        environment = child_environment(files.record, constants.CALLBACKS_ENABLED, os.environ)
        children = Children(display.display, shows=shows)
        outcome = children.run([*options, args["playbook"]], "", "", files, environment, math.inf)
        record = run_record.read(files.record)
    if record is None or not record["ended"]:
        raise ChildError(outcome.reason)
    return plan.with_states(record)
