# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Says what in a cluster is not as its sets' revisions say, in the controller's own process."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.applyset.drift import describe, examine
from ..plugin_utils.applyset.outcome import ApplySetError
from ..plugin_utils.common.output import (
    OUTPUT_OPTIONS,
    SET_OPTIONS,
    write_document,
)
from ..plugin_utils.kube.client import ApiError, KubeconfigError, connect


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare, tell, and fail if something is not in sync."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec({**SET_OPTIONS, **OUTPUT_OPTIONS})
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        try:
            api = connect(arguments["kubeconfig"], arguments["context"])
            drift = examine(api, arguments["component"], arguments["parent_namespace"])
            document = drift.document(cluster)
            write_document(arguments["file"], document)
        except (ApiError, ApplySetError, KubeconfigError, OSError) as error:
            raise AnsibleActionFail(f"drift {cluster}: {error}") from None
        text = describe(cluster, drift)
        if arguments["output"] == "json":
            Display().display(json.dumps(document))
            text = f"{cluster}: not in sync"
        elif drift.in_sync:
            Display().display(f"\n{text}\n")
        result = {"changed": False, **{key: document[key] for key in ("components", "strays", "seconds")}}
        if drift.in_sync:
            return {**result, "msg": "in sync"}
        return {**result, "failed": True, "msg": text}
