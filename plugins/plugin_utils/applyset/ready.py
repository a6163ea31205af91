# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Wait until the members of sets are ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

from ..kube.client import JSON, Api
from ..kube.manifests import Key, ref_of
from ..kube.readiness import STATIC_KINDS
from ..kube.waiting import in_parallel, present, unready, wait_for
from .crds import CRD
from .discovery import kinds_that
from .operation import Meanwhile, Operation
from .outcome import ApplySetError
from .ownership import PART_OF_LABEL, set_id
from .parent import sets_of


def wait_ready(operation: Operation, applied: Mapping[Key, JSON]) -> None:
    """Wait until members are ready. Raise NotReadyError if they are not in time."""
    # A phase waits for its own CRDs, and of settled CRDs only the metadata was read.
    members = [obj for key, obj in applied.items() if key.kind != CRD]
    if pending := unready(operation.api, members):
        with operation.options.meanwhile(members, pending):
            wait_for(operation.api, pending, present, operation.deadline, operation.selector, operation.options.say)


def wait_for_sets(
    api: Api,
    names: Iterable[str] | None,
    namespace: str = "kube-system",
    timeout: float = 300.0,
    say: Callable[[str], None] = lambda text: None,
    meanwhile: Meanwhile = lambda members, pending: nullcontext(),
) -> int:
    """Wait until all members of sets are ready, of all sets of ours if `names` is None. Return the number of members.

    Kinds that are ready as soon as they are stored are not counted. Raise ApplySetError for a name of no set,
    NotReadyError if members are not ready in `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    parents = sets_of(api, namespace)
    wanted = sorted(parents) if names is None else sorted(set(names))
    if unknown := [name for name in wanted if name not in parents]:
        known = ", ".join(sorted(parents)) or "none"
        raise ApplySetError(f"names: {', '.join(unknown)}: no such set in namespace {namespace}; there are: {known}")
    if not wanted:
        return 0
    kinds = frozenset().union(*(parents[name].kinds for name in wanted))
    selector = f"{PART_OF_LABEL} in ({','.join(set_id(name, namespace) for name in wanted)})"
    chosen = kinds_that(api, lambda kind: kind.group_kind in kinds and kind.kind not in STATIC_KINDS)
    listings = in_parallel(lambda kind: api.list(kind.api_version, kind.kind, None, selector).items, chosen)
    members = {ref_of(item): item for listing in listings for item in listing}
    if pending := unready(api, members.values()):
        with meanwhile(members.values(), pending):
            wait_for(api, pending, present, deadline, selector, say)
    return len(members)
