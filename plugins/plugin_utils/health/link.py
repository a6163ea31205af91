# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The form of every check: a link, the causes why it can be broken, and the finding that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from ..kube.client import ApiError
from ..kube.prometheus import PrometheusError
from .facts import Facts, Watched

State = Literal["ok", "broken", "skipped", "unknown"]


@dataclass(frozen=True)
class Cause:
    """Why a link is broken. ``advice`` names values of the finding or of its subject: {namespace}, {app}, …"""

    meaning: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """The result of one link of one app, or (``app`` empty) of the cluster.

    ``values`` are for the advice; ``paths`` are those that the check read.
    """

    link: str
    state: State
    evidence: str
    cause: str = ""
    advice: str = ""
    meaning: str = ""
    app: str = ""
    values: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    paths: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain data for programs."""
        return {name: getattr(self, name) for name in ("link", "state", "evidence", "cause", "advice", "meaning")}


def ok(evidence: str) -> Finding:
    """Return a finding: the link holds."""
    return Finding("", "ok", evidence)


def skipped(evidence: str) -> Finding:
    """Return a finding: the link does not concern the subject."""
    return Finding("", "skipped", evidence)


def unknown(evidence: str) -> Finding:
    """Return a finding: nothing can be concluded yet."""
    return Finding("", "unknown", evidence)


def broken(cause: str, evidence: str, **values: object) -> Finding:
    """Return a finding: the link is broken by a cause, whose advice gets the values."""
    return Finding("", "broken", evidence, cause, values=values)


class Subject(Protocol):
    """An app or the cluster, which links examine."""

    @property
    def absent(self) -> frozenset[str]:
        """Components that the cluster does not have on purpose."""

    def values(self) -> dict[str, Any]:
        """Return the values that advice may name."""


S = TypeVar("S", bound=Subject)
Examination = Callable[[Watched, S], Finding]


@dataclass(frozen=True)
class Link(Generic[S]):
    """One check. It does not concern a cluster in which one of its ``components`` is absent.

    Of an ``advisory`` link only the doctor tells: neither verify nor a rollout's gate fails because of it.
    """

    name: str
    title: str
    causes: Mapping[str, Cause]
    examine: Examination[S]
    components: tuple[str, ...] = ()
    advisory: bool = False

    def look(self, facts: Facts, subject: S) -> Finding:
        """Run the check once; a read error becomes state "unknown" instead of an exception.

        Raise KeyError if the check returns a cause that is not its own, or without a value that the advice names.
        """
        view = Watched(facts)
        if gone := sorted(subject.absent.intersection(self.components)):
            finding = skipped(f"{gone[0]} is absent")
        else:
            try:
                finding = self.examine(view, subject)
            except (ApiError, PrometheusError) as error:
                finding = unknown(str(error))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                finding = unknown(f"the answer is not what was expected: {error!r}")
        finding = replace(finding, link=self.name, paths=frozenset(view.paths))
        if finding.state != "broken":
            return finding
        if finding.cause not in self.causes:
            raise KeyError(f"{finding.cause} is no cause of link {self.name}")
        cause = self.causes[finding.cause]
        advice = cause.advice.format_map(subject.values() | dict(finding.values))
        return replace(finding, advice=advice, meaning=cause.meaning)


def link(
    title: str, causes: Mapping[str, Cause], *, components: tuple[str, ...] = (), advisory: bool = False
) -> Callable[[Examination[S]], Link[S]]:
    """Make the decorated function a link of the same name."""
    return lambda function: Link(function.__name__, title, causes, function, components, advisory)
