# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Bring sets back to what they were: choose the revisions, and apply them as new ones."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..kube.client import JSON, Api, ApiError
from ..kube.manifests import DefinitionError
from ..kube.waiting import NotReadyError
from .apply import (
    ApplySet,
    ApplySetError,
    Handover,
    Parent,
    SharedNamespace,
    choose_sets,
    set_id,
    sets_of,
    wait_for_sets,
)
from .revisions import APPLIED, Content, History, Revision, RevisionError, numbers, previous, revisions_of


class Target(NamedTuple):
    """What a person wants to go back to; "" and None where nothing is said."""

    component: str = ""
    revision: int | None = None
    run: str = ""


class Step(NamedTuple):
    """One set that goes back: from the revision it has now (None if it has none) to another one's content."""

    set: str
    now: int | None
    to: int
    content: Content
    #: How many revisions there are: going back loses none.
    known: int


@dataclass
class Plan:
    """Sets that go back, in the order in which they were applied, and why others are left as they are."""

    steps: list[Step] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass
class Result:
    """What was done, or would be: an entry for each set, and what went wrong."""

    sets: list[JSON] = field(default_factory=list)
    diff: list[JSON] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether any object of any set differs from before."""
        return any(entry["changed"] for entry in self.sets)


class _Cluster:
    """Sets of a cluster with their revisions, read when they are needed."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.sets: dict[str, Parent] = sets_of(api, namespace)
        self.revisions = {name: found for name, found in revisions_of(api, namespace).items() if name in self.sets}
        self._contents: dict[str, dict[int, Content]] = {}

    def contents(self, name: str) -> dict[int, Content]:
        if name not in self._contents:
            self._contents[name] = History(self.api, name, self.namespace, set_id(name, self.namespace)).contents()
        return self._contents[name]

    def latest(self, name: str) -> Revision | None:
        """The revision that a set has now, or was to get from a run that did not end."""
        now = self.sets[name].revision
        return next((revision for revision in self.revisions[name] if revision.number == now), None)

    def digest(self, name: str, number: int) -> str | None:
        content = self.contents(name).get(number)
        return content.digest if content else None

    def back(self, name: str, not_by: str = "") -> Revision | None:
        """The revision that a set goes back to when nobody says which."""
        digest = functools.partial(self.digest, name)
        return previous(self.revisions[name], digest, self.sets[name].revision, not_by)

    def on_its_way(self, name: str, now: Revision) -> bool:
        """Whether a set was going back, and did not come there."""
        to = self.back(name) if now.state != APPLIED else None
        return to is not None and self.digest(name, to.number) == self.digest(name, now.number)

    def step(self, name: str, revision: Revision) -> Step:
        content = self.contents(name).get(revision.number)
        if content is None:
            raise RevisionError(f"revision {revision.number} of component {name} cannot be read any more")
        return Step(name, self.sets[name].revision, revision.number, content, len(self.revisions[name]))


def plan(api: Api, target: Target, namespace: str = "kube-system") -> Plan:
    """What goes back to what. Changes nothing. Raises RevisionError or ApplySetError for what is not there."""
    cluster = _Cluster(api, namespace)
    if target.revision is not None and not target.component:
        raise RevisionError(f"revision is {target.revision}: whose? Name the component, too")
    if target.revision is not None and target.run:
        raise RevisionError(
            f"revision is {target.revision} and run is {target.run}: one of both says what to go back to"
        )
    chosen = [_named(target.component, cluster)] if target.component else sorted(cluster.revisions)
    if target.component and not target.run:
        return _one(cluster, chosen[0], target.revision)
    return _run(cluster, chosen, target.run)


def _named(component: str, cluster: _Cluster) -> str:
    [name] = choose_sets(cluster.sets, [component])
    if name not in cluster.revisions:
        raise RevisionError(f"component {name}: it has no revisions in this cluster")
    return name


