# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Check every link of a cluster's chain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..plugin_utils.apps.parse import parse_apps
from ..plugin_utils.common.action import display
from ..plugin_utils.health.examination import circumstances
from ..plugin_utils.health.verify import Result, verify
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.report.report import cluster_facts, update_report


class ActionModule(ClusterAction):
    """The action of the module `verify`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the checks, write their results into the report, and fail if one does not hold."""
        if self.check and not self.is_made:
            return {"checks": [], "msg": f"Nothing to check: {args['kubeconfig']} does not exist yet."}
        api, apps = self.connect(), parse_apps(args["apps"])
        settings = circumstances(api, apps, args["prometheus_flavor"], self.variables, self._templar.template)
        results = verify(
            api,
            [] if "hpa" in settings.absent else apps,
            settings,
            # In check mode nothing was applied, so there is nothing to wait for.
            0 if self.check else args["timeout"],
            lambda line: display.display(f"  verify {self.cluster}: {line}"),
        )
        results = [with_kubeconfig(result, args["kubeconfig"]) for result in results]
        seconds, count = self.seconds, len(results)
        failed = [result for result in results if not result.ok]
        outcome: dict[str, Any] = {
            "checks": [
                {name: getattr(result, name) for name in ("id", "title", "ok", "evidence", "seconds")}
                for result in results
            ],
            "seconds": seconds,
            "msg": f"{count - len(failed)} of {count} checks hold, after {seconds:.1f} s",
        }
        if args["report"] and not self.check:
            checks = [result.as_dict() for result in results]
            verified = {"finished": time.time(), "seconds": seconds, "checks": checks}
            page = update_report(Path(args["report"]), self.cluster, cluster_facts(api), verify=verified)
            outcome["report"] = str(page)
        if failed and self.check:
            # Not a warning: those are shown with the task's result, which a quiet configuration leaves out.
            display.display(describe(self.cluster, failed, count), color="yellow")
        elif failed:
            outcome |= {"failed": True, "msg": describe(self.cluster, failed, count)}
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
