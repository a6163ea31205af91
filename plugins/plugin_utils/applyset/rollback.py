# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Roll sets back: choose earlier revisions, and apply their contents as new revisions."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..kube.client import JSON, Api, ApiError
from ..kube.manifests import DefinitionError
from ..kube.waiting import NotReadyError
from .apply import ApplySet
from .operation import Handover, Options, SharedNamespace
from .outcome import ApplySetError, Outcome
from .parent import choose_sets, sets_of
from .ready import wait_for_sets
from .revisions import APPLIED, Content, History, Revision, RevisionError, numbers, previous, revisions_of


class Target(NamedTuple):
    """The wanted revision, or the run to undo. "" and None stand for no choice."""

    component: str = ""
    revision: int | None = None
    run: str = ""


class Step(NamedTuple):
    """The rollback of one set, from its current revision (None if it has none) to the content of another one."""

    set: str
    now: int | None
    to: int
    content: Content
    #: Number of the set's revisions.
    revisions: int


@dataclass
class RollbackPlan:
    """The steps, in the order in which the sets were applied, and why other sets are left as they are."""

    steps: list[Step] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass
class Result:
    """The result of a rollback or its prediction, with an entry for each set, and the problems."""

    sets: list[JSON] = field(default_factory=list)
    diff: list[JSON] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Return whether any object of any set differs from before."""
        return any(entry["changed"] for entry in self.sets)


class _Cluster:
    """Sets of a cluster with their revisions. The contents of revisions are read when they are needed."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.sets = sets_of(api, namespace)
        self.revisions = {name: known for name, known in revisions_of(api, namespace).items() if name in self.sets}
        self._contents: dict[str, dict[int, Content]] = {}

    def contents(self, name: str) -> dict[int, Content]:
        if name not in self._contents:
            self._contents[name] = History(self.api, name, self.namespace).contents()
        return self._contents[name]

    def find(self, name: str, number: int | None) -> Revision | None:
        """Return the revision of a set with this number."""
        return next((revision for revision in self.revisions[name] if revision.number == number), None)

    def current(self, name: str) -> Revision | None:
        """Return the revision that a set has, or that a run did not apply to its end."""
        return self.find(name, self.sets[name].revision)

    def digest(self, name: str, number: int) -> str | None:
        content = self.contents(name).get(number)
        return content.digest if content else None

    def previous(self, name: str, not_by: str = "") -> Revision | None:
        """Return the revision that a set goes back to by default."""
        digest = functools.partial(self.digest, name)
        return previous(self.revisions[name], digest, self.sets[name].revision, not_by)

    def is_interrupted_rollback(self, name: str, now: Revision) -> bool:
        """Return whether the current revision is that of a rollback that did not end."""
        to = self.previous(name) if now.state != APPLIED else None
        return to is not None and self.digest(name, to.number) == self.digest(name, now.number)

    def step(self, name: str, revision: Revision) -> Step:
        content = self.contents(name).get(revision.number)
        if content is None:
            raise RevisionError(f"revision {revision.number} of component {name} cannot be read")
        return Step(name, self.sets[name].revision, revision.number, content, len(self.revisions[name]))


def plan_rollback(api: Api, target: Target, namespace: str = "kube-system") -> RollbackPlan:
    """Return the steps of a rollback to `target`. Raise RevisionError or ApplySetError if there is no such target."""
    cluster = _Cluster(api, namespace)
    if target.revision is not None and not target.component:
        raise RevisionError(f"revision is {target.revision}: of which component? Set component, too")
    if target.revision is not None and target.run:
        raise RevisionError(f"revision is {target.revision} and run is {target.run}: set only one of them")
    names = [_named(cluster, target.component)] if target.component else sorted(cluster.revisions)
    if target.component and not target.run:
        return _of_component(cluster, names[0], target.revision)
    return _of_run(cluster, names, target.run)


def _named(cluster: _Cluster, component: str) -> str:
    [name] = choose_sets(cluster.sets, [component])
    if name not in cluster.revisions:
        raise RevisionError(f"component {name}: it has no revisions in this cluster")
    return name


