# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Tells what the plays before it would change, from the record of the run."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.common.output import OUTPUT_OPTIONS, write_document
from ..plugin_utils.fleet import plan, run_record


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result for the host's cluster; the first host of the play shows what is planned for all of them."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {
                **OUTPUT_OPTIONS,
                "detailed_exit": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        record = run_record.current()
        if record is None:
            raise AnsibleActionFail(
                "what the plays before this one found is not known: enable the callback kubescale.fleet.phases "
                "(callbacks_enabled in ansible.cfg), and let it write its record (KUBESCALE_PHASES_FILE, or a "
                "fleet_dir that can be written)"
            )
        if not record["check"]:
            raise AnsibleActionFail("these plays did not run in check mode: this is not what a run would change")
        document = plan.document(record)
        if host == variables["ansible_play_hosts"][0]:
            self.tell(record, document, arguments)
        found = document["clusters"].get(variables.get("cluster_name", host), {"state": "nothing to do", "changes": []})
        result = {"changed": False, "msg": found["state"]}
        if found["state"] == "changes":
            # A state, not a failure: nothing has gone wrong.
            result["fleet_state"] = "would change"
            if arguments["detailed_exit"]:
                return {**result, "failed": True}
        return {**result, "plan": found}

    def tell(self, record: run_record.Record, document: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Show the plan, and write it to a file if one is wanted."""
        try:
            write_document(arguments["file"], document)
        except OSError as error:
            raise AnsibleActionFail(f"output_file: {error}") from None
        if arguments["output"] == "json":
            Display().display(json.dumps(document))
        else:
            Display().display(f"\n{plan.describe(record)}\n")
