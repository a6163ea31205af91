# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Take the lease of a cluster for this run."""

from __future__ import annotations

import os
from typing import Any

from ansible import constants

from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.fleet.lease import DURATION, UNATTENDED_DURATION, check, take, this_run
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART, ApiError
from ..plugin_utils.kube.kubeconfig import KubeconfigError

CALLBACK = "kubescale.fleet.leases"


class ActionModule(ClusterAction):
    """The action of the module `lease`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the lease for the callback that renews it."""
        cluster, required = args["cluster"], args["required"]
        if not required and not self.is_made:
            return {"msg": f"cluster {cluster} is not made yet"}
        attended = CALLBACK in constants.CALLBACKS_ENABLED
        try:
            api = self.connect(RESTART if required else 0)
            if self.check:
                if other := check(api, cluster, args["renamed_from"]):
                    self.warn(f"{other} works on this cluster now.")
                return {}
            # Workers of a run are children of its main process.
            holder = this_run(os.getppid())
            held = take(api, cluster, holder, DURATION if attended else UNATTENDED_DURATION, args["renamed_from"])
        except (ApiError, KubeconfigError) as error:
            if not required and getattr(error, "status", 0) == 0:
                return {"msg": f"cluster {cluster} does not answer yet: {error}"}
            raise FleetError(f"the lease cannot be taken: {error}") from None
        if not attended:
            self.warn(
                f"callbacks_enabled in ansible.cfg lacks {CALLBACK}, so nothing ends the lease of this cluster with "
                f"it: a run on another machine is refused for {UNATTENDED_DURATION // 60} minutes."
            )
        where = {"kubeconfig": args["kubeconfig"], "context": args["context"]}
        return {"lease": {"cluster": cluster, **where, "ahead": held.ahead}}
