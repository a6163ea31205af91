# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The chain: the links of an app in the order in which a metric travels, and the links of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checks.adapter import discovered
from .checks.apis import apiservice, apiservices_available, owners, resource_metrics
from .checks.autoscaler import hpa, limits
from .checks.certificates import certificates
from .checks.clock import clock
from .checks.endpoints import endpoints
from .checks.monitoring import alertmanager, grafana, prometheus_ready, prometheus_targets
from .checks.nodes import nodes_ready, workloads_available
from .checks.pods import pods, requests
from .checks.scrape import scrape
from .checks.series import series
from .checks.target import target
from .checks.values import values
from .checks.workload import workload
from .link import Cause, Link
from .settings import Case, Settings

#: Links of an app. The first broken one is the diagnosis.
LINKS: Mapping[str, Link[Case]] = {
    link.name: link
    for link in (workload, pods, endpoints, scrape, target, series, discovered, apiservice, values, hpa, limits)
}
#: Links that are examined once for the whole cluster.
GENERAL: Mapping[str, Link[Settings]] = {
    link.name: link
    for link in (
        nodes_ready,
        workloads_available,
        owners,
        apiservices_available,
        certificates,
        clock,
        resource_metrics,
        prometheus_ready,
        prometheus_targets,
        alertmanager,
        requests,
        grafana,
    )
}
#: All links, by name.
ALL: Mapping[str, Link[Any]] = {**LINKS, **GENERAL}
CAUSES: Mapping[str, Cause] = {name: cause for link in ALL.values() for name, cause in link.causes.items()}
