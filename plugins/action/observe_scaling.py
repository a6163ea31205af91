# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Watches an autoscaler react to a load, in the controller's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.health.load import (
    Observer,
    ScalingError,
    Terms,
    as_data,
    observe,
    received_load,
    wait_for_rest,
)
from ..plugin_utils.kube.client import Api, ApiError, KubeconfigError, connect
from ..plugin_utils.kube.prometheus import SERVICES
from ..plugin_utils.report.report import cluster_facts, update_report

# Seconds between two samples.
INTERVAL = 1.0
# Seconds over which Prometheus averages the load that the app received: four scrapes of 5 s.
RECEIVED_WINDOW = 20


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Wait for rest, or observe a load from start to scale-in and report it."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "required": True},
                "namespace": {"type": "str", "required": True},
                "autoscaler": {"type": "str", "required": True},
                "until": {"type": "str", "choices": ["rest", "scaled_in"], "required": True},
                "timeout": {"type": "float", "default": 300.0},
                "job": {"type": "str", "default": ""},
                "rate": {"type": "float", "default": 0.0},
                "weight": {"type": "float", "default": 1.0},
                "duration": {"type": "float", "default": 0.0},
                "hold": {"type": "float", "default": 0.0},
                "series": {"type": "str", "default": ""},
                "report": {"type": "path"},
                "prometheus_flavor": {"type": "str", "choices": [*SERVICES], "default": "operator"},
            }
        )
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "There is no load to observe in check mode."}
        display = Display()

        def say(line: str) -> None:
            display.display(f"  {cluster}: {line}")

        try:
            api = connect(arguments["kubeconfig"])
            observer = Observer(
                api, arguments["namespace"], arguments["autoscaler"], arguments["job"], arguments["weight"]
            )
            if arguments["until"] == "rest":
                wait_for_rest(observer, INTERVAL, arguments["timeout"], say)
                return {"changed": False}
            return self._observe(api, observer, arguments, cluster, say)
        except (ApiError, KubeconfigError, ScalingError, OSError) as error:
            # Without the cause: ansible-core would append its text, which is in the message already.
            raise AnsibleActionFail(f"{cluster}: {error}") from None

    def _observe(
        self, api: Api, observer: Observer, arguments: dict[str, Any], cluster: str, say: Callable[[str], None]
    ) -> dict[str, Any]:
        terms = Terms(arguments["rate"], arguments["duration"], arguments["hold"], arguments["timeout"])

        def stop() -> None:
            say("scaled out and held: ending the load")
            api.delete("batch/v1", "Job", arguments["job"], arguments["namespace"])

        run, failure = observe(observer, terms, INTERVAL, stop, say)
        series = arguments["series"]
        service = SERVICES[arguments["prometheus_flavor"]]
        received = received_load(api, run, series, RECEIVED_WINDOW, 2 * INTERVAL, service) if series else []
        data = as_data(run, terms, received, failure)
        result: dict[str, Any] = {"changed": False, "steps": data["steps"], "demanded": data["demanded"]}
        if arguments["report"]:
            result["report"] = str(update_report(Path(arguments["report"]), cluster, cluster_facts(api), load=data))
        if failure:
            result.update(failed=True, msg=failure)
        return result
