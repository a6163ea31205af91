# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Sets of objects that are applied and removed together, in the format of KEP-3659."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..common.runs import run_id
from ..kube.client import JSON
from ..kube.manifests import Key
from .definition import fingerprint_of
from .discovery import find_members
from .operation import Operation, SharedNamespace
from .outcome import ApplySetError, Outcome
from .ownership import group_kind
from .parent import Parent, read_parent, write_parent
from .phases import apply_phases, apply_shared, release_node_ports
from .plan import Plan, make_plan
from .pruning import delete_members, release_namespaces
from .ready import wait_ready
from .revisions import History, RevisionError, TooLargeError


class ApplySet(Operation):
    """One set in one cluster. In check mode nothing is changed, and the outcome is a prediction."""

    def apply(self, objects: list[JSON], shared: Iterable[SharedNamespace] = (), wait: bool = True) -> Outcome:
        """Apply `objects` as the members of the set, delete all other members, and wait until all are ready.

        Raise DefinitionError or ApplySetError before the first change if the set cannot be applied, ApplySetError for
        objects that the server refuses, NotReadyError if objects are not ready, or not gone, in time.
        """
        plan = make_plan(self, objects, list(shared))
        claimed = self._claim(plan)
        for namespace in plan.shared:
            apply_shared(self, plan, namespace)
        release_node_ports(self, plan)
        applied = apply_phases(self, plan)
        self.outcome.sort(plan.desired)
        kept = delete_members(self, plan.obsolete.values(), "pruned", plan.desired, plan.target.shared)
        release_namespaces(self, plan.parent.shared - plan.target.shared)
        self._conclude(plan, claimed, applied, kept)
        if wait and not self.check:
            wait_ready(self, applied)
        return self.outcome

    def remove(self) -> Outcome:
        """Delete all members, shared namespaces that no other set lists, and the parent. Wait until they are gone."""
        parent = read_parent(self)
        if not parent.exists:
            return self.outcome
        kept = delete_members(self, find_members(self, parent.kinds).values(), "deleted")
        if kept:
            write_parent(self, parent, Parent(True, frozenset(map(group_kind, kept)), shared=parent.shared))
            return self.outcome
        release_namespaces(self, parent.shared)
        self.outcome.used = []
        if not self.check:
            self._history.forget()
            self.api.delete("v1", "ConfigMap", self.name, self.namespace)
        return self.outcome

    @property
    def _history(self) -> History:
        return History(self.api, self.name, self.namespace)

    def _claim(self, plan: Plan) -> Parent:
        """Choose the revision, and write and return a parent that names the old and the new members.

        Whenever a run is killed, the parent knows all members, and has no fingerprint of a member that the run may
        have written.
        """
        self.outcome.revision, unfinished = self._choose_revision(plan)
        claimed = Parent(
            True,
            plan.parent.kinds | plan.target.kinds,
            plan.parent.namespaces | plan.target.namespaces,
            plan.parent.shared | plan.target.shared,
            frozenset(plan.settled.values()),
            self.outcome.revision,
            unfinished,
        )
        write_parent(self, plan.parent, claimed)
        return claimed

    def _choose_revision(self, plan: Plan) -> tuple[int | None, bool]:
        """Return the number of the revision with the plan's content, and whether it must still be applied."""
        current = plan.parent.revision
        if self.check:
            return None, False
        if not self.options.keep:
            if current is not None:
                self._history.forget()
            return None, False
        if plan.is_converged and current is not None and not plan.parent.unfinished:
            return current, False  # the latest revision has this content, so it need not be read
        try:
            return self._history.choose(plan.content, current, self.options.run or run_id(), self.options.summary)
        except TooLargeError as error:
            self.outcome.warnings.append(str(error))
            return None, False
        except RevisionError as error:
            raise ApplySetError(str(error)) from error

    def _conclude(self, plan: Plan, claimed: Parent, applied: Mapping[Key, JSON], kept: list[JSON]) -> None:
        """Finish the revision, and write the parent with the members that there are now."""
        new = {fingerprint_of(plan.desired[key], obj) for key, obj in applied.items() if key not in plan.settled}
        if claimed.revision and claimed.unfinished:
            self._history.finish(claimed.revision, self.options.keep)
        final = plan.target._replace(
            kinds=plan.target.kinds | frozenset(map(group_kind, kept)),
            fingerprints=claimed.fingerprints | new - {""},
            revision=claimed.revision,
        )
        write_parent(self, claimed, final)
        self.outcome.used = sorted(plan.target.namespaces | plan.target.shared)
