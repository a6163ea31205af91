# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Wait until a cluster is well enough for the next ones to be worked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..plugin_utils.applyset.outcome import ApplySetError
from ..plugin_utils.applyset.ready import wait_for_sets
from ..plugin_utils.apps.model import App
from ..plugin_utils.apps.parse import parse_apps
from ..plugin_utils.common.action import Bound
from ..plugin_utils.fleet import gate, run_record
from ..plugin_utils.fleet.gate import Baseline, Look
from ..plugin_utils.health.checks.nodes import nodes_ready
from ..plugin_utils.health.doctor import examine
from ..plugin_utils.health.examination import HastyReader, circumstances
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import Api, ApiError
from ..plugin_utils.kube.kubeconfig import KubeconfigError
from ..plugin_utils.kube.prometheus import SERVICES, PrometheusError
from ..plugin_utils.kube.waiting import NotReadyError

#: File in the state directory of a cluster with its state before a run. The file goes when the cluster has passed.
BASELINE = "gate.json"
PARENTS = "kube-system"


class ActionModule(ClusterAction):
    """The action of the module `gate`."""

    BOUNDS = (Bound("timeout", least=0), Bound("soak", least=0))

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Note the state of a cluster, or wait until it is well."""
        file = Path(args["state_dir"]) / BASELINE
        if self.check:
            return {"msg": "check mode: not looked, as nothing was changed"}
        apps = parse_apps(args["apps"])
        if args["state"] == "before":
            try:
                return {"msg": note(self.connect(), args, file)}
            except (ApiError, PrometheusError, KubeconfigError) as error:
                # The run reports the error. Its gate is stricter, as every alert that fires counts as new.
                return {"msg": f"what is so before the run is not known: {error}"}
        passed, looks, soak = self.wait(self.connect(), apps, args, file)
        result = {"checks": [asdict(each) for each in looks], "seconds": self.seconds}
        if passed:
            file.unlink(missing_ok=True)
            self.say(f"gate passed: {gate.describe(looks)}")
            return result | {"msg": f"all held for {soak:g} s"}
        wrong = [each for each in looks if not each.ok]
        lines = [f"- {each.name}: {each.evidence}" for each in wrong]
        title = f"Cluster {self.cluster} does not pass its gate, {len(wrong)} of {len(looks)} checks do not hold:"
        return result | {"failed": True, "msg": "\n".join([title, *lines])}

    def wait(
        self, api: Api, apps: Sequence[App], args: Mapping[str, Any], file: Path
    ) -> tuple[bool, Sequence[Look], float]:
        """Wait until the cluster is well. Return the last looks, and the seconds for which they had to hold."""
        baseline = gate.read_baseline(file, identity(api))
        soak = 0.0 if gate.is_unchanged(run_record.current(), self.cluster, baseline) else args["soak"]
        service = SERVICES.get(args["prometheus"])
        hasty = HastyReader(api)

        def ready(patience: float) -> list[Look]:
            count = wait_for_sets(api, None, PARENTS, patience, say)
            return [Look("ready", True, f"{count} objects")]

        def health(_patience: float) -> list[Look]:
            flavor = args["prometheus"] if service else "operator"
            settings = circumstances(api, apps, flavor, self.variables, self._templar.template)
            diagnosis = examine(hasty, apps, settings, [nodes_ready])
            return [gate.look_at_nodes(diagnosis), *([gate.look_at_apps(diagnosis)] if apps else [])]

        def alerts(_patience: float) -> list[Look]:
            now = gate.firing_alerts(hasty, service or "")
            return [gate.look_at_alerts(now, baseline.alerts if baseline else None)]

        def say(text: str) -> None:
            self.say(f"gate: {text}")

        wanted = {"ready": ready, "nodes": health}
        wanted |= {"alerts": alerts} if service else {}

        def look(patience: float) -> list[Look]:
            looks: list[Look] = []
            for name, each in wanted.items():
                try:
                    looks += each(patience)
                except (ApiError, ApplySetError, NotReadyError, PrometheusError) as error:
                    looks.append(Look(name, False, str(error)))
            return looks

        passed, looks = gate.wait_until_all_hold(look, args["timeout"], soak, say)
        return passed, looks, soak


def identity(api: Api) -> str:
    """Return an identifier of a cluster that does not depend on its name."""
    return str(HastyReader(api).raw(f"/api/v1/namespaces/{PARENTS}")["metadata"]["uid"])


def note(api: Api, args: Mapping[str, Any], file: Path) -> str:
    """Write the alerts that fire before a run to a file, and return their number in words."""
    cluster = identity(api)
    known = None if args["fresh"] else gate.read_baseline(file, cluster)
    if known:
        # A run that failed may be why more fires now.
        return f"as noted before a run whose gate did not pass: {len(known.alerts)} alerts"
    service = SERVICES.get(args["prometheus"])
    firing = gate.firing_alerts(HastyReader(api), service) if service else frozenset[str]()
    gate.write_baseline(file, Baseline(cluster, gate.run_of(run_record.current()), firing))
    return f"{len(firing)} alerts fire"
