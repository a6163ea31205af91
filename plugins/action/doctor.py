# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Says where the chain from an app to its autoscaler breaks, in the controller's own process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.apps.model import AppError
from ..plugin_utils.apps.parse import parse_apps
from ..plugin_utils.common.output import OUTPUT_OPTIONS, write_document
from ..plugin_utils.health.doctor import (
    Diagnosis,
    UnknownAppError,
    choose,
    describe,
    examine,
)
from ..plugin_utils.health.examination import HastyReader, circumstances
from ..plugin_utils.kube.client import (
    ApiError,
    KubeconfigError,
    connect,
)


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Examine, tell, and fail if something is not healthy."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "required": True},
                "apps": {"type": "list", "elements": "dict", "required": True},
                "app": {"type": "list", "elements": "str", "default": []},
                "prometheus_flavor": {"type": "str", "choices": ["operator", "standalone"], "default": "operator"},
                **OUTPUT_OPTIONS,
            }
        )
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        try:
            apps = parse_apps(arguments["apps"])
            chosen = choose(apps, arguments["app"])
            api = connect(arguments["kubeconfig"])
            settings = circumstances(api, apps, arguments["prometheus_flavor"], variables, self._templar.template)
            diagnosis = examine(HastyReader(api), chosen, settings)
            write_document(arguments["file"], diagnosis.document(cluster))
        except (ApiError, AppError, KubeconfigError, UnknownAppError, OSError) as error:
            raise AnsibleActionFail(f"doctor {cluster}: {error}") from None
        return told(cluster, diagnosis, arguments)


def told(cluster: str, diagnosis: Diagnosis, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Show what was found in the form that was asked for; the result fails unless everything is healthy."""
    text = describe(cluster, diagnosis, detailed=bool(arguments["app"]))
    ill = {
        patient.name or "cluster": patient.diagnosis.cause if patient.diagnosis else patient.state
        for patient in diagnosis.ill
    }
    if arguments["output"] == "json":
        Display().display(json.dumps(diagnosis.document(cluster)))
        text = f"{cluster}: {', '.join(f'{name} ({cause})' for name, cause in ill.items())}" if ill else ""
    elif not ill:
        Display().display(f"\n{text}\n")
    result = {"changed": False, "seconds": diagnosis.seconds, "ill": ill}
    return {**result, "failed": True, "msg": text} if ill else {**result, "msg": "healthy"}
