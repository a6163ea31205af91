# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""One apply or removal of a set, with its options and its outcome. All steps share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..kube.client import JSON, Api
from ..kube.manifests import Ref
from ..kube.waiting import absent, wait_for
from .outcome import Outcome
from .ownership import PART_OF_LABEL, labels_of, set_id
from .revisions import KEPT

#: Returns a context that is entered during a wait. Its arguments are the members, and those that are not ready.
Meanwhile = Callable[[Collection[JSON], Collection[Ref]], AbstractContextManager[None]]


class SharedNamespace(NamedTuple):
    """A namespace that several sets use, and the labels that it is created with."""

    name: str
    labels: dict[str, str]


class Handover(NamedTuple):
    """A member that set `to` takes over. `done`: that set has it, or in check mode would have it by now."""

    kind: str
    name: str
    to: str
    done: bool = False


@dataclass(frozen=True)
class Assumed:
    """Changes that the sets before would have made by now. Only check mode has such changes."""

    #: Namespaces as they would be; None for those that would be deleted.
    namespaces: Mapping[str, JSON | None] = field(default_factory=dict)
    #: Namespaces that each set would still use, by the set's id.
    used: Mapping[str, list[str]] = field(default_factory=dict)

    def would_go(self, obj: Mapping[str, Any], namespace: str) -> bool:
        """Return whether an object would be gone, because its set would not use that namespace any more."""
        owner = labels_of(obj).get(PART_OF_LABEL, "")
        return owner in self.used and namespace not in self.used[owner]


@dataclass(frozen=True)
class Options:
    """Options of an apply or removal."""

    #: Namespace of the set's parent.
    namespace: str = "kube-system"
    #: Change nothing; the outcome is a prediction.
    check: bool = False
    diff: bool = False
    #: Take over fields that other managers own.
    force: bool = False
    #: Take over objects that others created.
    adopt: bool = False
    #: Seconds for all waits together.
    timeout: float = 300.0
    #: Is called with each line of progress.
    say: Callable[[str], None] = lambda text: None
    #: Names of sets whose members this set takes over.
    take_from: Sequence[str] = ()
    hand_over: Sequence[Handover] = ()
    #: Number of applied revisions to keep; 0 for none.
    keep: int = KEPT
    #: Run that a new revision belongs to; "" for this run.
    run: str = ""
    #: Summary of a new revision; "" for its differences from the one before.
    summary: str = ""
    assumed: Assumed = field(default_factory=Assumed)
    meanwhile: Meanwhile = lambda members, pending: nullcontext()


class Operation:
    """A set in a cluster, the options of this operation, and its outcome so far."""

    def __init__(self, api: Api, name: str, options: Options | None = None) -> None:
        self.api = api
        self.name = name
        self.options = options or Options()
        self.namespace = self.options.namespace
        self.check = self.options.check
        self.id = set_id(name, self.namespace)
        #: Label selector of the members.
        self.selector = f"{PART_OF_LABEL}={self.id}"
        self.deadline = time.monotonic() + self.options.timeout
        self.outcome = Outcome(self.options.diff)

    def wait_until_gone(self, refs: list[Ref], explain: bool = False) -> None:
        """Wait until objects are deleted. Raise NotReadyError if they are not in time."""
        if refs:
            wait_for(self.api, refs, absent, self.deadline, say=self.options.say, explain=explain)

    def assumed(self) -> Assumed:
        """Return the changes that a set after this one must assume in check mode."""
        before, outcome = self.options.assumed, self.outcome
        used = {} if outcome.used is None else {self.id: outcome.used}
        return Assumed({**before.namespaces, **outcome.namespaces}, {**before.used, **used})
