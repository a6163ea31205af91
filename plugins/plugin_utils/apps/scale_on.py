# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read one item of ``scale_on`` into a metric, and check its query and its target."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace

from ..common.entry import Node
from ..kube.quantity import TOLERANCE, quantity
from .model import OBJECTS, Metric, Scrape
from .promql import expand, problems, shortest_window
from .rules import default_query

SCALE_ON = (
    "metric", "function", "window", "quantile", "over", "query", "as", "target", "target_type", "object", "labels",
    "external", "selector", "resource", "container",
)  # fmt: skip
RATES = ("rate", "irate")
FUNCTIONS = (*RATES, "gauge", "quantile")
#: Function of a series by the end of its name. Any other series is a gauge.
SUFFIXES = {"_total": "rate", "_count": "rate", "_sum": "rate", "_bucket": "quantile"}
#: Names of counters that do not count events end with these.
MEASURES = ("_sum", "_seconds_total", "_bytes_total")
#: A rate needs two samples. With this many scrapes in its window, the rate does not vanish if one scrape fails.
LEAST_SCRAPES = 4
#: A warning reports a target for which one event causes more replicas than this.
REPLICAS_PER_EVENT = 2

PERCENT = re.compile(r"[1-9][0-9]*%")
SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SERIES_RULE = "must be the name of a series: letters, digits, '_' and ':'; use query for an expression"
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
#: Names of objects. Kubernetes allows longer ones for some kinds, but these are also labels and parts of other names.
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def positive_quantity(node: Node, or_zero: bool = False) -> str:
    """Return the text of a quantity. Reject what is no quantity, is negative, or is 0 unless 0 is allowed."""
    text = str(node.value)
    try:
        value = quantity(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (value == 0 and not or_zero):
        node.reject(f"must be a quantity {'of 0 or more' if or_zero else 'above 0'}, such as 10m, 500m or 2")
    return text


def read_metric(node: Node, namespace: str, entry: Node, scrape: Scrape | None, most: int) -> Metric | None:
    """Return the metric of an item, or None if the item names no metric.

    The entry's namespace, scrape settings and highest number of replicas (``most``) limit the allowed values.
    """
    if not node.is_mapping(SCALE_ON, required=("target",)):
        return None
    if node.get("resource").is_set:
        return _resource(node)
    if not node.get("metric").is_set:
        node.reject("must name a series (metric) or a resource (cpu or memory)")
        return None
    before = len(node.findings.errors)
    metric = _with_query(node, _series(node, namespace, entry, scrape))
    # A query of wrong values would add errors that mean nothing.
    if len(node.findings.errors) == before:
        _check_query(entry, node, metric, scrape)
    if len(node.findings.errors) == before:
        _warn_of_single_events(node, metric, scrape, most)
    return metric


def _exclude(node: Node, keys: Iterable[str], reason: str) -> None:
    for key in keys:
        if node.get(key).is_set:
            node.get(key).reject(reason)


def _resource(node: Node) -> Metric:
    others = [key for key in SCALE_ON if key not in ("resource", "container", "target")]
    _exclude(node, others, "does not go with resource; it has container and target")
    target = node.get("target")
    percent = isinstance(target.value, str) and PERCENT.fullmatch(target.value)
    if target.is_set and not percent:
        if str(target.value).endswith("%"):
            target.reject("must be a whole percentage above 0, such as 60%, or a quantity, such as 500m or 50Mi")
        else:
            positive_quantity(target)
    container = node.get("container").text("", NAME, "must be the name of a container")
    return Metric(
        "container_resource" if container else "resource",
        str(target.value),
        "utilization" if percent else "average",
        path=node.path,
        resource=node.get("resource").choice(("cpu", "memory")),
        container=container,
    )


def _series(node: Node, namespace: str, entry: Node, scrape: Scrape | None) -> Metric:
    """Return the metric of a series, without its name and query."""
    series = node.get("metric").text("", SERIES, SERIES_RULE)
    over = node.get("over").text("", SERIES, SERIES_RULE)
    _exclude(node, ["container"], "goes only with resource")
    source, object_kind, object_name = _described(node, namespace)
    function = node.get("function").choice(FUNCTIONS, _function(series))
    if function == "quantile":
        _exclude(node, ["over"], "does not go with a quantile")
        if series and not series.endswith("_bucket"):
            node.get("metric").reject(
                "must be the buckets of a histogram, a series whose name ends in _bucket, for a quantile"
            )
    else:
        _exclude(node, ["quantile"], "goes only with a series whose name ends in _bucket")
    if function == "gauge":
        _exclude(node, ["window"], "goes only with a rate or a quantile; a gauge is read as it is")
    metric = Metric(
        source,
        positive_quantity(node.get("target")) if node.get("target").is_set else "",
        _target_type(node, source),
        path=node.path,
        series=series,
        function=function,
        window=0 if function == "gauge" else node.get("window").integer(60, unit="seconds"),
        quantile=node.get("quantile").number(0.95, 0, 1) if function == "quantile" else 0.0,
        over=over,
        labels=_resource_labels(node, source, object_kind),
        selector=node.get("selector").labels(LABEL, "must be the name of a label and its value"),
        object_kind=object_kind,
        object_name=object_name,
    )
    _check_window(entry, node, metric, scrape)
    return metric


def _with_query(node: Node, metric: Metric) -> Metric:
    name = node.get("as").text("", SERIES, "must be letters, digits, '_' and ':', as a metric's name")
    metric = replace(metric, name=name or _name(metric))
    if not node.get("query").is_set:
        return replace(metric, query=default_query(metric))
    _exclude(node, ["function", "window", "quantile", "over"], "does not go with query, which contains it")
    if not name:
        node.get("as").reject("must name the metric that the query computes")
    return replace(metric, query=node.get("query").text(), function="", window=0, quantile=0.0)


def _check_query(entry: Node, node: Node, metric: Metric, scrape: Scrape | None) -> None:
    """Reject a query, from the entry or computed here, that Prometheus or the adapter cannot use."""
    label = metric.labels.get(metric.object_kind or "pod", "")
    matchers = {**metric.selector, **dict.fromkeys(metric.labels.values(), "x")}
    query = Node(metric.query, node.get("query").path, node.source, node.findings)
    wrong = list(problems(metric.query, metric.series, matchers, label))
    for text in wrong:
        query.reject(text)
    if scrape and not wrong:
        window = shortest_window(expand(metric.query, metric.series, matchers, label))
        least = LEAST_SCRAPES * scrape.interval
        if window < least:
            name = entry.source.name("scrape.interval")
            query.reject(
                f"reads a range of {window:g} s, but must read {least} or more, {LEAST_SCRAPES} times {name} = "
                f"{scrape.interval}"
            )


def _warn_of_single_events(node: Node, metric: Metric, scrape: Scrape | None, most: int) -> None:
    """Warn of a target that is so low, for its window, that one event causes many replicas.

    A rate extrapolates the change between the first and the last sample of its window to the whole window; irate
    reads the last two samples only.
    """
    if not metric.target or metric.function not in RATES or metric.over or metric.series.endswith(MEASURES):
        return
    interval = scrape.interval if scrape else 0
    seconds = interval if metric.function == "irate" else metric.window - interval
    if not seconds:
        return
    reading, target = 1 / seconds, quantity(metric.target)
    caused = min(most, math.ceil(round(reading / target, 6)))
    if reading <= target * (1 + TOLERANCE) or caused <= REPLICAS_PER_EVENT:
        return
    enough = math.ceil(1000 * reading / REPLICAS_PER_EVENT)
    seen = "between two scrapes" if metric.function == "irate" else f"in its window of {metric.window} s"
    advice = f"take {enough}m or more" + ("" if metric.function == "irate" else ", or a longer window")
    node.findings.warnings.append(
        f"{node.get('target')}: a single event {seen} reads up to {1000 * reading:.0f}m, which alone asks for {caused} "
        f"replicas (of at most {most}); {advice}"
    )


def _check_window(entry: Node, node: Node, metric: Metric, scrape: Scrape | None) -> None:
    if not metric.window or not scrape or metric.window >= LEAST_SCRAPES * scrape.interval:
        return
    window, interval = node.get("window"), entry.get("scrape").get("interval")
    if window.is_set:
        name = interval.source.name(interval.path)
        least = LEAST_SCRAPES * scrape.interval
        window.reject(f"must be {least} or more seconds, {LEAST_SCRAPES} times {name} = {scrape.interval}")
    else:
        most = metric.window // LEAST_SCRAPES
        interval.reject(
            f"must be {most} or less seconds, so that {LEAST_SCRAPES} scrapes fit the window of {metric.window}"
        )


def _described(node: Node, namespace: str) -> tuple[str, str, str]:
    """Return the source of a metric, and kind and name of the object that it describes, if it describes one."""
    described = node.get("object")
    if node.get("external").boolean(False):
        _exclude(node, ["object", "labels"], "does not go with external: true")
        return "external", "", ""
    if not described.is_set:
        return "pods", "", ""
    kind, _unused, name = str(described.value).partition("/")
    if kind.lower() not in OBJECTS or not NAME.fullmatch(name):
        described.reject(f"must be one of {', '.join(f'{kind}/NAME' for kind in OBJECTS)}")
    elif kind.lower() == "namespace" and name != namespace:
        described.reject(
            f"must be the namespace of the app itself, namespace/{namespace}: an autoscaler reads no other"
        )
    return "object", kind.lower(), name


def _target_type(node: Node, source: str) -> str:
    target_type = node.get("target_type")
    chosen = target_type.choice(("average", "value"), "average")
    if chosen == "value" and source == "pods":
        target_type.reject("goes only with object or external; of pods the average is taken")
    return chosen


def _resource_labels(node: Node, source: str, object_kind: str) -> dict[str, str]:
    """Return the label of the series for each resource that the metric belongs to."""
    if source == "external":
        return {}
    resource = object_kind if source == "object" else "pod"
    labels = {name: name for name in dict.fromkeys(("namespace", resource))}
    given = node.get("labels")
    if given.is_set and given.is_mapping(tuple(labels)):
        labels |= {
            name: given.get(name).text(name, LABEL, "must be the name of a label: letters, digits and '_'")
            for name in labels
        }
    return labels


def _function(series: str) -> str:
    return next((function for suffix, function in SUFFIXES.items() if series.endswith(suffix)), "gauge")


def _name(metric: Metric) -> str:
    base = metric.series.removesuffix("_total")
    if metric.over:
        return f"{base}_over_{metric.over.removesuffix('_total')}"
    if metric.function in RATES:
        return f"{base}_per_second"
    if metric.function == "quantile":
        return f"{metric.series.removesuffix('_bucket')}_p{metric.quantile * 100:g}".replace(".", "_")
    return metric.series
