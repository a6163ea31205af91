# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Show where the chain from an app to its autoscaler breaks."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.apps.parse import parse_apps
from ..plugin_utils.health.doctor import choose, describe, examine
from ..plugin_utils.health.examination import HastyReader, circumstances
from ..plugin_utils.kube.action import ClusterAction


class ActionModule(ClusterAction):
    """The action of the module `doctor`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Examine the apps and the cluster, and fail if something is not healthy."""
        apps = parse_apps(args["apps"])
        chosen = choose(apps, args["app"])
        api = self.connect()
        settings = circumstances(api, apps, args["prometheus_flavor"], self.variables, self._templar.template)
        diagnosis = examine(HastyReader(api), chosen, settings)
        text = describe(self.cluster, diagnosis, detailed=bool(args["app"]))
        ill = {
            patient.name or "cluster": patient.diagnosis.cause if patient.diagnosis else patient.state
            for patient in diagnosis.ill
        }
        self.publish(diagnosis.document(self.cluster), "" if ill else f"\n{text}\n")
        result = {"seconds": diagnosis.seconds, "ill": ill}
        if not ill:
            return result | {"msg": "healthy"}
        if args["output"] == "json":
            # The document has been shown already.
            text = f"{self.cluster}: {', '.join(f'{name} ({cause})' for name, cause in ill.items())}"
        return result | {"failed": True, "msg": text}
