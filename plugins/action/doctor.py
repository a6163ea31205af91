# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Says where the chain from an app to its autoscaler breaks, in the controller's own process."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubescale.fleet.plugins.module_utils.apps import AppError, parse_apps
from ansible_collections.kubescale.fleet.plugins.module_utils.doctor import (
    Diagnosis,
    UnknownAppError,
    choose,
    describe,
    examine,
)
from ansible_collections.kubescale.fleet.plugins.module_utils.doctor_cluster import Seen
from ansible_collections.kubescale.fleet.plugins.module_utils.doctor_facts import (
    CUSTOM_API,
    EXTERNAL_API,
    RESOURCE_API,
    Settings,
)
from ansible_collections.kubescale.fleet.plugins.module_utils.documents import OUTPUT_OPTIONS, write_document
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import (
    CONNECT_TIMEOUT,
    Api,
    ApiError,
    Event,
    KubeconfigError,
    Value,
    connect,
)
from ansible_collections.kubescale.fleet.plugins.module_utils.prometheus import SERVICES

#: Seconds within which an answer has to come: a doctor tells of a server that hangs, and does not wait for it.
PATIENCE = 10.0


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
            apps = choose(parse_apps(arguments["apps"]), arguments["app"])
            api = connect(arguments["kubeconfig"])
            settings, seen = circumstances(api, arguments["prometheus_flavor"], variables, self._templar.template)
            diagnosis = examine(HastyReader(api), apps, settings, seen)
            write_document(arguments["file"], diagnosis.document(cluster))
        except (ApiError, AppError, KubeconfigError, UnknownAppError, OSError) as error:
            raise AnsibleActionFail(f"doctor {cluster}: {error}") from None
        return told(cluster, diagnosis, arguments)


def circumstances(
    api: Api, flavor: str, variables: Mapping[str, Any], template: Callable[[Any], Any]
) -> tuple[Settings, Seen]:
    """What is the same for all that is examined, and what only the controller can see.

    ``flavor`` is how Prometheus is run, ``variables`` are those of the cluster's host, ``template`` resolves a value.
    """

    def variable(name: str, default: str) -> str:
        return str(template(variables.get(name, default)))

    now = datetime.datetime.now(datetime.UTC)
    server_now = api.clock()  # the first request: an API server that is out of reach ends it here
    adapter = "prometheus_adapter" if variable("prometheus_adapter_state", "present") == "present" else ""
    server = "metrics_server" if variable("metrics_server_state", "present") == "present" else ""
    owners = {
        RESOURCE_API: adapter if variable("resource_metrics_owner", "metrics_server") == "adapter" else server,
        CUSTOM_API: adapter,
        EXTERNAL_API: adapter if variable("external_metrics_owner", "adapter") == "adapter" else "",
    }
    settings = Settings(server_now or now, SERVICES[flavor], flavor, owners)
    return settings, Seen(now, server_now, server_certificate(api.server))


class HastyReader:
    """The cluster's API, with a short time for each answer."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def raw(self, path: str) -> Value:
        """See ``Api.raw``."""
        return self.api.raw(path, timeout=PATIENCE)

    def watch(self, api_version: str, kind: str, *, resource_version: str, timeout: float) -> Iterator[Event]:
        """See ``Api.watch``."""
        return self.api.watch(api_version, kind, resource_version=resource_version, timeout=timeout)


def server_certificate(url: str) -> str | None:
    """Certificate (PEM) of an API server, None when it is not to be had: over a proxy, or without TLS."""
    address = urlsplit(url)
    if address.scheme != "https" or not address.hostname:
        return None
    try:
        return ssl.get_server_certificate((address.hostname, address.port or 443), timeout=CONNECT_TIMEOUT)
    except OSError:
        return None


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
