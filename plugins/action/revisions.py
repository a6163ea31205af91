# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Shows the revisions that a cluster keeps, in the controller's own process."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.applyset.outcome import ApplySetError
from ..plugin_utils.applyset.parent import choose_sets, sets_of
from ..plugin_utils.applyset.revisions import revisions_of
from ..plugin_utils.common.output import (
    OUTPUT_OPTIONS,
    SET_OPTIONS,
    write_document,
)
from ..plugin_utils.common.text import aligned
from ..plugin_utils.kube.client import JSON, ApiError, KubeconfigError, connect

HEAD = ["component", "revision", "when", "who", "run", "what changed", ""]


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read and show."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec({**SET_OPTIONS, **OUTPUT_OPTIONS})
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        try:
            api = connect(arguments["kubeconfig"], arguments["context"])
            sets = choose_sets(sets_of(api, arguments["parent_namespace"]), arguments["component"])
            known = revisions_of(api, arguments["parent_namespace"])
            found = [
                {**revision.as_dict(), "current": revision.number == parent.revision}
                for name, parent in sorted(sets.items())
                for revision in known.get(name, [])
            ]
            document = {"cluster": cluster, "revisions": found}
            write_document(arguments["file"], document)
        except (ApiError, ApplySetError, KubeconfigError, OSError) as error:
            raise AnsibleActionFail(f"revisions {cluster}: {error}") from None
        text = json.dumps(document)
        if arguments["output"] == "text":
            text = "\n".join(["", f"{cluster}: {len(found)} revisions", "", *aligned([HEAD, *map(row, found)]), ""])
        Display().display(text)
        return {"changed": False, "revisions": found}


def row(revision: JSON) -> list[str]:
    """Cells of a revision."""
    when = str(revision["when"]).partition(".")[0].replace("T", " ")
    words = ["current"] if revision["current"] else []
    words += ["interrupted"] if revision["state"] == "pending" else []
    facts = [str(revision["revision"]), when, revision["who"], revision["run"], revision["summary"]]
    return [revision["component"], *facts, ", ".join(words)]
