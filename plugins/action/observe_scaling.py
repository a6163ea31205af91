# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Watch an autoscaler react to a load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..plugin_utils.common.action import display
from ..plugin_utils.health.load import (
    Observer,
    Terms,
    as_data,
    observe,
    received_load,
    wait_for_rest,
)
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import Api
from ..plugin_utils.kube.prometheus import SERVICES
from ..plugin_utils.report.report import cluster_facts, update_report

# Seconds between two samples.
INTERVAL = 1.0
# Seconds over which Prometheus averages the load that the app received: four scrapes of 5 s.
RECEIVED_WINDOW = 20


class ActionModule(ClusterAction):
    """The action of the module `observe_scaling`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Wait for rest, or observe a load from its start to the first scale-in and report it."""
        if self.check:
            return {"skipped": True, "msg": "There is no load to observe in check mode."}

        def say(line: str) -> None:
            display.display(f"  {self.cluster}: {line}")

        api = self.connect()
        observer = Observer(api, args["namespace"], args["autoscaler"], args["job"], args["weight"])
        if args["until"] == "rest":
            wait_for_rest(observer, INTERVAL, args["timeout"], say)
            return {}
        return self._observe(api, observer, args, say)

    def _observe(
        self, api: Api, observer: Observer, args: dict[str, Any], say: Callable[[str], None]
    ) -> dict[str, Any]:
        terms = Terms(args["rate"], args["duration"], args["hold"], args["timeout"])

        def stop() -> None:
            say("scaled out and held: ending the load")
            api.delete("batch/v1", "Job", args["job"], args["namespace"])

        run, failure = observe(observer, terms, INTERVAL, stop, say)
        series = args["series"]
        service = SERVICES[args["prometheus_flavor"]]
        received = received_load(api, run, series, RECEIVED_WINDOW, 2 * INTERVAL, service) if series else []
        data = as_data(run, terms, received, failure)
        result: dict[str, Any] = {"steps": data["steps"], "demanded": data["demanded"]}
        if args["report"]:
            result["report"] = str(update_report(Path(args["report"]), self.cluster, cluster_facts(api), load=data))
        if failure:
            result.update(failed=True, msg=failure)
        return result