def _one(cluster: _Cluster, name: str, number: int | None) -> Plan:
    known = cluster.revisions[name]
    if number is None:
        found = cluster.back(name)
        return Plan([cluster.step(name, found)]) if found else Plan(left=[_nothing_older(cluster, name)])
    found = next((revision for revision in known if revision.number == number), None)
    if found is None:
        raise RevisionError(f"revision is {number}; component {name} has no such revision, there are: {numbers(known)}")
    return Plan([cluster.step(name, found)])


def _run(cluster: _Cluster, names: list[str], run: str) -> Plan:
    """Undo what one run did, the most recent one if `run` is ""."""
    latest = {name: found for name in names if (found := cluster.latest(name))}
    if not run:
        if not latest:
            return Plan(left=["no set has a revision"])
        run = max(latest.values(), key=lambda revision: revision.when).run
    of_run = {
        name: next((revision for revision in cluster.revisions[name] if revision.run == run), None) for name in names
    }
    concerned = sorted((revision.when, name) for name, revision in of_run.items() if revision)
    if not concerned:
        runs = {revision.run: revision.when for name in names for revision in cluster.revisions[name]}
        known = ", ".join(sorted(runs, key=lambda each: runs[each], reverse=True)) or "none"
        raise RevisionError(f"run is {run!r}; it has left no revision here, there are those of: {known}")
    result = Plan()
    for _when, name in concerned:
        now = latest.get(name)
        if now is None or (now.run != run and not cluster.on_its_way(name, now)):
            by = f"run {now.run} has changed it since" if now else "it has no revision of its present state"
            result.left.append(f"{name} is left as it is: {by}")
        elif to := cluster.back(name, not_by=run):
            result.steps.append(cluster.step(name, to))
        else:
            result.left.append(_nothing_older(cluster, name))
    return result


def _nothing_older(cluster: _Cluster, name: str) -> str:
    now = cluster.sets[name].revision
    return f"{name} is left as it is: there is nothing older to go back to than what it has now (revision {now})"


def perform(
    api: Api,
    steps: list[Step],
    namespace: str = "kube-system",
    check: bool = False,
    diff: bool = False,
    force: bool = False,
    timeout: float = 300.0,
    run: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Apply the contents as new revisions, one set after the other, and wait at the end until all are ready.

    A set that cannot be brought back keeps no other from it; what went wrong is in the result's problems.
    """
    result = Result()
    deadline = time.monotonic() + timeout
    done = []
    for step in steps:
        applied = ApplySet(
            api,
            step.set,
            namespace,
            check,
            diff,
            force,
            timeout=max(1.0, deadline - time.monotonic()),
            say=say,
            take_from=step.content.take_from,
            hand_over=[
                # In check mode the other set has taken nothing, but would have.
                Handover(entry["kind"], entry["name"], entry["to"], done=check and entry["to"] in done)
                for entry in step.content.hand_over
            ],
            keep=step.known + 1,
            run=run,
            note=f"rollback to {step.to}",
        )
        try:
            applied.apply(step.content.objects, _shared(step.content.shared), wait=False)
            done.append(step.set)
        except (ApplySetError, DefinitionError, NotReadyError, ApiError) as error:
            result.problems.append(f"{step.set} cannot be brought back to revision {step.to}: {error}")
        outcome = applied.outcome
        entry = {"component": step.set, "from": step.now, "to": step.to, "revision": applied.revision}
        result.sets.append({**entry, "changed": outcome.changed, "objects": outcome.objects})
        result.diff += outcome.diff
        result.warnings += [f"{step.set}: {warning}" for warning in outcome.warnings]
    if done and not check:
        try:
            wait_for_sets(api, done, namespace, max(1.0, deadline - time.monotonic()), say)
        except NotReadyError as error:
            result.problems.append(str(error))
    return result


def _shared(namespaces: Mapping[str, dict[str, str]]) -> list[SharedNamespace]:
    return [SharedNamespace(name, labels) for name, labels in namespaces.items()]
