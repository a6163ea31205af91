# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Draw the panels of the dashboards into a cluster's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..plugin_utils.common.action import Bound, display
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.prometheus import SERVICES
from ..plugin_utils.report.panels import collect
from ..plugin_utils.report.report import cluster_facts, update_report


class ActionModule(ClusterAction):
    """The action of the module `report`."""

    # With more than 90 minutes the points of a drawing are further apart than the windows of rate().
    BOUNDS = (Bound("minutes", least=1, most=90),)

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the queries of all panels, and write the report."""
        if self.check:
            return {"skipped": True, "msg": "No report is written in check mode."}
        api = self.connect()
        panels = collect(api, SERVICES[args["prometheus_flavor"]], args["minutes"])
        page = update_report(Path(args["report"]), self.cluster, cluster_facts(api), panels=panels)
        text = f"{panels['queries']} queries within {panels['seconds']} s"
        display.display(f"  {self.cluster}: {text}, {page}")
        return {"report": str(page), "queries": panels["queries"], "seconds": panels["seconds"], "msg": text}
