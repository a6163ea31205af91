# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read Kubernetes objects as the API serves them: conditions, times, label selectors, and paths with a query."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

#: A JSON object, and any JSON value.
JSON = dict[str, Any]
Value = Any
#: Expressions of a label selector as the query parameter ``labelSelector`` has them.
_EXPRESSIONS = {
    "In": "{key} in ({values})",
    "NotIn": "{key} notin ({values})",
    "Exists": "{key}",
    "DoesNotExist": "!{key}",
}


class SelectorError(ValueError):
    """A label selector is not set or is empty, so no query can choose its pods."""


# -- status ----------------------------------------------------------------------------------------------------------


def status_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of an object, or an empty dictionary if the object has none yet."""
    return obj.get("status") or {}


def condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the condition of a type from an object's status, or an empty mapping."""
    return next((entry for entry in status_of(obj).get("conditions") or [] if entry.get("type") == kind), {})


def holds(obj: Mapping[str, Any], kind: str) -> bool:
    """Return whether the condition of a type is True."""
    return condition(obj, kind).get("status") == "True"


def reason_of(entry: Mapping[str, Any]) -> str:
    """Return ``reason: message`` of a condition or of a container's state, without the part that is not set."""
    return ": ".join(str(entry[key]) for key in ("reason", "message") if entry.get(key))


def explain(entry: Mapping[str, Any]) -> str:
    """Return ``reason: message`` of a condition or of a container's state, or "no reason given"."""
    return reason_of(entry) or "no reason given"


def say_condition(entry: Mapping[str, Any]) -> str:
    """Return a condition as ``type=status (reason: message)``."""
    reason = reason_of(entry)
    return f"{entry['type']}={entry.get('status')}" + (f" ({reason})" if reason else "")


def parse_time(text: str) -> datetime.datetime:
    """Return a time of the API, such as ``2026-11-21T10:00:00.123456Z``. Raise ValueError if the text is none."""
    return datetime.datetime.fromisoformat(text)


def why_not_ready(pod: Mapping[str, Any]) -> str:
    """Return the most telling reason in a pod's status why the pod is not Ready."""
    status = status_of(pod)
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in containers:
        waiting = container.get("state", {}).get("waiting")
        last = container.get("lastState", {}).get("terminated")
        if waiting and last:
            return f"{container['name']} {explain(waiting)}, last exit {last.get('exitCode')} {explain(last)}"
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return f"{container['name']} {explain(waiting)}"
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        entry = condition(pod, kind)
        if entry.get("status") == "False":
            return explain(entry)
    return str(status.get("phase", "unknown"))


# -- label selectors -------------------------------------------------------------------------------------------------


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector chooses labels.

    As in the API, an empty selector chooses everything, and a selector that is not set (null) chooses nothing.
    """
    if selector is None:
        return False
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        present, values = rule["key"] in labels, rule.get("values") or []
        held = labels.get(rule["key"])
        if not {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": present,
            "DoesNotExist": not present,
        }[rule["operator"]]:
            return False
    return True


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """Return a label selector as the query parameter ``labelSelector`` has it; the text is never empty.

    Raise SelectorError if the selector is not set or empty. In a query the text "" chooses every object, which is
    wrong for a selector that is not set, and is never meant for the pods of one workload.
    """
    given = selector or {}
    parts = [f"{name}={value}" for name, value in sorted((given.get("matchLabels") or {}).items())]
    for rule in given.get("matchExpressions") or []:
        values = ",".join(rule.get("values") or [])
        parts.append(_EXPRESSIONS[rule["operator"]].format(key=rule["key"], values=values))
    if not parts:
        raise SelectorError(f"the selector {selector!r} chooses no pods in particular")
    return ",".join(parts)


def service_selector(service: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the pod selector of a Service as a label selector, or None if the Service has none.

    A Service without a selector leads to no pods: its endpoints are written by somebody else.
    """
    labels = service["spec"].get("selector")
    return {"matchLabels": labels} if labels else None


# -- paths -----------------------------------------------------------------------------------------------------------


def with_query(path: str, query: Mapping[str, Any] | None = None) -> str:
    """Return a path of the API server with an escaped query, or the path alone if the query is empty."""
    return f"{path}?{urlencode(query)}" if query else path
