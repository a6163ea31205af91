# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.apply_set: works in the controller's process, documented in the module."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.applyset.apply import ApplySet
from ..plugin_utils.applyset.operation import Assumed, Handover, Options, SharedNamespace
from ..plugin_utils.applyset.outcome import ApplySetError, ForeignError
from ..plugin_utils.applyset.ownership import how_to_adopt
from ..plugin_utils.applyset.revisions import KEPT
from ..plugin_utils.applyset.run_facts import APPLIED_SETS, ASSUMED, applied_sets, facts_of
from ..plugin_utils.apps.scrape_jobs import load_jobs_meanwhile
from ..plugin_utils.common.origin import untagged
from ..plugin_utils.common.runs import run_id
from ..plugin_utils.kube.client import RESTART, ApiError, KubeconfigError, connect
from ..plugin_utils.kube.manifests import DefinitionError, parse_definition
from ..plugin_utils.kube.waiting import NotReadyError

display = Display()

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "parent_namespace": {"type": "str", "default": "kube-system"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "definition": {"type": "raw"},
    "files": {"type": "list", "elements": "path", "default": []},
    "shared_namespaces": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "labels": {"type": "dict", "default": {}}},
    },
    "force_conflicts": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "take_from": {"type": "list", "elements": "str", "default": []},
    "hand_over": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {name: {"type": "str", "required": True} for name in ("kind", "name", "to")},
    },
    "revisions": {"type": "int", "default": KEPT},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 300},
}


class ActionModule(ActionBase):
    """Apply, prune or remove one set of objects."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: changed, objects, revision, diff. Raises AnsibleActionFail for wrong arguments."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        started = time.monotonic()
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if not NAME.fullmatch(args["name"]) or len(args["name"]) > 253:
            raise AnsibleActionFail(
                f"name is {args['name']!r}; it must be lowercase letters, digits, '-' and '.', as it names a ConfigMap"
            )
        if args["wait_timeout"] < 1:
            raise AnsibleActionFail(f"wait_timeout is {args['wait_timeout']}; it must be 1 second or more")
        if args["revisions"] < 0:
            raise AnsibleActionFail(f"revisions is {args['revisions']}; it must be 0 or more")
        check = bool(self._task.check_mode)
        try:
            objects = parse_definition(args["definition"], args["files"]) if args["state"] == "present" else []
            if check and not Path(args["kubeconfig"]).expanduser().exists():
                return result | {"set": args["name"]} | missing_cluster(args["kubeconfig"], args["state"])
            api = connect(args["kubeconfig"], args["context"], RESTART)
            run = run_id(task_vars)
        except (DefinitionError, KubeconfigError, ValueError) as error:
            raise AnsibleActionFail(f"set {args['name']}: {error}") from None
        host = (task_vars or {}).get("inventory_hostname", "")

        def say(text: str) -> None:
            display.display(f"[{host}] {args['name']}: {text}")

        options = Options(
            namespace=args["parent_namespace"],
            check=check,
            diff=bool(self._task.diff),
            force=args["force_conflicts"],
            adopt=args["adopt"],
            timeout=args["wait_timeout"],
            take_from=args["take_from"],
            # In check mode the other set has taken over nothing, but would have if it was applied before.
            hand_over=[
                Handover(**entry, done=check and entry["to"] in (applied_sets(task_vars) or []))
                for entry in args["hand_over"]
            ],
            say=say,
            keep=args["revisions"],
            run=run,
            # In ansible-core 2.18 libyaml refuses the strings of facts.
            assumed=Assumed(**untagged(facts_of(task_vars).get(ASSUMED, {}) if check else {})),
            meanwhile=functools.partial(load_jobs_meanwhile, api, say=say),
        )
        applied = ApplySet(api, args["name"], options)
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
        result["seconds"] = round(time.monotonic() - started, 2)
        if self._task.diff:
            result["diff"] = outcome.diff
        if warnings := [*outcome.warnings, *dict.fromkeys(api.warnings)]:
            result["warnings"] = [f"set {args['name']}: {warning}" for warning in warnings]
        return result


def missing_cluster(kubeconfig: str, state: str) -> dict[str, Any]:
    """Result in check mode when the cluster has not been made yet."""
    text = f"kubeconfig {kubeconfig} does not exist yet: the cluster would be made"
    if state == "absent":
        return {"changed": False, "objects": [], "msg": f"{text}, and there would be nothing to remove"}
    made = {"would_be_made": True, "objects": [], "revision": None}
    return {"changed": True, **made, "msg": f"{text}, and all objects with it"}


def _labels(entry: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in entry["labels"].items()}
