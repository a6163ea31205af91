# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read entries of ``autoscaled_apps`` into apps, and report all their errors at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..common.entry import Findings, Node, Source
from .model import WORKLOADS, App, AppError, Metric, Scrape
from .rules import merge_rules
from .scale_on import NAME, positive_quantity, read_metric

ENTRY = ("name", "namespace", "workload", "scrape", "scale_on", "replicas", "behavior", "alerts")
MAX_REPLICAS = 10
NAME_RULE = "must be lowercase letters, digits and '-', at most 63"
PORT = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
PORT_RULE = "must be the name of a port, at most 15 lowercase letters, digits and '-', or a number from 1 to 65535"

#: Default of behavior.scaleDown: scale in at once, to the highest number that the metric demanded within the window.
SCALE_DOWN = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


def parse_apps(entries: Iterable[object]) -> list[App]:
    """Return the apps of entries of the variable ``autoscaled_apps``. Raise AppError with all errors."""
    pairs = parse_pairs((entry, Source(f"autoscaled_apps[{number}]")) for number, entry in enumerate(entries))
    return [app for app, _unused in pairs]


def parse_pairs(entries: Iterable[tuple[object, Source]]) -> list[tuple[App, Source]]:
    """Return the apps of entries, each with the source of its entry. Raise AppError with all errors."""
    pairs, findings = examine_apps(entries)
    if findings.errors:
        raise AppError("\n".join(findings.errors))
    return pairs


def examine_apps(
    entries: Iterable[tuple[object, Source]], additional: Iterable[Mapping[str, Any]] = ()
) -> tuple[list[tuple[App, Source]], Findings]:
    """Return the apps of the entries without errors, and the errors and warnings about all entries.

    ``additional`` are rules of the variable ``prometheus_adapter_rules``, which may contradict an entry.
    """
    findings = Findings()
    pairs = []
    for entry, source in entries:
        before = len(findings.errors)
        app = _app(Node(entry, "", source, findings))
        if app and len(findings.errors) == before:
            pairs.append((app, source))
    conflicts = [*_duplicates(pairs), *merge_rules(pairs, additional)[1]]
    findings.errors = list(dict.fromkeys([*findings.errors, *conflicts]))
    return pairs, findings


def _app(entry: Node) -> App | None:
    if not entry.is_mapping(ENTRY, required=("name", "namespace", "workload", "scale_on")):
        return None
    name = entry.get("name").text("", NAME, NAME_RULE)
    namespace = entry.get("namespace").text("", NAME, NAME_RULE)
    kind, workload = _workload(entry.get("workload"))
    least = entry.get("replicas").get("min").integer(1, least=0)
    most = entry.get("replicas").get("max").integer(MAX_REPLICAS)
    scrape = _scrape(entry.get("scrape"))
    scale_on = entry.get("scale_on")
    items = scale_on.items() if scale_on.is_set else []
    metrics = tuple(metric for item in items if (metric := read_metric(item, namespace, entry, scrape, most)))
    if scale_on.value == []:
        scale_on.reject("must name a metric or a resource, or several in a list")
    _check_replicas(entry, least, most, metrics)
    behavior = _behavior(entry.get("behavior"), most)
    return App(
        name, namespace, kind, workload, scrape, metrics, least, most, behavior, entry.get("alerts").boolean(True)
    )


def _workload(node: Node) -> tuple[str, str]:
    if not node.is_set:
        return "", ""
    kind, _unused, name = str(node.value).partition("/")
    if kind.lower() not in WORKLOADS or not NAME.fullmatch(name):
        node.reject(f"must be one of {', '.join(f'{kind}/NAME' for kind in WORKLOADS)}")
        return "", ""
    return WORKLOADS[kind.lower()][1], name


def _scrape(node: Node) -> Scrape | None:
    if not node.is_set or not node.is_mapping(("port", "path", "interval", "scheme", "service"), required=("port",)):
        return None
    return Scrape(
        _port(node.get("port")),
        node.get("path").text("/metrics", re.compile(r"/\S*"), "must be a path that begins with /"),
        node.get("interval").integer(5, unit="seconds"),
        node.get("scheme").choice(("http", "https"), "http"),
        node.get("service").text("", NAME, "must be the name of a Service"),
    )


def _port(node: Node) -> str | int:
    port = node.value
    if isinstance(port, str) and port.isdigit():
        port = int(port)
    is_number = isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535
    if node.is_set and not is_number and not (isinstance(port, str) and PORT.fullmatch(port)):
        node.reject(PORT_RULE)
    return port if isinstance(port, int) else str(port)


def _check_replicas(entry: Node, least: int, most: int, metrics: Sequence[Metric]) -> None:
    replicas = entry.get("replicas")
    if replicas.is_set and not replicas.is_mapping(("min", "max")):
        return
    if least > most:
        name = replicas.source.name("replicas.max")
        default = "" if replicas.get("max").is_set else " (default)"
        replicas.get("min").reject(f"must not be above {name} = {most}{default}")
    if least == 0 and not any(metric.source in ("object", "external") for metric in metrics):
        replicas.get("min").reject(
            "may be 0 only if a metric of scale_on is of an object or external: no other metric has a value without "
            "pods"
        )


def _behavior(node: Node, most: int) -> dict[str, Any]:
    # Scale out at once, to the number of replicas that the metric demands.
    scale_up: dict[str, Any] = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": most, "periodSeconds": 15}],
    }
    defaults = {"scaleUp": scale_up, "scaleDown": SCALE_DOWN}
    if not node.is_set or not node.is_mapping(tuple(defaults)):
        return {direction: dict(rules) for direction, rules in defaults.items()}
    return {direction: {**rules, **_direction(node.get(direction))} for direction, rules in defaults.items()}


def _direction(node: Node) -> dict[str, Any]:
    keys = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
    if not node.is_set or not node.is_mapping(keys):
        return {}
    rules: dict[str, Any] = {}
    if (window := node.get(keys[0])).is_set:
        rules[keys[0]] = window.integer(0, least=0, most=3600, unit="seconds")
    if (policy := node.get(keys[1])).is_set:
        rules[keys[1]] = policy.choice(("Max", "Min", "Disabled"))
    if (policies := node.get(keys[2])).is_set:
        rules[keys[2]] = [_policy(item) for item in policies.items()]
    if (tolerance := node.get(keys[3])).is_set:
        rules[keys[3]] = positive_quantity(tolerance, or_zero=True)
    return rules


def _policy(node: Node) -> dict[str, Any]:
    keys = ("type", "value", "periodSeconds")
    if not node.is_mapping(keys, required=keys):
        return {}
    return {
        "type": node.get("type").choice(("Pods", "Percent")),
        "value": node.get("value").integer(1),
        "periodSeconds": node.get("periodSeconds").integer(15, most=1800, unit="seconds"),
    }


def _duplicates(pairs: Sequence[tuple[App, Source]]) -> Iterator[str]:
    """Return an error for each name and each workload that two entries have."""
    names: dict[str, Source] = {}
    workloads: dict[tuple[str, str, str], Source] = {}
    for app, source in pairs:
        if other := names.get(app.name):
            yield f"{source.name('name')} = {app.name!r}: {other.name('name')} has it, too; each app needs its own"
        names[app.name] = source
        workload = (app.namespace, app.workload_kind, app.workload_name)
        if other := workloads.get(workload):
            yield (
                f"{source.name('workload')} = {f'{app.workload_kind.lower()}/{app.workload_name}'!r}: "
                f"{other.name('workload')} scales it already; give one of them both metrics (scale_on takes a list)"
            )
        workloads[workload] = source