def _of_component(cluster: _Cluster, name: str, number: int | None) -> RollbackPlan:
    to = cluster.previous(name) if number is None else cluster.find(name, number)
    if to:
        return RollbackPlan([cluster.step(name, to)])
    if number is None:
        return RollbackPlan(left=[_nothing_older(cluster, name)])
    known = numbers(cluster.revisions[name])
    raise RevisionError(f"revision is {number}; component {name} has no such revision, there are: {known}")


def _of_run(cluster: _Cluster, names: list[str], run: str) -> RollbackPlan:
    """Undo one run, or the most recent one if `run` is ""."""
    current = {name: revision for name in names if (revision := cluster.current(name))}
    if not run:
        if not current:
            return RollbackPlan(left=["no set has a revision"])
        run = max(current.values(), key=lambda revision: revision.when).run
    first_of_run = {
        name: next((revision for revision in cluster.revisions[name] if revision.run == run), None) for name in names
    }
    concerned = sorted((revision.when, name) for name, revision in first_of_run.items() if revision)
    if not concerned:
        runs = {revision.run: revision.when for name in names for revision in cluster.revisions[name]}
        known = ", ".join(sorted(runs, key=lambda each: runs[each], reverse=True)) or "none"
        raise RevisionError(f"run is {run!r}; it has left no revision here, there are those of: {known}")
    plan = RollbackPlan()
    for _when, name in concerned:
        now = current.get(name)
        if now is None or (now.run != run and not cluster.is_interrupted_rollback(name, now)):
            reason = f"run {now.run} has changed it since" if now else "it has no revision of its present state"
            plan.left.append(f"{name} is left as it is: {reason}")
        elif to := cluster.previous(name, not_by=run):
            plan.steps.append(cluster.step(name, to))
        else:
            plan.left.append(_nothing_older(cluster, name))
    return plan


def _nothing_older(cluster: _Cluster, name: str) -> str:
    now = cluster.sets[name].revision
    return f"{name} is left as it is: there is no older revision with another content (its revision is {now})"


def roll_back(api: Api, steps: list[Step], options: Options | None = None) -> Result:
    """Apply the contents as new revisions, one set after the other, and wait at the end until all are ready.

    A set that cannot be rolled back is a problem in the result, and the others are rolled back all the same.
    """
    options = options or Options()
    result = Result()
    deadline = time.monotonic() + options.timeout

    def remaining() -> float:
        return max(1.0, deadline - time.monotonic())

    done: list[str] = []
    for step in steps:
        applied = ApplySet(api, step.set, _options_of(step, options, remaining(), done))
        shared = [SharedNamespace(name, labels) for name, labels in step.content.shared.items()]
        try:
            applied.apply(step.content.objects, shared, wait=False)
            done.append(step.set)
        except (ApplySetError, DefinitionError, NotReadyError, ApiError) as error:
            result.problems.append(f"{step.set} cannot be rolled back to revision {step.to}: {error}")
        _add(result, step, applied.outcome)
    if done and not options.check:
        try:
            wait_for_sets(api, done, options.namespace, remaining(), options.say)
        except NotReadyError as error:
            result.problems.append(str(error))
    return result


def _options_of(step: Step, options: Options, timeout: float, done: list[str]) -> Options:
    return replace(
        options,
        timeout=timeout,
        take_from=step.content.take_from,
        hand_over=[
            # In check mode the other set has taken over nothing, but would have.
            Handover(entry["kind"], entry["name"], entry["to"], done=options.check and entry["to"] in done)
            for entry in step.content.hand_over
        ],
        # A rollback deletes no revision.
        keep=step.revisions + 1,
        summary=f"rollback to {step.to}",
    )


def _add(result: Result, step: Step, outcome: Outcome) -> None:
    entry = {"component": step.set, "from": step.now, "to": step.to, "revision": outcome.revision}
    result.sets.append({**entry, "changed": outcome.changed, "objects": outcome.objects})
    result.diff += outcome.diff
    result.warnings += [f"{step.set}: {warning}" for warning in outcome.warnings]
