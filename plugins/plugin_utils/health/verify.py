# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Wait until the cluster's links and the chain of every app hold, and report each as one check."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..apps.model import App
from ..kube.client import ApiError
from .chain import ALL, GENERAL
from .doctor import Patient, examine
from .facts import Cluster, Facts
from .link import Finding
from .settings import Settings

#: Seconds between two reads of a path that cannot be watched (Prometheus, the adapter), and between progress lines.
POLL_SECONDS = 1.0
PROGRESS_SECONDS = 10.0
#: Links whose evidence describes a healthy app.
TELLING = ("workload", "values", "hpa")
#: Causes of an app that is not deployed yet, and causes that count for it nevertheless.
LATER = ("namespace_missing", "workload_missing")
EVEN_LATER = ("autoscaler_missing", "autoscaler_of_others", "autoscaler_edited")


@dataclass(frozen=True)
class Result:
    """The result of a check; ``seconds`` is the time from the start of all checks until its last look."""

    id: str
    title: str
    ok: bool
    evidence: str
    seconds: float
    reason: str = ""
    next: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a task result and the report."""
        return asdict(self)


def verify(
    cluster: Cluster,
    apps: Sequence[App],
    settings: Settings,
    timeout: float,
    progress: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Result]:
    """Run all checks at once, then those that do not hold again until all do or ``timeout`` seconds are over.

    A list of the API is watched; Prometheus and the adapter are asked again every ``POLL_SECONDS``. ``progress`` gets
    a line about every ``PROGRESS_SECONDS`` that names the checks that do not hold. With ``timeout`` 0, look once.
    """
    start = said = clock()
    pending, links = list(apps), [link for link in GENERAL.values() if not link.advisory]
    results: dict[str, Result] = {link.name: Result(link.name, link.title, False, "", 0.0) for link in links}
    while True:
        facts, seconds = Facts(cluster), round(clock() - start, 2)
        diagnosis = examine(facts, pending, at(settings, seconds), links)
        seconds = round(clock() - start, 2)
        for finding in diagnosis.cluster.findings:
            if finding.state == "skipped":
                del results[finding.link]
            else:
                results[finding.link] = of_cluster(finding, seconds)
        results |= {result.id: result for result in (of_app(patient, seconds) for patient in diagnosis.apps)}
        waiting = {name for name, result in results.items() if not result.ok}
        pending = [app for app in pending if app_id(app.name) in waiting]
        links = [link for link in links if link.name in waiting]
        left = timeout - (clock() - start)
        if not waiting or left <= 0:
            return list(results.values())
        if clock() - said >= PROGRESS_SECONDS:
            said = clock()
            missing = "; ".join(f"{name} ({begin(results[name].evidence)})" for name in results if name in waiting)
            progress(f"{seconds:.0f} s, waiting for {missing}")
        paths = set().union(*(finding.paths for finding in unsettled(diagnosis.cluster, *diagnosis.apps)))
        await_change(cluster, facts, paths, min(left, PROGRESS_SECONDS))


def at(settings: Settings, seconds: float) -> Settings:
    """Return the settings as they are some seconds later."""
    return replace(settings, now=settings.now + datetime.timedelta(seconds=seconds))


def unsettled(*patients: Patient) -> Iterable[Finding]:
    """Return the findings that may change for the better."""
    return (each for patient in patients for each in patient.findings if each.state in ("broken", "unknown"))


def of_cluster(finding: Finding, seconds: float) -> Result:
    """Return the result of a link of the cluster."""
    return result(finding.link, GENERAL[finding.link].title, finding.evidence, seconds, finding)


def app_id(name: str) -> str:
    """Return the id of an app's check."""
    return f"app_{name}"


def of_app(patient: Patient, seconds: float) -> Result:
    """Return the result of an app's whole chain. An app that is not deployed yet needs its autoscaler only."""
    obstacle = patient.obstacle
    by_link = {finding.link: finding for finding in patient.findings}
    evidence = "; ".join(by_link[name].evidence for name in TELLING if by_link[name].state == "ok")
    if obstacle and obstacle.cause in LATER:
        evidence = "its workload does not exist yet"
        obstacle = by_link["hpa"] if by_link["hpa"].cause in EVEN_LATER else None
    if obstacle:
        later = patient.consequences(obstacle)
        also = f" (then {', '.join(later)})" if later else ""
        evidence = f"{obstacle.link}: {obstacle.evidence}{also}"
    return result(app_id(patient.name), f"App {patient.name} can scale on its metrics", evidence, seconds, obstacle)


def result(name: str, title: str, evidence: str, seconds: float, finding: Finding | None) -> Result:
    """Return a result; the finding is that of an obstacle, or of a link that holds."""
    if finding is None or finding.state == "ok":
        return Result(name, title, True, evidence, seconds)
    if finding.state == "broken":
        return Result(name, title, False, evidence, seconds, f"{finding.cause}: {finding.meaning}", finding.advice)
    expected = ALL[finding.link].title
    reason = f"It is not known whether this is so: {expected}."
    return Result(name, title, False, evidence, seconds, reason, "run playbooks/doctor.yml, which shows every link")


def begin(text: str, most: int = 90) -> str:
    """Return the beginning of a text that is too long for a line."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def await_change(cluster: Cluster, facts: Facts, paths: set[str], seconds: float) -> None:
    """Return when one of the lists read changes, or after ``POLL_SECONDS`` if a path cannot be watched.

    Return after ``seconds`` in any case.
    """
    changed = threading.Event()

    def wait_for_event(api_version: str, kind: str, version: str) -> None:
        try:
            for _unused in cluster.watch(api_version, kind, resource_version=version, timeout=seconds):
                break
            changed.set()
        except ApiError:
            # The version is too old to watch from, or the server went away: the next look is at the usual pace.
            return

    if all(path in facts.lists for path in paths):
        for path in paths:
            threading.Thread(target=wait_for_event, args=facts.lists[path], daemon=True).start()
        changed.wait(seconds)
    else:
        changed.wait(min(seconds, POLL_SECONDS))
