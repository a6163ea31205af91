# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The gate of a rollout: check a cluster until nodes, apps and alerts have been fine for a while."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.files import replace_file
from ..common.text import shorten
from ..health.checks.nodes import nodes_ready
from ..health.doctor import Diagnosis
from ..kube.prometheus import Reader, prometheus_query
from .run_record import Record

#: Seconds between two looks, between two progress messages, and that one look may wait after a look without problems.
INTERVAL, MESSAGE_INTERVAL, SHORT_LOOK = 3.0, 10.0, 1.0
FIRING = 'ALERTS{alertstate="firing"}'
#: Severities that need no action. Watchdog, which always fires, has one of them.
SILENT = ("none", "info")
#: Labels that change when a pod is replaced. They do not make an alert a new one.
VOLATILE = ("alertstate", "pod", "instance", "uid", "container_id", "endpoint", "__name__")
#: Never set; used as an interruptible sleep.
_NEVER = threading.Event()


@dataclass(frozen=True)
class Look:
    """Result of one check of the gate."""

    name: str
    ok: bool
    evidence: str


@dataclass(frozen=True)
class Baseline:
    """State of a cluster before a run changes anything.

    ``cluster`` identifies the cluster, ``run`` the run that wrote the baseline, ``alerts`` names the firing alerts.
    """

    cluster: str
    run: str
    alerts: frozenset[str]


# -- looking -----------------------------------------------------------------------------------------------------------


def look_at_nodes(diagnosis: Diagnosis) -> Look:
    """Return whether every node is ready."""
    (finding,) = [each for each in diagnosis.cluster.findings if each.link == nodes_ready.name]
    return Look("nodes", finding.state == "ok", finding.evidence)


def look_at_apps(diagnosis: Diagnosis) -> Look:
    """Return whether every app has its metric for all pods, and an autoscaler that can scale."""
    wrong = []
    for patient in diagnosis.apps:
        if finding := patient.obstacle:
            cause = f"{finding.cause}: {finding.meaning}" if finding.cause else "cause unknown"
            wrong.append(f"{patient.name}, {finding.link}: {cause} ({finding.evidence})")
    return Look("apps", not wrong, shorten(wrong) if wrong else f"{len(diagnosis.apps)} with metrics and autoscaler")


def alert_name(labels: Mapping[str, str]) -> str:
    """Return an alert's name and labels. A pod and its replacement give the same text."""
    kept = {key: value for key, value in sorted(labels.items()) if key not in (*VOLATILE, "alertname")}
    return f"{labels.get('alertname', '')}{json.dumps(kept)}"


def firing_alerts(api: Reader, service: str) -> frozenset[str]:
    """Return the firing alerts that need action. Raise ApiError or PrometheusError if they cannot be read."""
    samples = prometheus_query(api, FIRING, service)
    return frozenset(alert_name(each["metric"]) for each in samples if each["metric"].get("severity") not in SILENT)


def look_at_alerts(now: frozenset[str], before: frozenset[str] | None) -> Look:
    """Return whether no new alert fires. ``before`` is None if the alerts before the run are unknown."""
    new = now - (before or frozenset())
    unknown = "" if before is not None else "; the alerts before the run are unknown"
    if new:
        return Look("alerts", False, f"new: {shorten(new)}{unknown}")
    return Look("alerts", True, f"{len(now)} fire, none of them new{unknown}" if now else "none fires")


# -- waiting -----------------------------------------------------------------------------------------------------------


def wait_until_all_hold(
    look: Callable[[float], Sequence[Look]],
    timeout: float,
    soak: float,
    say: Callable[[str], None] = lambda text: None,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = _NEVER.wait,
) -> tuple[bool, Sequence[Look]]:
    """Look until all checks hold for ``soak`` seconds without a break; that time must begin within ``timeout`` seconds.

    Return whether they held, and the last looks. ``look`` gets the number of seconds that it may wait for a recovery.
    """
    start = now()
    since: float | None = None
    next_message = start + MESSAGE_INTERVAL
    while True:
        looks = look(SHORT_LOOK if since is not None else max(SHORT_LOOK, start + timeout - now()))
        at = now()
        wrong = [each for each in looks if not each.ok]
        if wrong:
            since = None
            if at - start >= timeout:
                return False, looks
            if at >= next_message:
                say(f"waiting since {at - start:.0f} s for {describe(wrong)}")
                next_message = at + MESSAGE_INTERVAL
            pause(min(INTERVAL, start + timeout - at))
            continue
        since = at if since is None else since
        if at - since >= soak:
            return True, looks
        pause(min(INTERVAL, since + soak - at))


def describe(looks: Iterable[Look]) -> str:
    """Return names and evidence of looks in one line."""
    return "; ".join(f"{each.name}: {' '.join(each.evidence.split())}" for each in looks)


# -- baseline ----------------------------------------------------------------------------------------------------------


def read_baseline(file: Path, cluster: str) -> Baseline | None:
    """Return the baseline of this cluster, or None if there is none or it belongs to another cluster."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = Baseline(content["cluster"], content["run"], frozenset(content["alerts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if known.cluster == cluster else None


def write_baseline(file: Path, baseline: Baseline) -> None:
    """Write a baseline. Raise OSError if the file cannot be written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"cluster": baseline.cluster, "run": baseline.run, "alerts": sorted(baseline.alerts)}
    replace_file(file, json.dumps(content, indent=1) + "\n")


def run_of(record: Record | None) -> str:
    """Return an identifier of a run that differs for each attempt of a rollout, or "" without a record."""
    return f"{record['id']}, {record['started']}" if record else ""


def is_unchanged(record: Record | None, cluster: str, baseline: Baseline | None) -> bool:
    """Return whether a run has changed nothing on a cluster; ``record`` must reach back to the baseline."""
    if record is None or baseline is None or baseline.run != run_of(record):
        return False
    return not any(phase["changed"] for phase in record["phases"] if phase["cluster"] == cluster)
