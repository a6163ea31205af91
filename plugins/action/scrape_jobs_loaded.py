# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Bring the scrape jobs of a definition into a running Prometheus."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.apps.scrape_jobs import load_jobs
from ..plugin_utils.common.action import Bound
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART
from ..plugin_utils.kube.manifests import parse_definition


class ActionModule(ClusterAction):
    """The action of the module `scrape_jobs_loaded`."""

    BOUNDS = (Bound("wait_timeout", least=1),)

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Load the jobs and return their names and the pods that lacked them."""
        self.result |= {"jobs": [], "pods": []}
        if self.check and not self.is_made:
            return {"msg": "the cluster is not made yet, and its Prometheus starts with all jobs"}
        objects = parse_definition(args["definition"])
        flavor, timeout = args["prometheus_flavor"], args["wait_timeout"]
        outcome = load_jobs(self.connect(RESTART), objects, flavor, self.check, timeout, self.say)
        return {"changed": bool(outcome.pods), "jobs": outcome.jobs, "pods": outcome.pods, "seconds": self.seconds}
