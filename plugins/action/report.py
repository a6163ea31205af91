# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Draws the panels of the dashboards into a cluster's report, in the controller's own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.kube.client import ApiError, KubeconfigError, connect
from ..plugin_utils.kube.prometheus import SERVICES, PrometheusError
from ..plugin_utils.report.panels import collect
from ..plugin_utils.report.report import cluster_facts, update_report

# Minutes that a drawing may show: beyond, its points are further apart than the windows of the rates.
LEAST = 1
MOST = 90


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask every query of every panel, and write the report."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "required": True},
                "report": {"type": "path", "required": True},
                "minutes": {"type": "int", "default": 15},
                "prometheus_flavor": {"type": "str", "choices": [*SERVICES], "default": "operator"},
            }
        )
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        minutes = arguments["minutes"]
        if not LEAST <= minutes <= MOST:
            raise AnsibleActionFail(f"report_minutes is {minutes} (allowed: {LEAST} to {MOST})")
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "No report is written in check mode."}
        try:
            api = connect(arguments["kubeconfig"])
            panels = collect(api, SERVICES[arguments["prometheus_flavor"]], minutes)
            page = update_report(Path(arguments["report"]), cluster, cluster_facts(api), panels=panels)
        except (ApiError, KubeconfigError, PrometheusError, OSError) as error:
            # Without the cause: ansible-core would append its text, which is in the message already.
            raise AnsibleActionFail(f"{cluster}: {error}") from None
        Display().display(f"  {cluster}: {panels['queries']} queries within {panels['seconds']} s, {page}")
        return {
            "changed": False,
            "report": str(page),
            "queries": panels["queries"],
            "seconds": panels["seconds"],
            "msg": f"{panels['queries']} queries within {panels['seconds']} s",
        }
