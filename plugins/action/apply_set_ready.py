# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Wait until all objects of sets are ready."""

from __future__ import annotations

import functools
from typing import Any

from ..plugin_utils.applyset.ready import wait_for_sets
from ..plugin_utils.applyset.run_facts import applied_sets
from ..plugin_utils.apps.scrape_jobs import load_jobs_meanwhile
from ..plugin_utils.common.action import Bound
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART


class ActionModule(ClusterAction):
    """The action of the module `apply_set_ready`."""

    BOUNDS = (Bound("wait_timeout", least=1),)

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Wait, and return the number of objects."""
        if self.check:
            # Nothing was applied, so there is nothing to become ready; apply_set predicted what is missing.
            return {"msg": f"check mode: {'not waited' if self.is_made else 'the cluster is not made yet'}"}
        # Sets that this run did not touch may have other reasons for not being ready.
        names = args["names"] if args["names"] is not None else applied_sets(self.variables)
        api = self.connect(RESTART)
        meanwhile = functools.partial(load_jobs_meanwhile, api, say=self.say)
        members = wait_for_sets(api, names, args["parent_namespace"], args["wait_timeout"], self.say, meanwhile)
        return {"members": members, "seconds": self.seconds}
