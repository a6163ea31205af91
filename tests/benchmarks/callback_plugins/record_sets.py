# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Keeps what the apply_set tasks of a run were given, so that another tool can apply the same objects.

One JSON file per task, numbered in the order of the tasks, in the existing folder KUBESCALE_RECORD_FOLDER. They hold
secrets.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult


class CallbackModule(CallbackBase):
    """The callback record_sets."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record_sets"
    CALLBACK_NEEDS_ENABLED = True
    _recorded = 0

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Write the arguments of one task."""
        if result.task_fields["action"] != "kubescale.fleet.apply_set":
            return
        arguments = result.task_fields["args"]
        self._recorded += 1
        path = Path(os.environ["KUBESCALE_RECORD_FOLDER"]) / f"{self._recorded:02d}-{arguments['name']}.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(arguments, stream)
