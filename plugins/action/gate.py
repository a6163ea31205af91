# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.gate: works in the controller's process, documented in the module."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.applyset.outcome import ApplySetError
from ..plugin_utils.applyset.ready import wait_for_sets
from ..plugin_utils.apps.model import App, AppError
from ..plugin_utils.apps.parse import parse_apps
from ..plugin_utils.fleet import gate, run_record
from ..plugin_utils.fleet.gate import Baseline, Look
from ..plugin_utils.health.checks.nodes import nodes_ready
from ..plugin_utils.health.doctor import Diagnosis, examine
from ..plugin_utils.health.examination import HastyReader, circumstances
from ..plugin_utils.kube.client import Api, ApiError, KubeconfigError, connect
from ..plugin_utils.kube.prometheus import SERVICES, PrometheusError
from ..plugin_utils.kube.waiting import NotReadyError

display = Display()

#: File in the state directory of a cluster with what was so before; it goes when the cluster has passed.
BASELINE = "gate.json"
PARENTS = "kube-system"
ARGUMENTS: dict[str, Any] = {
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "state": {"type": "str", "choices": ["before", "passed"], "default": "passed"},
    "apps": {"type": "list", "elements": "dict", "default": []},
    "prometheus": {"type": "str", "choices": [*SERVICES, "none"], "default": "operator"},
    "state_dir": {"type": "path", "required": True},
    "timeout": {"type": "float", "default": 120.0},
    "soak": {"type": "float", "default": 60.0},
    "fresh": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Note how a cluster is, or wait until it is well."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: checks, seconds. Raises AnsibleActionFail for wrong arguments."""
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False}
        started = time.monotonic()
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if args["timeout"] < 0 or args["soak"] < 0:
            raise AnsibleActionFail(
                f"timeout is {args['timeout']:g} and soak {args['soak']:g}; both must be 0 seconds or more"
            )
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        file = Path(args["state_dir"]) / BASELINE
        if self._task.check_mode:
            return result | {"msg": "check mode: not looked, as nothing was changed"}
        try:
            apps = parse_apps(args["apps"])
            api = connect(args["kubeconfig"], args["context"])
            if args["state"] == "before":
                return result | {"msg": note(api, args, file)}
            passed, looks, soak = self.wait(api, cluster, apps, args, file, variables)
        except (ApiError, PrometheusError, KubeconfigError) as error:
            if args["state"] == "before":
                # What is wrong is for the run to say; that nothing is known of before makes its gate stricter.
                return result | {"msg": f"what is so before the run is not known: {error}"}
            raise AnsibleActionFail(f"gate of {cluster}: {error}") from None
        except (AppError, OSError) as error:
            raise AnsibleActionFail(f"gate of {cluster}: {error}") from None
        result |= {"checks": [asdict(each) for each in looks], "seconds": round(time.monotonic() - started, 2)}
        if passed:
            file.unlink(missing_ok=True)
            display.display(f"[{cluster}] gate passed: {gate.describe(looks)}")
            return result | {"msg": f"all held for {soak:g} s"}
        wrong = [each for each in looks if not each.ok]
        lines = [f"- {each.name}: {each.evidence}" for each in wrong]
        title = f"Cluster {cluster} does not pass its gate, {len(wrong)} of {len(looks)} checks do not hold:"
        return result | {"failed": True, "msg": "\n".join([title, *lines])}

    def wait(
        self, api: Api, cluster: str, apps: Sequence[App], args: Mapping[str, Any], file: Path,
        variables: Mapping[str, Any],
    ) -> tuple[bool, Sequence[Look], float]:  # fmt: skip
        """Wait until the cluster is well; gives the last looks, and for how many seconds they had to hold."""
        baseline = gate.read_baseline(file, identity(api))
        soak = 0.0 if gate.is_unchanged(run_record.current(), cluster, baseline) else args["soak"]
        service = SERVICES.get(args["prometheus"])
        hasty = HastyReader(api)

        def ready(patience: float) -> Look:
            count = wait_for_sets(api, None, PARENTS, patience, say)
            return Look("ready", True, f"{count} objects")

        def diagnose(chosen: Sequence[App]) -> Diagnosis:
            flavor = args["prometheus"] if service else "operator"
            settings = circumstances(api, apps, flavor, variables, self._templar.template)
            return examine(hasty, chosen, settings, [nodes_ready])

        def nodes(_patience: float) -> Look:
            return gate.look_at_nodes(diagnose([]))

        def scaling(_patience: float) -> Look:
            return gate.look_at_apps(diagnose(apps))

        def alerts(_patience: float) -> Look:
            now = gate.firing_alerts(hasty, service or "")
            return gate.look_at_alerts(now, baseline.alerts if baseline else None)

        def say(text: str) -> None:
            display.display(f"[{cluster}] gate: {text}")

        wanted = {"ready": ready, "nodes": nodes}
        wanted |= {"apps": scaling} if apps else {}
        wanted |= {"alerts": alerts} if service else {}

        def look(patience: float) -> list[Look]:
            looks = []
            for name, each in wanted.items():
                try:
                    looks.append(each(patience))
                except (ApiError, ApplySetError, NotReadyError, PrometheusError) as error:
                    looks.append(Look(name, False, str(error)))
            return looks

        passed, looks = gate.wait_until_all_hold(look, args["timeout"], soak, say)
        return passed, looks, soak


def identity(api: Api) -> str:
    """What tells one cluster from another, whatever it is called."""
    return str(HastyReader(api).raw(f"/api/v1/namespaces/{PARENTS}")["metadata"]["uid"])


def note(api: Api, args: Mapping[str, Any], file: Path) -> str:
    """Note what is so before a run; return that in words."""
    cluster = identity(api)
    known = None if args["fresh"] else gate.read_baseline(file, cluster)
    if known:
        # A run that failed may be why more fires now.
        return f"as noted before a run whose gate did not pass: {len(known.alerts)} alerts"
    service = SERVICES.get(args["prometheus"])
    firing = gate.firing_alerts(HastyReader(api), service) if service else frozenset[str]()
    gate.write_baseline(file, Baseline(cluster, gate.run_of(run_record.current()), firing))
    return f"{len(firing)} alerts fire"
