# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The clocks of controller, API server and nodes."""

from __future__ import annotations

import datetime
import time

from ...kube.client import ApiError
from ...kube.objects import parse_time
from ...kube.prometheus import PrometheusError, prometheus_query
from ..facts import Watched
from ..link import Cause, Finding, broken, link, ok, unknown
from ..settings import Settings

#: Seconds that the controller's clock may differ from the API server's (as before a node is made), and a node's from
#: Prometheus' (a scrape of a busy node takes a part of that).
CONTROLLER_SKEW, NODE_SKEW = 60.0, 10.0


@link(
    "clocks agree",
    {
        "controller_clock_off": Cause(
            "The clock of this machine and that of the API server differ.",
            "set the clock of both by network time: timedatectl set-ntp true",
        ),
        "node_clock_off": Cause(
            "The clock of a node differs: certificates may seem invalid, and the times in its logs are wrong.",
            "set the clock of the node by network time: timedatectl set-ntp true",
        ),
    },
)
def clock(facts: Watched, settings: Settings) -> Finding:
    """Check that the clocks of controller, API server and nodes agree."""
    seen = settings.seen
    if seen.server_now is None:
        return unknown("the API server does not say what time it has")
    ahead = (seen.now - seen.server_now).total_seconds()
    if abs(ahead) > CONTROLLER_SKEW:
        word = "ahead of" if ahead > 0 else "behind"
        evidence = f"this machine is {abs(ahead):.0f} s {word} the API server, allowed are {CONTROLLER_SKEW:.0f} s"
        return broken("controller_clock_off", evidence)
    skews = node_skews(facts, settings, seen.server_now)
    worst = max(skews, key=lambda name: abs(skews[name]), default="")
    if worst and abs(skews[worst]) > NODE_SKEW:
        word = "ahead" if skews[worst] > 0 else "behind"
        return broken("node_clock_off", f"node {worst} is {abs(skews[worst]):.0f} s {word}")
    nodes = f"{len(skews)} nodes within {max(map(abs, skews.values())):.1f} s" if skews else "no node's is known"
    return ok(f"this machine within {abs(ahead):.0f} s of the API server, {nodes}")


def node_skews(facts: Watched, settings: Settings, server_now: datetime.datetime) -> dict[str, float]:
    """Return the seconds that nodes are ahead: by their leases, and by node_exporter as Prometheus scraped it."""
    skews = {}
    # A lease is renewed every 10 s with the node's own time: one from the future comes from a clock that is ahead.
    now = server_now + datetime.timedelta(seconds=time.monotonic() - settings.seen.at)
    for lease in facts.items("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"):
        if renewed := lease["spec"].get("renewTime"):
            skews[lease["metadata"]["name"]] = max(0.0, (parse_time(renewed) - now).total_seconds())
    try:
        samples = prometheus_query(facts, "node_time_seconds - timestamp(node_time_seconds)", settings.service)
    except (ApiError, PrometheusError):
        return skews  # Link prometheus_ready reports it.
    for sample in samples:
        name, skew = sample["metric"].get("node") or sample["metric"].get("instance", "?"), float(sample["value"][1])
        if abs(skew) >= abs(skews.get(name, 0.0)):
            skews[name] = skew
    return skews
