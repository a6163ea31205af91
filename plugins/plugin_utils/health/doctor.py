# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Walk the chain of every autoscaled app and examine the cluster; report where it breaks and what to do.

All links are examined, side by side, over facts that are read once: the first broken one of an app is the diagnosis,
later ones are its consequences as a rule.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ..apps.model import App
from ..common.errors import FleetError
from ..common.text import aligned, suggestion
from ..kube.client import CONNECTIONS
from ..kube.prometheus import Reader
from .chain import ALL, GENERAL, LINKS
from .facts import Facts
from .link import Finding, Link
from .settings import Case, Settings

MARKS = {"ok": "✓", "broken": "✗", "skipped": "-", "unknown": "?"}


class UnknownAppError(FleetError):
    """An app has no entry in autoscaled_apps; the message names the apps that have one."""


@dataclass(frozen=True)
class Patient:
    """An app, or the cluster itself (``name`` empty), with its findings in the order of the links."""

    name: str
    namespace: str
    findings: tuple[Finding, ...]

    @property
    def diagnosis(self) -> Finding | None:
        """The first broken link."""
        return next((finding for finding in self.findings if finding.state == "broken"), None)

    @property
    def obstacle(self) -> Finding | None:
        """The finding because of which verify and a rollout's gate fail: the first broken one, else an unknown one."""
        counted = [finding for finding in self.findings if not ALL[finding.link].advisory]
        for state in ("broken", "unknown"):
            if finding := next((each for each in counted if each.state == state), None):
                return finding
        return None

    def consequences(self, finding: Finding) -> list[str]:
        """Return link and cause of every broken link after that of a broken one."""
        later = self.findings[self.findings.index(finding) + 1 :] if finding.state == "broken" else ()
        return [f"{each.link} ({each.cause})" for each in later if each.state == "broken"]

    @property
    def state(self) -> str:
        """healthy, broken, or unknown when something could not be examined and nothing was found broken."""
        if self.diagnosis:
            return "broken"
        return "unknown" if any(finding.state == "unknown" for finding in self.findings) else "healthy"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for programs."""
        links = [finding.as_dict() for finding in self.findings]
        diagnosis = self.diagnosis.as_dict() if self.diagnosis else None
        return {
            "name": self.name, "namespace": self.namespace, "state": self.state, "diagnosis": diagnosis, "links": links
        }  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """The findings of a run: every app, the cluster, and the seconds that the run took."""

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
            "general": [finding.as_dict() for finding in self.cluster.findings],
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


def examine(
    cluster: Reader | Facts, apps: Sequence[App], settings: Settings, general: Iterable[Link[Settings]] | None = None
) -> Diagnosis:
    """Examine every link of every app, and the cluster (all links, or those of ``general``)."""
    start = time.monotonic()
    facts = cluster if isinstance(cluster, Facts) else Facts(cluster)
    cases = [Case.of(app, settings) for app in apps]
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        looks = [[pool.submit(link.look, facts, case) for link in LINKS.values()] for case in cases]
        whole = [pool.submit(link.look, facts, settings) for link in (GENERAL.values() if general is None else general)]
        patients = tuple(
            Patient(
                case.app.name,
                case.app.namespace,
                tuple(replace(future.result(), app=case.app.name) for future in futures),
            )
            for case, futures in zip(cases, looks, strict=True)
        )
        examined = Patient("", "", tuple(future.result() for future in whole))
    return Diagnosis(patients, examined, round(time.monotonic() - start, 2))


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
    """Return lines about the fault of a patient and its remedy; none if the patient is healthy."""
    finding = patient.diagnosis
    if finding is None:
        unknown = [each for each in patient.findings if each.state == "unknown"]
        return [] if not unknown else ["", f"? {patient.name}: {unknown[0].link} cannot be told: {unknown[0].evidence}"]
    lines = [
        "",
        f"{MARKS['broken']} {patient.name}: broken at {finding.link}, {finding.cause}",
        f"    seen:  {finding.evidence}",
        f"    means: {finding.meaning}",
        f"    do:    {finding.advice}",
    ]
    later = patient.consequences(finding)
    return lines + ([f"    then:  {', '.join(later)}: most likely a consequence"] if later else [])
