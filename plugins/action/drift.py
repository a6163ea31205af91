# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Compare a cluster with the revisions of its sets."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.applyset.drift import describe, examine
from ..plugin_utils.kube.action import ClusterAction


class ActionModule(ClusterAction):
    """The action of the module `drift`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Compare the sets, and fail if one is not in sync."""
        drift = examine(self.connect(), args["component"], args["parent_namespace"])
        document, text = drift.document(self.cluster), describe(self.cluster, drift)
        self.publish(document, f"\n{text}\n" if drift.in_sync else "")
        result = {key: document[key] for key in ("components", "strays", "seconds")}
        if drift.in_sync:
            return result | {"msg": "in sync"}
        # publish() has already shown the JSON document.
        text = f"{self.cluster}: not in sync" if args["output"] == "json" else text
        return result | {"failed": True, "msg": text}
