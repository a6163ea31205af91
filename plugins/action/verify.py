# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Checks every link of a cluster's chain, in the controller's own process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.apps.model import AppError
from ..plugin_utils.apps.parse import parse_apps
from ..plugin_utils.health.examination import circumstances
from ..plugin_utils.health.verify import Result, verify
from ..plugin_utils.kube.client import ApiError, KubeconfigError, connect
from ..plugin_utils.kube.prometheus import SERVICES
from ..plugin_utils.report.report import cluster_facts, update_report


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check, put the result into the report, and fail with every check that does not hold."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "required": True},
                "apps": {"type": "list", "elements": "dict", "required": True},
                "timeout": {"type": "float", "default": 300.0},
                "report": {"type": "path"},
                "prometheus_flavor": {"type": "str", "choices": [*SERVICES], "default": "operator"},
            }
        )
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        only_look = self._task.check_mode
        if only_look and not Path(arguments["kubeconfig"]).expanduser().exists():
            return {
                "changed": False,
                "checks": [],
                "msg": f"Nothing to check: {arguments['kubeconfig']} does not exist yet.",
            }
        display = Display()
        start = time.monotonic()
        try:
            api = connect(arguments["kubeconfig"])
            apps = parse_apps(arguments["apps"])
            settings = circumstances(api, apps, arguments["prometheus_flavor"], variables, self._templar.template)
            results = verify(
                api,
                [] if "hpa" in settings.absent else apps,
                settings,
                # In check mode nothing was applied, so there is nothing to wait for.
                0 if only_look else arguments["timeout"],
                lambda line: display.display(f"  verify {cluster}: {line}"),
            )
            results = [with_kubeconfig(result, arguments["kubeconfig"]) for result in results]
            seconds = round(time.monotonic() - start, 2)
            failed = [result for result in results if not result.ok]
            outcome: dict[str, Any] = {
                "changed": False,
                "checks": [
                    {name: getattr(result, name) for name in ("id", "title", "ok", "evidence", "seconds")}
                    for result in results
                ],
                "seconds": seconds,
                "msg": f"{len(results) - len(failed)} of {len(results)} checks hold, after {seconds:.1f} s",
            }
            if arguments["report"] and not only_look:
                verified = {
                    "finished": time.time(),
                    "seconds": seconds,
                    "checks": [result.as_dict() for result in results],
                }
                outcome["report"] = str(
                    update_report(Path(arguments["report"]), cluster, cluster_facts(api), verify=verified)
                )
        except (ApiError, AppError, KubeconfigError, OSError) as error:
            # Without the cause: ansible-core would append its text, which is in the message already.
            raise AnsibleActionFail(f"verify {cluster}: {error}") from None
        if failed and only_look:
            # Not a warning: those are shown with the task's result, which a quiet configuration leaves out.
            display.display(describe(cluster, failed, len(results)), color="yellow")
        elif failed:
            outcome.update(failed=True, msg=describe(cluster, failed, len(results)))
        return outcome


def with_kubeconfig(result: Result, path: str) -> Result:
    """Return a result whose next step can be copied into a shell: its commands name the cluster's kubeconfig."""
    return replace(result, next=result.next.replace("kubectl ", f"kubectl --kubeconfig {path} "))


def describe(cluster: str, failed: Sequence[Result], count: int) -> str:
    """Return every failed check for a person: evidence, why it matters, and the next step."""
    lines = [f"{len(failed)} of {count} checks of {cluster} do not hold:"]
    for result in failed:
        lines += [
            f"- {result.title} ({result.id})",
            f"    seen: {result.evidence}",
            f"    why it matters: {result.reason}",
            f"    next: {result.next}",
        ]
    return "\n".join(lines)
