# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.scrape_jobs_loaded: works in the controller's process, documented in the module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.apps.scrape_jobs import PLACES, ScrapeJobsError, load_jobs
from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect
from ..plugin_utils.kube.manifests import DefinitionError, parse_definition
from ..plugin_utils.kube.prometheus import PrometheusError
from ..plugin_utils.kube.waiting import NotReadyError

display = Display()

ARGUMENTS: dict[str, Any] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "definition": {"type": "raw", "required": True},
    "prometheus_flavor": {"type": "str", "choices": [*PLACES], "default": "operator"},
    "wait_timeout": {"type": "int", "default": 120},
}


class ActionModule(ActionBase):
    """Bring the scrape jobs of a definition into a running Prometheus."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: changed, jobs, pods, seconds. Raises AnsibleActionFail when it cannot begin."""
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False, "jobs": [], "pods": []}
        started = time.monotonic()
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if args["wait_timeout"] < 1:
            raise AnsibleActionFail(f"wait_timeout is {args['wait_timeout']}; it must be 1 second or more")
        check = bool(self._task.check_mode)
        if check and not Path(args["kubeconfig"]).expanduser().exists():
            return result | {"msg": "the cluster is not made yet, and its Prometheus starts with all jobs"}
        host = (task_vars or {}).get("inventory_hostname", "")

        def say(text: str) -> None:
            display.display(f"[{host}] {text}")

        try:
            objects = parse_definition(args["definition"])
            api = connect(args["kubeconfig"], args["context"], RESTART)
            flavor, seconds = args["prometheus_flavor"], args["wait_timeout"]
            outcome = load_jobs(api, objects, flavor, check, seconds, say)
            result |= {"changed": bool(outcome.pods), "jobs": outcome.jobs, "pods": outcome.pods}
        except (DefinitionError, KubeconfigError) as error:
            raise AnsibleActionFail(str(error)) from None
        except (ApiError, PrometheusError, ScrapeJobsError, NotReadyError) as error:
            result |= {"failed": True, "msg": str(error)}
        return result | {"seconds": round(time.monotonic() - started, 2)}
