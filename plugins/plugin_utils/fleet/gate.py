# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster is well enough for the next ones to be worked on: looks at it, until all hold for a while."""

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

#: Seconds between two looks, between two words about what is waited for, and that a look may take when all held before.
INTERVAL, WORD, BLINK = 3.0, 10.0, 1.0
FIRING = 'ALERTS{alertstate="firing"}'
#: Severities that ask for nobody's attention; that of Watchdog, which always fires, is one of them.
SILENT = ("none", "info")
#: Labels of an alert that are others when a pod is replaced, while what is wrong is the same.
PASSING = ("alertstate", "pod", "instance", "uid", "container_id", "endpoint", "__name__")
#: Is never set: to wait for it is to wait.
_NEVER = threading.Event()


@dataclass(frozen=True)
class Look:
    """What was seen of one thing that a gate asks for."""

    name: str
    ok: bool
    evidence: str


@dataclass(frozen=True)
class Baseline:
    """What was so before a run changed anything.

    ``cluster`` identifies the cluster itself, ``run`` the run that noted it, ``alerts`` are those that fired.
    """

    cluster: str
    run: str
    alerts: frozenset[str]


# -- looking -----------------------------------------------------------------------------------------------------------


def look_at_nodes(diagnosis: Diagnosis) -> Look:
    """Return whether every node is ready, by the link of the cluster."""
    (finding,) = [each for each in diagnosis.cluster.findings if each.link == nodes_ready.name]
    return Look("nodes", finding.state == "ok", finding.evidence)


def look_at_apps(diagnosis: Diagnosis) -> Look:
    """Return whether every app has its metric for all pods, and an autoscaler that can scale."""
    wrong = []
    for patient in diagnosis.apps:
        if finding := patient.obstacle:
            cause = f"{finding.cause}: {finding.meaning}" if finding.cause else "not known"
            wrong.append(f"{patient.name}, {finding.link}: {cause} ({finding.evidence})")
    return Look("apps", not wrong, shorten(wrong) if wrong else f"{len(diagnosis.apps)} with metrics and autoscaler")


def alert_name(labels: Mapping[str, str]) -> str:
    """What an alert is about, the same for a pod and for the one that replaced it."""
    kept = {key: value for key, value in sorted(labels.items()) if key not in (*PASSING, "alertname")}
    return f"{labels.get('alertname', '')}{json.dumps(kept)}"


def firing_alerts(api: Reader, service: str) -> frozenset[str]:
    """Alerts that fire and ask for attention. Raises ApiError or PrometheusError if that cannot be told."""
    samples = prometheus_query(api, FIRING, service)
    return frozenset(alert_name(each["metric"]) for each in samples if each["metric"].get("severity") not in SILENT)


def look_at_alerts(now: frozenset[str], before: frozenset[str] | None) -> Look:
    """Whether no alert fires that did not before; None if it is not known what did."""
    new = now - (before or frozenset())
    unknown = "" if before is not None else "; what fired before the run is not known"
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
    """Look until all have held for ``soak`` seconds on end, from a time within ``timeout`` on; gives the last looks.

    ``look`` is told for how many seconds it may wait for something to come right.
    """
    start = now()
    since: float | None = None
    word = start + WORD
    while True:
        looks = look(BLINK if since is not None else max(BLINK, start + timeout - now()))
        at = now()
        wrong = [each for each in looks if not each.ok]
        if wrong:
            since = None
            if at - start >= timeout:
                return False, looks
            if at >= word:
                say(f"waiting since {at - start:.0f} s for {describe(wrong)}")
                word = at + WORD
            pause(min(INTERVAL, start + timeout - at))
            continue
        since = at if since is None else since
        if at - since >= soak:
            return True, looks
        pause(min(INTERVAL, since + soak - at))


def describe(looks: Iterable[Look]) -> str:
    """What was seen, in one line."""
    return "; ".join(f"{each.name}: {' '.join(each.evidence.split())}" for each in looks)


# -- what was before ---------------------------------------------------------------------------------------------------


def read_baseline(file: Path, cluster: str) -> Baseline | None:
    """What was noted about this cluster; None if nothing was, or about another one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = Baseline(content["cluster"], content["run"], frozenset(content["alerts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if known.cluster == cluster else None


def write_baseline(file: Path, baseline: Baseline) -> None:
    """Note what is so. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"cluster": baseline.cluster, "run": baseline.run, "alerts": sorted(baseline.alerts)}
    replace_file(file, json.dumps(content, indent=1) + "\n")


def run_of(record: Record | None) -> str:
    """What tells one run from another, a second try of a rollout from its first; nothing if there is no record."""
    return f"{record['id']}, {record['started']}" if record else ""


def is_unchanged(record: Record | None, cluster: str, baseline: Baseline | None) -> bool:
    """Whether a run is known to have changed nothing on a cluster; ``record`` is its own, since before its baseline."""
    if record is None or baseline is None or baseline.run != run_of(record):
        return False
    return not any(phase["changed"] for phase in record["phases"] if phase["cluster"] == cluster)
