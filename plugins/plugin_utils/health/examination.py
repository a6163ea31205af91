# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The circumstances of an examination: settings, clocks, and an API that answers in time."""

from __future__ import annotations

import datetime
import functools
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ..apps.model import App
from ..apps.rules import adapter_config
from ..common.components import COMPONENTS, describe_cluster
from ..kube.client import Api, Event, Value
from ..kube.prometheus import SERVICES
from ..kube.transport import CONNECT_TIMEOUT
from .settings import CUSTOM_API, EXTERNAL_API, RESOURCE_API, Case, Seen, Settings

#: Seconds after which an answer times out: a doctor reports a server that hangs, and does not wait for it.
PATIENCE = 10.0


def circumstances(
    api: Api, apps: Sequence[App], flavor: str, variables: Mapping[str, Any], template: Callable[[Any], Any]
) -> Settings:
    """Return the settings of an examination. Raise ApiError if the API server cannot be reached.

    ``flavor`` is how Prometheus is run, ``variables`` are those of the cluster's host, ``template`` resolves a value.
    """

    def variable(name: str, default: Any) -> Any:  # noqa: ANN401 - whatever a variable holds
        return template(variables[name]) if name in variables else default

    now = datetime.datetime.now(datetime.UTC)
    server_now = api.clock()
    cluster = describe_cluster(variables, template)
    absent = frozenset(component.role for component in COMPONENTS).difference(cluster.present)
    adapter = "" if "prometheus_adapter" in absent else "prometheus_adapter"
    owners = {
        RESOURCE_API: "" if cluster.resource_metrics in absent else cluster.resource_metrics,
        CUSTOM_API: adapter,
        EXTERNAL_API: adapter if cluster.external_metrics else "",
    }
    # Without a rule the adapter serves no API.
    rules = adapter_config(apps, variable("prometheus_adapter_rules", []))
    needed = {RESOURCE_API: True, CUSTOM_API: rules["rules"], EXTERNAL_API: rules["externalRules"]}
    settings = Settings(
        server_now or now,
        SERVICES[flavor],
        flavor,
        owners,
        Seen(now, server_now, functools.cache(lambda: server_certificate(api.server))),
        served=frozenset(group for group, owner in owners.items() if owner and needed[group]),
        machines=(*variable("cluster_control_plane", []), *variable("cluster_workers", [])),
        absent=absent,
        certificate_days=int(variable("verify_certificate_days", 14)),
    )
    return replace(settings, pools=frozenset(Case.of(app, settings).pool for app in apps))


class HastyReader:
    """The cluster's API, with a short timeout for each answer."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def raw(self, path: str) -> Value:
        """See ``Api.raw``."""
        return self.api.raw(path, timeout=PATIENCE)

    def watch(self, api_version: str, kind: str, *, resource_version: str, timeout: float) -> Iterator[Event]:
        """See ``Api.watch``."""
        return self.api.watch(api_version, kind, resource_version=resource_version, timeout=timeout)


def server_certificate(url: str) -> str | None:
    """Return the certificate (PEM) of an API server, or None if it cannot be read: over a proxy, or without TLS."""
    address = urlsplit(url)
    if address.scheme != "https" or not address.hostname:
        return None
    try:
        return ssl.get_server_certificate((address.hostname, address.port or 443), timeout=CONNECT_TIMEOUT)
    except OSError:
        return None
