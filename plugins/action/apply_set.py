# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Apply, prune or remove one set of objects."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleActionFail

from ..plugin_utils.applyset.apply import ApplySet
from ..plugin_utils.applyset.operation import Assumed, Handover, Options, SharedNamespace
from ..plugin_utils.applyset.outcome import ApplySetError, ForeignError
from ..plugin_utils.applyset.ownership import how_to_adopt
from ..plugin_utils.applyset.run_facts import APPLIED_SETS, ASSUMED, applied_sets, facts_of
from ..plugin_utils.apps.scrape_jobs import load_jobs_meanwhile
from ..plugin_utils.common.action import Bound
from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.common.origin import untagged
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART, Api, ApiError
from ..plugin_utils.kube.manifests import DefinitionError, parse_definition
from ..plugin_utils.kube.waiting import NotReadyError

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class ActionModule(ClusterAction):
    """The action of the module `apply_set`."""

    BOUNDS = (Bound("wait_timeout", least=1), Bound("revisions", least=0))

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Apply or remove the set, and return what changed."""
        if not NAME.fullmatch(args["name"]) or len(args["name"]) > 253:
            raise AnsibleActionFail(
                f"name is {args['name']!r}; it must be lowercase letters, digits, '-' and '.', as it names a ConfigMap"
            )
        check = self.check
        try:
            objects = parse_definition(args["definition"], args["files"]) if args["state"] == "present" else []
            if check and not self.is_made:
                return {"set": args["name"]} | missing_cluster(args["kubeconfig"], args["state"])
            api, run = self.connect(RESTART), self.run_id
        except FleetError as error:
            raise AnsibleActionFail(f"set {args['name']}: {error}") from None
        task_vars = self.variables
        result: dict[str, Any] = {}
        applied = ApplySet(api, args["name"], self._options(args, api, run))
        try:
            if args["state"] == "absent":
                applied.remove()
            else:
                shared = [SharedNamespace(entry["name"], _labels(entry)) for entry in args["shared_namespaces"]]
                applied.apply(objects, shared, args["wait"])
        except ForeignError as error:
            advice = how_to_adopt(self._task._role.get_name(include_role_fqcn=False) if self._task._role else None)
            result |= {"failed": True, "msg": f"set {args['name']}: {error}\n{advice}", "foreign": error.objects}
        except (ApplySetError, DefinitionError, NotReadyError, ApiError) as error:
            result |= {"failed": True, "msg": f"set {args['name']}: {error}"}
        outcome = applied.outcome
        result |= {
            "set": args["name"],
            "changed": outcome.changed,
            "objects": outcome.objects,
            "unused": outcome.unused,
            "revision": outcome.revision,
        }
        others = [name for name in applied_sets(task_vars) or [] if name != args["name"]]
        result["ansible_facts"] = {APPLIED_SETS: others if args["state"] == "absent" else [*others, args["name"]]}
        if check or ASSUMED in facts_of(task_vars):
            result["ansible_facts"][ASSUMED] = asdict(applied.assumed()) if check else {}
        result["seconds"] = self.seconds
        if self.diff:
            result["diff"] = outcome.diff
        if warnings := [*outcome.warnings, *dict.fromkeys(api.warnings)]:
            result["warnings"] = [f"set {args['name']}: {warning}" for warning in warnings]
        return result

    def _options(self, args: dict[str, Any], api: Api, run: str) -> Options:
        """Return the options of the set."""

        def say(text: str) -> None:
            self.say(f"{args['name']}: {text}")

        return Options(
            namespace=args["parent_namespace"],
            check=self.check,
            diff=self.diff,
            force=args["force_conflicts"],
            adopt=args["adopt"],
            timeout=args["wait_timeout"],
            take_from=args["take_from"],
            # In check mode the other set has taken over nothing, but would have if it was applied before.
            hand_over=[
                Handover(**entry, done=self.check and entry["to"] in (applied_sets(self.variables) or []))
                for entry in args["hand_over"]
            ],
            say=say,
            keep=args["revisions"],
            run=run,
            # In ansible-core 2.18 libyaml refuses the strings of facts.
            assumed=Assumed(**untagged(facts_of(self.variables).get(ASSUMED, {}) if self.check else {})),
            meanwhile=functools.partial(load_jobs_meanwhile, api, say=say),
        )


def missing_cluster(kubeconfig: str, state: str) -> dict[str, Any]:
    """Return the result in check mode for a cluster that does not exist yet."""
    text = f"kubeconfig {kubeconfig} does not exist yet: the cluster would be made"
    if state == "absent":
        return {"changed": False, "objects": [], "msg": f"{text}, and there would be nothing to remove"}
    made = {"would_be_made": True, "objects": [], "revision": None}
    return {"changed": True, **made, "msg": f"{text}, and all objects with it"}


def _labels(entry: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in entry["labels"].items()}
