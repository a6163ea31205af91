# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Apply the objects of a set: shared namespaces first, then phase after phase."""

from __future__ import annotations

from collections.abc import Collection

from ..kube.client import JSON, ApiError
from ..kube.manifests import Key, changed_fields, in_phases, phase_of, ref_of, was_changed
from ..kube.waiting import in_parallel
from .adoption import take_over
from .crds import CRD, apply_patiently, await_kinds, learn_kinds
from .operation import Operation, SharedNamespace
from .outcome import ApplySetError, refusal
from .ownership import MANAGER, PART_OF_LABEL, SHARED_LABEL, group_kind, labels_of
from .plan import Plan
from .ready import wait_ready


def apply_shared(operation: Operation, plan: Plan, namespace: SharedNamespace) -> None:
    """Create a shared namespace, or set the labels of one that our sets created. One of others stays as it is."""
    live = plan.namespaces[namespace.name]
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace.name, "labels": {**namespace.labels, SHARED_LABEL: "true"}},
    }
    if live and SHARED_LABEL not in labels_of(live) and labels_of(live).get(PART_OF_LABEL) != operation.id:
        operation.outcome.add("unchanged", body)
        return
    # Each set has its own manager for the labels: sets that disagree get a conflict instead of changes back and forth.
    manager = f"{MANAGER}/{operation.name}"
    try:
        result = _write(operation, plan, body, live, manager=manager)
    except ApiError as error:
        raise ApplySetError(refusal(body, error)) from error
    _record(operation, plan, body, live, result, manager)


def release_node_ports(operation: Operation, plan: Plan) -> None:
    """Take node ports, which only one Service can have, from obsolete Services for those that inherit them.

    Obsolete Services are deleted last, so they serve inside the cluster until their heirs are there.
    """
    if not operation.check:
        for key in plan.port_heirs:
            operation.api.patch("v1", "Service", key.name, {"spec": {"type": "ClusterIP"}}, key.namespace)


def apply_phases(operation: Operation, plan: Plan) -> dict[Key, JSON]:
    """Apply all members that are not settled, in phases. Return all members as the server has them now."""
    applied = {key: plan.members[key] for key in plan.settled}
    for key in plan.settled:
        operation.outcome.add("unchanged", plan.desired[key])
    learn_kinds(operation, (plan.desired[key] for key in plan.settled))
    fresh: frozenset[str] = frozenset()
    for phase in in_phases(obj for key, obj in plan.desired.items() if key not in plan.settled):
        if not operation.check and not plan.taken.isdisjoint(ref_of(obj).key for obj in phase):
            # The other set serves this object until the members that serve it from now on are ready.
            wait_ready(operation, {key: obj for key, obj in applied.items() if phase_of(obj) < phase_of(phase[0])})
        results = _apply_phase(operation, plan, phase, fresh)
        applied |= results
        if phase[0]["kind"] == CRD:
            fresh = await_kinds(operation, phase, plan.live, results)
    return applied


def _apply_phase(operation: Operation, plan: Plan, phase: list[JSON], fresh: Collection[str]) -> dict[Key, JSON]:
    def apply(obj: JSON) -> JSON | ApiError:
        try:
            return _apply(operation, plan, obj, fresh)
        except ApiError as error:
            return error

    applied: dict[Key, JSON] = {}
    problems: list[str] = []
    for obj, result in zip(phase, in_parallel(apply, phase), strict=True):
        if isinstance(result, ApiError):
            problems.append(refusal(obj, result))
            continue
        key = ref_of(obj).key
        _record(operation, plan, obj, plan.live.get(key), result)
        applied[key] = result
    if problems:
        raise ApplySetError("\n".join(sorted(problems)))
    return applied


def _apply(operation: Operation, plan: Plan, obj: JSON, fresh: Collection[str]) -> JSON:
    """Apply a member, or predict that. Return the member as the server has it, or would have it."""
    key = ref_of(obj).key
    if key not in plan.adopted:
        return _write(operation, plan, obj, plan.live.get(key), fresh)
    prediction = plan.adopted[key]
    if operation.check:
        return prediction or obj
    take_over(operation, obj, plan.live[key], in_place=prediction is not None)
    return apply_patiently(operation, obj, MANAGER, True, fresh)


def _write(
    operation: Operation,
    plan: Plan,
    obj: JSON,
    live: JSON | None,
    fresh: Collection[str] = (),
    manager: str = MANAGER,
) -> JSON:
    """Apply an object, or predict that."""
    if operation.check:
        return _predict(operation, plan, obj, live, fresh, manager)
    if live is not None and "deletionTimestamp" in live["metadata"]:
        # An earlier run, which was interrupted, deletes it. Anything that is written now would go with it.
        operation.wait_until_gone([ref_of(live)], explain=True)
    return apply_patiently(operation, obj, manager, operation.options.force, fresh)


def _predict(
    operation: Operation, plan: Plan, obj: JSON, live: JSON | None, fresh: Collection[str], manager: str
) -> JSON:
    """Return an object as the server would have it."""
    ref = ref_of(obj)
    if (ref.api_version, ref.kind) not in operation.api.resources():
        return obj
    if live is None and any(ref.key in heirs for heirs in plan.port_heirs.values()):
        return obj  # a dry run would fail: the obsolete Service still has the node port
    try:
        return operation.api.apply(obj, manager, operation.options.force, dry_run=True)[0]
    except ApiError as error:
        if error.status == 404 and ref.namespace and live is None:
            if ref.namespace not in plan.namespaces:
                operation.outcome.warnings.append(
                    f"{ref}: namespace {ref.namespace} does not exist, and the set does not create it"
                )
            return obj
        if group_kind(obj) in fresh and error.status in (400, 422, 500):
            operation.outcome.warnings.append(f"{ref} cannot be tried before its CRD has changed: {error}")
            return {**(live or {}), **obj}
        raise


def _record(
    operation: Operation, plan: Plan, obj: JSON, live: JSON | None, result: JSON, manager: str = MANAGER
) -> None:
    """Add an object that was applied to the outcome."""
    key, outcome = ref_of(obj).key, operation.outcome
    if key in plan.adopted:
        # An object that is created again shares nothing with the one before, so no fields are listed.
        in_place = plan.adopted[key] is not None
        fields = changed_fields(live or {}, result, None, manager) if in_place else []
        outcome.add("adopted" if in_place else "replaced", obj, live, result, fields)
    elif live is None or "deletionTimestamp" in live["metadata"]:
        outcome.add("created", obj, None, result)
    elif was_changed(live, result, obj, manager):
        outcome.add("configured", obj, live, result, changed_fields(live, result, obj, manager))
    else:
        outcome.add("unchanged", obj)
    if key.kind == "Namespace":
        outcome.namespaces[key.name] = result
