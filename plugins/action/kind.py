# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Makes or removes a kind cluster, in the controller's process."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.apps.sample_apps import sample_app_names
from ..plugin_utils.artifacts.cache import Cache
from ..plugin_utils.artifacts.pins import ArtifactError, machine_architecture, versioned_pins
from ..plugin_utils.common.paths import cache_directory
from ..plugin_utils.kube.client import ApiError, KubeconfigError
from ..plugin_utils.machines.kind import Kind, KindError, find_engine
from ..plugin_utils.machines.sandbox import SandboxError


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the cluster into the wanted state and say what was done."""
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "cluster": {"type": "str", "required": True},
                "kubeconfig": {"type": "path", "required": True},
                "state_dir": {"type": "path", "required": True},
                "image": {"type": "str", "default": ""},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "versions": {"type": "dict", "default": {}},
                "sample_apps": {"type": "raw", "default": []},
            }
        )
        check, state = self._task.check_mode, Path(arguments["state_dir"])
        try:
            pins = versioned_pins(arguments["versions"], sample_app_names(arguments["sample_apps"]))
            kind = Kind(
                arguments["cluster"],
                Path(arguments["kubeconfig"]),
                state,
                find_engine(state / "containers.conf"),
                Cache(cache_directory(), pins, machine_architecture()),
                arguments["image"],
                Display().display,
            )
            with contextlib.nullcontext() if check else kind.alone():
                done = kind.absent(check) if arguments["state"] == "absent" else kind.present(check)
            # Nodes that would be made or started cannot be looked at.
            nodes = [] if check and (done.get("created") or done.get("started")) else kind.described()
        except (KindError, SandboxError, ArtifactError, ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(str(error)) from error
        lines = "".join(f"{key}: {', '.join(values)}\n" for key, values in done.items() if values)
        return {"changed": bool(lines), "done": done, "nodes": nodes, "diff": {"before": "", "after": lines}}
