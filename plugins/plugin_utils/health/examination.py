# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What an examination needs of its surroundings: settings, clocks, and an API that answers in time."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..kube.client import Api, Event, Value
from ..kube.prometheus import SERVICES
from ..kube.transport import CONNECT_TIMEOUT
from .cluster import Seen
from .settings import CUSTOM_API, EXTERNAL_API, RESOURCE_API, Settings

#: Seconds within which an answer has to come: a doctor tells of a server that hangs, and does not wait for it.
PATIENCE = 10.0


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
