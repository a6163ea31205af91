# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Walk the chain of every autoscaled app, from its workload to its autoscaler, and say where it breaks and what to do.

Each link is a function over facts that are read once (doctor_chain.py; the cluster's own in doctor_cluster.py), and
what can be wrong is data (doctor_causes.py). All links are examined, side by side: the first broken one is the
diagnosis, later ones are its consequences as a rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..apps.model import App
from ..apps.objects import app_objects
from ..common.text import aligned, suggestion
from ..kube.client import CONNECTIONS, ApiError
from ..kube.prometheus import PrometheusError
from .causes import CAUSES, GENERAL, LINKS, Finding
from .chain import CHAIN, Case
from .checks import Cluster, Facts, Watched
from .cluster import EXAMINATIONS, Seen
from .settings import Settings

MARKS = {"ok": "✓", "broken": "✗", "skipped": "-", "unknown": "?"}


class UnknownAppError(Exception):
    """An app was asked for that there is no entry of; the message names those that there are."""


@dataclass(frozen=True)
class Patient:
    """An app, or the cluster itself (``name`` empty), with what was found of it, in the order of its links."""

    name: str
    namespace: str
    findings: tuple[Finding, ...]

    @property
    def diagnosis(self) -> Finding | None:
        """The first broken link."""
        return next((finding for finding in self.findings if finding.state == "broken"), None)

    @property
    def state(self) -> str:
        """healthy, broken, or unknown when something could not be examined and nothing was found broken."""
        if self.diagnosis:
            return "broken"
        return "unknown" if any(finding.state == "unknown" for finding in self.findings) else "healthy"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for programs."""
        links = [as_dict(finding) for finding in self.findings]
        diagnosis = as_dict(self.diagnosis) if self.diagnosis else None
        return {
            "name": self.name, "namespace": self.namespace, "state": self.state, "diagnosis": diagnosis, "links": links
        }  # fmt: skip


def as_dict(finding: Finding) -> dict[str, Any]:
    """A finding as plain data, with what its cause means."""
    known = CAUSES.get(finding.cause)
    return {name: value for name, value in asdict(finding).items() if name != "app"} | {
        "meaning": known.meaning if known else ""
    }


@dataclass(frozen=True)
class Diagnosis:
    """What a run found: every app, the cluster, and the seconds that it took."""

    apps: tuple[Patient, ...]
    cluster: Patient
    seconds: float

    @property
    def ill(self) -> list[Patient]:
        """Apps that are not healthy, and the cluster if it is not."""
        return [patient for patient in (*self.apps, self.cluster) if patient.state != "healthy"]

    def document(self, cluster: str) -> dict[str, Any]:
        """Everything as plain data for programs."""
        return {
            "cluster": cluster,
            "healthy": not self.ill,
            "seconds": self.seconds,
            "apps": [patient.as_dict() for patient in self.apps],
            "general": [as_dict(finding) for finding in self.cluster.findings],
        }


def choose(apps: Sequence[App], names: Sequence[str]) -> list[App]:
    """Apps of these names, all without any; ``UnknownAppError`` names the known ones."""
    known = {app.name: app for app in apps}
    unknown = [name for name in names if name not in known]
    if unknown:
        there = f"there are {', '.join(known)}" if known else "there are no autoscaled apps"
        hint = there + suggestion(unknown[0], known)
        raise UnknownAppError(f"app = {', '.join(unknown)!r} has no entry in autoscaled_apps; {hint}")
    return [known[name] for name in names] if names else list(apps)


def examine(cluster: Cluster, apps: Sequence[App], settings: Settings, seen: Seen) -> Diagnosis:
    """Examine every link of every app, and the cluster, over facts that are read once."""
    start = time.monotonic()
    facts = Facts(cluster)
    flavor = settings.flavor
    cases = [Case(app, tuple(app_objects([app], flavor)), settings) for app in apps]
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        looks = [[pool.submit(look, facts, name, CHAIN[name], case) for name in LINKS] for case in cases]
        general = [pool.submit(look, facts, name, EXAMINATIONS[name], settings, seen) for name in GENERAL]
        patients = tuple(
            Patient(
                case.app.name,
                case.app.namespace,
                tuple(replace(future.result(), app=case.app.name) for future in futures),
            )
            for case, futures in zip(cases, looks, strict=True)
        )
        whole = Patient("", "", tuple(future.result() for future in general))
    return Diagnosis(patients, whole, round(time.monotonic() - start, 2))


def look(facts: Facts, name: str, examination: Callable[..., Finding], *arguments: object) -> Finding:
    """One look at one link; what could not be read is said, and is no accident."""
    try:
        return examination(Watched(facts), *arguments)
    except (ApiError, PrometheusError) as error:
        return Finding(name, "unknown", str(error))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return Finding(name, "unknown", f"the answer is not what was expected: {error!r}")


# -- for people --------------------------------------------------------------------------------------------------------


def describe(cluster: str, diagnosis: Diagnosis, detailed: bool = False) -> str:
    """A table of all links, and a paragraph for each that is ill; ``detailed``: what was seen of each link, too."""
    healthy = sum(patient.state == "healthy" for patient in diagnosis.apps)
    lines = [f"{cluster}: {healthy} of {len(diagnosis.apps)} apps healthy, examined in {diagnosis.seconds:.1f} s", ""]
    lines += aligned([["app", *LINKS], *map(row, diagnosis.apps)]) if diagnosis.apps else []
    lines += ["", "  ".join(["cluster", *(f"{MARKS[each.state]} {each.link}" for each in diagnosis.cluster.findings)])]
    for patient in diagnosis.apps if detailed else ():
        lines += ["", f"{patient.name} in namespace {patient.namespace}"]
        lines += [f"  {MARKS[each.state]} {each.link:10}  {each.evidence}" for each in patient.findings]
    if detailed:
        lines += [
            "",
            "cluster",
            *(f"  {MARKS[each.state]} {each.link:12}  {each.evidence}" for each in diagnosis.cluster.findings),
        ]
    for patient in diagnosis.apps:
        lines += paragraph(patient)
    # The cluster's parts are no chain: none is the consequence of another.
    for finding in diagnosis.cluster.findings:
        lines += paragraph(Patient("cluster", "", (finding,)))
    return "\n".join(lines)


def row(patient: Patient) -> list[str]:
    """Marks of an app's links."""
    return [patient.name, *(MARKS[finding.state] for finding in patient.findings)]


def paragraph(patient: Patient) -> list[str]:
    """What is wrong with a patient and what to do; nothing when it is healthy."""
    finding = patient.diagnosis
    if finding is None:
        unknown = [each for each in patient.findings if each.state == "unknown"]
        return [] if not unknown else ["", f"? {patient.name}: {unknown[0].link} cannot be told: {unknown[0].evidence}"]
    later = patient.findings[patient.findings.index(finding) + 1 :]
    also = [f"{each.link} ({each.cause})" for each in later if each.state == "broken"]
    lines = [
        "",
        f"{MARKS['broken']} {patient.name}: broken at {finding.link}, {finding.cause}",
        f"    seen:  {finding.evidence}",
        f"    means: {CAUSES[finding.cause].meaning}",
        f"    do:    {finding.advice}",
    ]
    return lines + ([f"    then:  {', '.join(also)}: most likely a consequence"] if also else [])
