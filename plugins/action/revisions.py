# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Show the revisions of a cluster's sets."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.applyset.parent import choose_sets, sets_of
from ..plugin_utils.applyset.revisions import revisions_of
from ..plugin_utils.common.text import aligned
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import JSON

HEAD = ["component", "revision", "when", "who", "run", "what changed", ""]


class ActionModule(ClusterAction):
    """The action of the module `revisions`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Read the revisions and show them."""
        api, namespace = self.connect(), args["parent_namespace"]
        sets = choose_sets(sets_of(api, namespace), args["component"])
        known = revisions_of(api, namespace)
        entries = [
            {**revision.as_dict(), "current": revision.number == parent.revision}
            for name, parent in sorted(sets.items())
            for revision in known.get(name, [])
        ]
        lines = ["", f"{self.cluster}: {len(entries)} revisions", "", *aligned([HEAD, *map(row, entries)]), ""]
        self.publish({"cluster": self.cluster, "revisions": entries}, "\n".join(lines))
        return {"revisions": entries}


def row(revision: JSON) -> list[str]:
    """Return the table cells of a revision."""
    when = str(revision["when"]).partition(".")[0].replace("T", " ")
    marks = ["current"] if revision["current"] else []
    marks += ["interrupted"] if revision["state"] == "pending" else []
    facts = [str(revision["revision"]), when, revision["who"], revision["run"], revision["summary"]]
    return [revision["component"], *facts, ", ".join(marks)]
