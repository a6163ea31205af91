# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Autoscaled apps: the entries of ``autoscaled_apps``, and what the cluster and the adapter get for them.

An entry says what is scaled, how it is scraped and on what it scales. It is read into an `App`; of apps are made the
adapter's rules (`adapter_config`) and the objects of the role hpa (`app_objects`). All windows and intervals are
seconds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..kube.quantity import TOLERANCE, quantity
from .alerts import app_rules
from .promql import expand, problems, shortest_window
from .scraping import controller_pattern, standalone_objects

# With fewer scrapes in its window, one lost scrape makes a rate vanish.
LEAST_SCRAPES = 4
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([eE][0-9]+|[A-Za-z]*)")
PERCENT = re.compile(r"[1-9][0-9]*%")
SERIES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
MAX_REPLICAS = 10
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Names of objects; shorter than what Kubernetes allows for some, so that they can be labels and parts of other names.
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

WORKLOADS = {
    "deployment": ("apps/v1", "Deployment"),
    "statefulset": ("apps/v1", "StatefulSet"),
    "replicaset": ("apps/v1", "ReplicaSet"),
}
OBJECTS = {
    "ingress": ("networking.k8s.io/v1", "Ingress"),
    "service": ("v1", "Service"),
    "namespace": ("v1", "Namespace"),
}
RATES = ("rate", "irate")
FUNCTIONS = (*RATES, "gauge", "quantile")
# What tells the kind of a series, by the end of its name.
SUFFIXES = {"_total": "rate", "_count": "rate", "_sum": "rate", "_bucket": "quantile"}

# Counters of something else than events, by the end of their names.
MEASURES = ("_sum", "_seconds_total", "_bytes_total")
# More replicas than this for a single event are told.
REPLICAS_PER_EVENT = 2

# Out at once, to the number that the metric demands; in to the highest number that was demanded within the window.
SCALE_DOWN = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


class AppError(Exception):
    """Entries are wrong; the message has a line for each thing, with its path, its value and what is allowed."""


@dataclass(frozen=True)
class Scrape:
    """How an app's metrics are read. ``port`` is a name or number; ``service`` empty: the pods themselves are asked."""

    port: str | int
    path: str = "/metrics"
    interval: int = 5
    scheme: str = "http"
    service: str = ""


@dataclass(frozen=True)
class Metric:
    """One thing that an app scales on.

    ``source`` is pods, object, external, resource or container_resource; ``target_type`` average, value or
    utilization. ``name`` is the metric in the API, ``series`` and ``query`` (a template of the adapter) where it comes
    from, ``labels`` which label of the series names which resource.
    """

    source: str
    target: str
    target_type: str = "average"
    name: str = ""
    series: str = ""
    function: str = ""
    window: int = 0
    quantile: float = 0.0
    over: str = ""
    query: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    object_kind: str = ""
    object_name: str = ""
    resource: str = ""
    container: str = ""
    #: Where in the entry it stands, such as scale_on[0].
    path: str = field(default="scale_on", compare=False)

    @property
    def external(self) -> bool:
        """Whether it belongs to nothing in the cluster."""
        return self.source == "external"

    @property
    def served(self) -> bool:
        """Whether the adapter serves it, by a rule."""
        return self.source in ("pods", "object", "external")


@dataclass(frozen=True)
class App:
    """What is scaled, by what, and between which numbers of replicas. ``behavior`` is that of the autoscaler."""

    name: str
    namespace: str
    workload_kind: str
    workload_name: str
    scrape: Scrape | None
    metrics: tuple[Metric, ...]
    min_replicas: int
    max_replicas: int
    behavior: Mapping[str, Any]
    alerts: bool = True

    @property
    def workload_api(self) -> str:
        """Version of the workload's API, such as apps/v1."""
        return next(version for version, kind in WORKLOADS.values() if kind == self.workload_kind)


# -- what is made of apps --


@dataclass(frozen=True)
class Rule:
    """One rule of the adapter: a series becomes a metric of the custom metrics API, or of the external one.

    ``labels`` are label and resource of each label that names an object; ``every`` are those that all series have.
    """

    external: bool
    name: str
    series: str
    query: str
    labels: tuple[tuple[str, str], ...] = ()
    every: frozenset[str] = frozenset()

    def joined(self, other: Rule) -> Rule | None:
        """This rule for what both are for; None when they contradict each other."""
        labels = dict(self.labels) | dict(other.labels)
        same = replace(self, labels=(), every=frozenset()) == replace(other, labels=(), every=frozenset())
        agree = len(set(labels.values())) == len(labels) and all(
            labels[label] == resource for label, resource in (*self.labels, *other.labels)
        )
        if not same or not agree:
            return None
        return replace(self, labels=tuple(sorted(labels.items())), every=self.every & other.every)

    def as_dict(self) -> dict[str, Any]:
        """The rule as the adapter reads it: exactly this series, and the objects that its labels name."""
        present = ",".join(f'{label}!=""' for label in sorted(self.every))
        groups = {"ingress": {"group": "networking.k8s.io"}}
        overrides = {label: {**groups.get(resource, {}), "resource": resource} for label, resource in self.labels}
        return {
            "seriesQuery": f"{self.series}{{{present}}}" if present else self.series,
            "resources": {"namespaced": False} if self.external else {"overrides": overrides},
            "name": {"matches": f"^{self.series}$", "as": self.name},
            "metricsQuery": self.query,
        }


def rule_of(metric: Metric) -> Rule:
    """The rule by which the adapter serves a metric."""
    labels = tuple(sorted((label, resource) for resource, label in metric.labels.items()))
    return Rule(
        metric.external, metric.name, metric.series, metric.query, labels, frozenset(label for label, _unused in labels)
    )


def query_of(metric: Metric) -> str:
    """The adapter's template for a metric that brings none of its own. No value is ever NaN or infinite.

    The adapter would serve NaN as 0 and an infinite value as an arbitrary number. So a quantile of nothing is 0, and a
    ratio of nothing to nothing is, too; one of something to nothing is left out, as no number of replicas follows.
    """
    by = "" if metric.external else " by (<<.GroupBy>>)"

    def total(series: str, grouping: str = by) -> str:
        selected = f"{series}{{<<.LabelMatchers>>}}"
        if metric.function != "gauge":
            function = "irate" if metric.function == "irate" else "rate"
            selected = f"{function}({selected}[{metric.window}s])"
        return f"sum({selected}){grouping}"

    if metric.over:
        above, below = total("<<.Series>>"), total(metric.over)
        return f"{above} / ({below} > 0) or ({above} == 0)"
    if metric.function == "quantile":
        buckets = total("<<.Series>>", " by (le)" if metric.external else " by (le, <<.GroupBy>>)")
        return f"histogram_quantile({metric.quantile}, {buckets}) >= 0 or {total('<<.Series>>')} * 0"
    return total("<<.Series>>")


def additional_rules(entries: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Rules that ``prometheus_adapter_rules`` names."""
    labels = {"namespace": "namespace", "pod": "pod"}
    rules = []
    for entry in entries:
        metric = Metric(
            "pods", "1", name=str(entry["as"]), series=str(entry["series"]), function=str(entry["function"]),
            window=int(entry["window"]), labels=labels,
        )  # fmt: skip
        rules.append(rule_of(replace(metric, query=query_of(metric))))
    return rules


def adapter_config(apps: Iterable[App], additional: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The adapter's configuration: the rules of all apps, each once, and additional ones. `AppError` for a conflict."""
    rules: dict[tuple[bool, str], Rule] = {}
    made = [rule_of(metric) for app in apps for metric in app.metrics if metric.served]
    for rule in [*made, *additional_rules(additional)]:
        known = rules.setdefault((rule.external, rule.name), rule)
        joined = known.joined(rule)
        if joined is None:
            raise AppError(f"metric {rule.name}: is made of {known.series} by one rule and otherwise by another")
        rules[rule.external, rule.name] = joined
    return {
        "rules": [rule.as_dict() for rule in rules.values() if not rule.external],
        "externalRules": [rule.as_dict() for rule in rules.values() if rule.external],
    }


def app_objects(apps: Iterable[App], flavor: str = "operator") -> list[dict[str, Any]]:
    """The objects of apps: how each is scraped, its autoscaler, and its alerts.

    ``flavor`` is how Prometheus is run; empty when there is none of ours, so that nothing would read how to scrape.
    """
    apps = list(apps)
    rules = [group for app in apps for group in app_rules(app)]
    objects = standalone_objects(apps, rules) if flavor == "standalone" else []
    for app in apps:
        if app.scrape and flavor == "operator":
            objects.append(monitor(app, app.scrape))
        objects.append(autoscaler(app))
        if flavor == "operator" and (groups := app_rules(app)):
            kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"}
            objects.append({**kind, "metadata": _metadata(app), "spec": {"groups": groups}})
    return objects


def autoscaler(app: App) -> dict[str, Any]:
    """The HorizontalPodAutoscaler of an app."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(app),
        "spec": {
            "scaleTargetRef": {"apiVersion": app.workload_api, "kind": app.workload_kind, "name": app.workload_name},
            "minReplicas": app.min_replicas,
            "maxReplicas": app.max_replicas,
            "metrics": [metric_spec(metric) for metric in app.metrics],
            "behavior": dict(app.behavior),
        },
    }


def metric_spec(metric: Metric) -> dict[str, Any]:
    """One metric as an autoscaler names it."""
    if metric.target_type == "utilization":
        target: dict[str, Any] = {"type": "Utilization", "averageUtilization": int(metric.target.removesuffix("%"))}
    elif metric.target_type == "value":
        target = {"type": "Value", "value": metric.target}
    else:
        target = {"type": "AverageValue", "averageValue": metric.target}
    if metric.source == "resource":
        return {"type": "Resource", "resource": {"name": metric.resource, "target": target}}
    if metric.source == "container_resource":
        resource = {"name": metric.resource, "container": metric.container, "target": target}
        return {"type": "ContainerResource", "containerResource": resource}
    identity: dict[str, Any] = {"name": metric.name}
    if metric.selector:
        identity["selector"] = {"matchLabels": dict(metric.selector)}
    if metric.source == "object":
        version, kind = OBJECTS[metric.object_kind]
        described = {"apiVersion": version, "kind": kind, "name": metric.object_name}
        return {"type": "Object", "object": {"describedObject": described, "metric": identity, "target": target}}
    if metric.source == "external":
        return {"type": "External", "external": {"metric": identity, "target": target}}
    return {"type": "Pods", "pods": {"metric": identity, "target": target}}


def monitor(app: App, scrape: Scrape) -> dict[str, Any]:
    """What tells the Prometheus operator how an app is scraped.

    The labels of its pods are not known here, so nothing is selected by label: of all pods (or services) of the
    namespace, those of the app's workload (or of that name) are kept.
    """
    if scrape.service:
        keep = {"sourceLabels": ["__meta_kubernetes_service_name"], "regex": re.escape(scrape.service)}
        port: dict[str, Any] = {"port" if isinstance(scrape.port, str) else "targetPort": scrape.port}
        kind, endpoints = "ServiceMonitor", "endpoints"
    else:
        keep = {
            "sourceLabels": ["__meta_kubernetes_pod_controller_kind", "__meta_kubernetes_pod_controller_name"],
            "separator": "/",
            "regex": controller_pattern(app),
        }
        port = {"port" if isinstance(scrape.port, str) else "portNumber": scrape.port}
        kind, endpoints = "PodMonitor", "podMetricsEndpoints"
    endpoint = {
        **port,
        "path": scrape.path,
        "scheme": scrape.scheme,
        "interval": f"{scrape.interval}s",
        "relabelings": [{"action": "keep", **keep}, {"targetLabel": "job", "replacement": app.name}],
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": _metadata(app),
        "spec": {"selector": {}, endpoints: [endpoint]},
    }


def _metadata(app: App) -> dict[str, Any]:
    return {"name": app.name, "namespace": app.namespace, "labels": {"app.kubernetes.io/name": app.name}}


# -- reading entries --


@dataclass(frozen=True)
class Source:
    """Where an entry came from, so that what is wrong with it is said in the words of who wrote it.

    ``label`` is the entry, such as ``autoscaled_apps[0]``; ``variables`` names the variable that sets a path, where
    that is not the entry's own; ``where`` gives file and line of a path, as far as they are known. ``users`` tells
    whether the app is somebody's own, and not one that the collection brings.
    """

    label: str
    variables: Mapping[str, str] = field(default_factory=dict)
    where: Callable[[str], str] = lambda _path: ""
    users: bool = True

    def name(self, path: str) -> str:
        """A path of the entry as a person would look for it."""
        if path in self.variables:
            return self.variables[path]
        return self.label + (f".{path}" if path and not path.startswith("[") else path)

    def place(self, path: str, value: object = None) -> str:
        """A path with its value, if there is one, and where that was set."""
        where = self.where(path)
        return self.name(path) + ("" if value is None else f" = {value!r}") + (f" ({where})" if where else "")


@dataclass
class Findings:
    """What is wrong (``errors``) or surprising (``warnings``) about entries."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Node:
    """One value of an entry. What is wrong with it is noted, not raised, so that a run names everything at once."""

    def __init__(self, value: object, path: str, source: Source, findings: Findings) -> None:
        self.value = value
        self.path = path
        self.source = source
        self.findings = findings

    def __str__(self) -> str:
        return self.source.place(self.path, self.value)

    @property
    def given(self) -> bool:
        """Whether the entry says anything here."""
        return self.value is not None

    def wrong(self, text: str) -> None:
        """Note what is wrong with this value."""
        self.findings.errors.append(f"{self}: {text}")

    def get(self, key: str) -> Node:
        """The value of a key of this mapping."""
        value = self.value.get(key) if isinstance(self.value, Mapping) else None
        return Node(value, f"{self.path}.{key}" if self.path else key, self.source, self.findings)

    def items(self) -> list[Node]:
        """The values of this list, or this value when it is no list."""
        if not isinstance(self.value, (list, tuple)):
            return [self]
        return [
            Node(value, f"{self.path}[{number}]", self.source, self.findings) for number, value in enumerate(self.value)
        ]

    def mapping(self, allowed: Sequence[str], required: Sequence[str] = ()) -> bool:
        """Whether this is a mapping; keys that are unknown or missing are noted."""
        if not isinstance(self.value, Mapping):
            self.wrong(f"must be a mapping with the keys {', '.join(allowed)}")
            return False
        for key in self.value:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(allowed)}"
                self.get(str(key)).wrong(f"there is no such key; {hint}")
        for key in required:
            if self.value.get(key) is None:
                self.get(key).wrong("is missing")
        return True

    def text(self, default: str = "", pattern: re.Pattern[str] | None = None, what: str = "must be text") -> str:
        """This value as text that matches a pattern; ``what`` says what is allowed."""
        if not self.given:
            return default
        if not isinstance(self.value, str) or (pattern and not pattern.fullmatch(self.value)):
            self.wrong(what)
            return default
        return str.__str__(self.value)

    def choice(self, choices: Iterable[str], default: str = "") -> str:
        """This value as one of some words."""
        allowed = list(choices)
        if not self.given:
            return default
        if self.value not in allowed:
            near = difflib.get_close_matches(str(self.value), allowed, n=1, cutoff=0.5)
            self.wrong(f"must be one of {', '.join(allowed)}" + (f"; did you mean {near[0]}?" if near else ""))
            return default
        return str(self.value)

    def integer(self, default: int = 0, least: int = 1, most: int | None = None, unit: str = "") -> int:
        """This value as a whole number; text of digits counts, as templates give it."""
        if not self.given:
            return default
        value = self.value
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < least or (most and value > most):
            kind = f"a whole number of {unit}" if unit else "a whole number"
            self.wrong(f"must be {kind}, " + (f"{least} to {most}" if most else f"{least} or more"))
            return default
        return int(value)

    def number(self, default: float, above: float, below: float) -> float:
        """This value as a number between two others."""
        if not self.given:
            return default
        try:
            value = math.nan if isinstance(self.value, bool) else float(str(self.value))
        except ValueError:
            value = math.nan
        if not above < value < below:
            self.wrong(f"must be a number above {above:g} and below {below:g}")
            return default
        return value

    def boolean(self, default: bool) -> bool:
        """This value as true or false."""
        if not self.given:
            return default
        if not isinstance(self.value, bool):
            self.wrong("must be true or false")
            return default
        return self.value

    def labels(self, pattern: re.Pattern[str], what: str) -> dict[str, str]:
        """This value as a mapping of names to texts."""
        if not self.given:
            return {}
        if not isinstance(self.value, Mapping):
            self.wrong("must be a mapping")
            return {}
        for name, value in self.value.items():
            if not pattern.fullmatch(str(name)) or not isinstance(value, (str, int)) or isinstance(value, bool):
                self.get(str(name)).wrong(what)
        return {str(name): str(value) for name, value in self.value.items()}


def parse_apps(entries: Sequence[object], sources: Sequence[Source] = ()) -> list[App]:
    """Read entries; `AppError` names everything that is wrong with them."""
    return [app for app, _unused in parse_pairs(entries, sources)]


def parse_pairs(entries: Sequence[object], sources: Sequence[Source] = ()) -> list[tuple[App, Source]]:
    """Read entries; the apps with the sources of their entries. `AppError` names everything that is wrong."""
    pairs, findings = _examine(entries, sources)
    if findings.errors:
        raise AppError("\n".join(findings.errors))
    return pairs


def examine_apps(
    entries: Sequence[object], sources: Sequence[Source] = (), additional: Sequence[Mapping[str, Any]] = ()
) -> Findings:
    """Say what is wrong and what is surprising about entries, also beside additional rules of the adapter."""
    return _examine(entries, sources, additional)[1]


def _examine(
    entries: Sequence[object], sources: Sequence[Source], additional: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[tuple[App, Source]], Findings]:
    findings = Findings()
    known = sources or [Source(f"autoscaled_apps[{number}]") for number in range(len(entries))]
    pairs = []
    for entry, source in zip(entries, known, strict=True):
        before = len(findings.errors)
        app = _app(Node(entry, "", source, findings))
        if app and len(findings.errors) == before:
            pairs.append((app, source))
    findings.errors = list(dict.fromkeys([*findings.errors, *_contradictions(pairs, additional)]))
    return pairs, findings


ENTRY = ("name", "namespace", "workload", "scrape", "scale_on", "replicas", "behavior", "alerts")
SCALE_ON = (
    "metric", "function", "window", "quantile", "over", "query", "as", "target", "target_type", "object", "labels",
    "external", "selector", "resource", "container",
)  # fmt: skip


def _app(entry: Node) -> App | None:
    if not entry.mapping(ENTRY, required=("name", "namespace", "workload", "scale_on")):
        return None
    what = "must be lowercase letters, digits and '-', at most 63"
    name = entry.get("name").text("", NAME, what)
    namespace = entry.get("namespace").text("", NAME, what)
    kind, workload = _workload(entry.get("workload"))
    least = entry.get("replicas").get("min").integer(1, least=0)
    most = entry.get("replicas").get("max").integer(MAX_REPLICAS)
    scrape = _scrape(entry.get("scrape"))
    metrics = tuple(
        metric
        for item in (entry.get("scale_on").items() if entry.get("scale_on").given else [])
        if (metric := _metric(entry, item, namespace, scrape)) is not None
    )
    if entry.get("scale_on").value == []:
        entry.get("scale_on").wrong("must name a metric or a resource, or several in a list")
    _check_replicas(entry, least, most, metrics)
    behavior = _behavior(entry.get("behavior"), most)
    return App(
        name, namespace, kind, workload, scrape, metrics, least, most, behavior, entry.get("alerts").boolean(True)
    )


def _workload(node: Node) -> tuple[str, str]:
    allowed = f"must be one of {', '.join(f'{kind}/NAME' for kind in WORKLOADS)}"
    if not node.given:
        return "", ""
    kind, _unused, name = str(node.value).partition("/")
    if kind.lower() not in WORKLOADS or not NAME.fullmatch(name):
        node.wrong(allowed)
        return "", ""
    return WORKLOADS[kind.lower()][1], name


def _scrape(node: Node) -> Scrape | None:
    if not node.given or not node.mapping(("port", "path", "interval", "scheme", "service"), required=("port",)):
        return None
    port = node.get("port")
    number = port.value
    if isinstance(number, str) and number.isdigit():
        number = int(number)
    if port.given and not (
        (isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535)
        or (isinstance(number, str) and re.fullmatch(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", number))
    ):
        port.wrong(
            "must be the name of a port, at most 15 lowercase letters, digits and '-', or a number from 1 to 65535"
        )
    return Scrape(
        number if isinstance(number, int) else str(number),
        node.get("path").text("/metrics", re.compile(r"/\S*"), "must be a path that begins with /"),
        node.get("interval").integer(5, unit="seconds"),
        node.get("scheme").choice(("http", "https"), "http"),
        node.get("service").text("", NAME, "must be the name of a Service"),
    )


def _check_replicas(entry: Node, least: int, most: int, metrics: Sequence[Metric]) -> None:
    replicas = entry.get("replicas")
    if replicas.given and not replicas.mapping(("min", "max")):
        return
    if least > most:
        name = replicas.source.name("replicas.max")
        default = "" if replicas.get("max").given else " (default)"
        replicas.get("min").wrong(f"must not be above {name} = {most}{default}")
    if least == 0 and not any(metric.source in ("object", "external") for metric in metrics):
        replicas.get("min").wrong(
            "may be 0 only if a metric of scale_on is of an object or external: without pods nothing else has a value"
        )


def _behavior(node: Node, most: int) -> dict[str, Any]:
    scale_up: dict[str, Any] = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": most, "periodSeconds": 15}],
    }
    defaults = {"scaleUp": scale_up, "scaleDown": SCALE_DOWN}
    if not node.given or not node.mapping(tuple(defaults)):
        return {direction: dict(rules) for direction, rules in defaults.items()}
    return {direction: {**rules, **_direction(node.get(direction))} for direction, rules in defaults.items()}


def _direction(node: Node) -> dict[str, Any]:
    keys = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
    if not node.given or not node.mapping(keys):
        return {}
    rules: dict[str, Any] = {}
    if (window := node.get(keys[0])).given:
        rules[keys[0]] = window.integer(0, least=0, most=3600, unit="seconds")
    if (policy := node.get(keys[1])).given:
        rules[keys[1]] = policy.choice(("Max", "Min", "Disabled"))
    if (policies := node.get(keys[2])).given:
        rules[keys[2]] = [_policy(item) for item in policies.items()]
    if (tolerance := node.get(keys[3])).given:
        rules[keys[3]] = _quantity(tolerance, zero=True)
    return rules


def _policy(node: Node) -> dict[str, Any]:
    keys = ("type", "value", "periodSeconds")
    if not node.mapping(keys, required=keys):
        return {}
    return {
        "type": node.get("type").choice(("Pods", "Percent")),
        "value": node.get("value").integer(1),
        "periodSeconds": node.get("periodSeconds").integer(15, most=1800, unit="seconds"),
    }


def _quantity(node: Node, zero: bool = False) -> str:
    text = str(node.value)
    try:
        value = quantity(text) if QUANTITY.fullmatch(text) and not isinstance(node.value, bool) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        node.wrong(f"must be a quantity {'of 0 or more' if zero else 'above 0'}, such as 10m, 500m or 2")
    return text


def _metric(entry: Node, node: Node, namespace: str, scrape: Scrape | None) -> Metric | None:
    if not node.mapping(SCALE_ON, required=("target",)):
        return None
    if node.get("resource").given:
        return _resource(node)
    if not node.get("metric").given:
        node.wrong("must name a series (metric) or a resource (cpu or memory)")
        return None
    return _series(entry, node, namespace, scrape)


def _excluded(node: Node, keys: Iterable[str], reason: str) -> None:
    for key in keys:
        if node.get(key).given:
            node.get(key).wrong(reason)


def _resource(node: Node) -> Metric:
    used = ("resource", "container", "target")
    _excluded(
        node, [key for key in SCALE_ON if key not in used], "does not go with resource; it has container and target"
    )
    target = node.get("target")
    percent = isinstance(target.value, str) and PERCENT.fullmatch(target.value)
    if target.given and not percent:
        if str(target.value).endswith("%"):
            target.wrong("must be a whole percentage above 0, such as 60%, or a quantity, such as 500m or 50Mi")
        else:
            _quantity(target)
    container = node.get("container").text("", NAME, "must be the name of a container")
    return Metric(
        "container_resource" if container else "resource",
        str(target.value),
        "utilization" if percent else "average",
        path=node.path,
        resource=node.get("resource").choice(("cpu", "memory")),
        container=container,
    )


def _series(entry: Node, node: Node, namespace: str, scrape: Scrape | None) -> Metric:
    before = len(node.findings.errors)
    what = "must be the name of a series: letters, digits, '_' and ':'; for an expression say query"
    series = node.get("metric").text("", SERIES, what)
    over = node.get("over").text("", SERIES, what)
    _excluded(node, ["container"], "goes only with resource")
    source, object_kind, object_name = _described(node, namespace)
    function = node.get("function").choice(FUNCTIONS, _kind(series))
    window = node.get("window")
    quantile = node.get("quantile")
    if function == "quantile" and over:
        node.get("over").wrong("does not go with a quantile")
    if function == "quantile" and series and not series.endswith("_bucket"):
        node.get("metric").wrong(
            "must be the buckets of a histogram, a series whose name ends in _bucket, for a quantile"
        )
    if quantile.given and function != "quantile":
        quantile.wrong("goes only with a series whose name ends in _bucket")
    if window.given and function == "gauge":
        window.wrong("goes only with a rate or a quantile; a gauge is taken as it is")
    metric = Metric(
        source,
        _quantity(node.get("target")) if node.get("target").given else "",
        _target_type(node, source),
        path=node.path,
        series=series,
        function=function,
        window=0 if function == "gauge" else window.integer(60, unit="seconds"),
        quantile=quantile.number(0.95, 0, 1) if function == "quantile" else 0.0,
        over=over,
        labels=_resource_labels(node, source, object_kind),
        selector=node.get("selector").labels(LABEL, "must be the name of a label and its value"),
        object_kind=object_kind,
        object_name=object_name,
    )
    name = node.get("as").text("", SERIES, "must be letters, digits, '_' and ':', as a metric's name")
    _check_window(entry, node, metric, scrape)
    metric = replace(metric, name=name or _name(metric))
    if node.get("query").given:
        _excluded(node, ["function", "window", "quantile", "over"], "does not go with query, which says it all")
        metric = replace(metric, query=node.get("query").text(), function="", window=0, quantile=0.0)
        if not name:
            node.get("as").wrong("must name the metric that its query makes")
    else:
        metric = replace(metric, query=query_of(metric))
    # What is made of values that are wrong says nothing.
    if len(node.findings.errors) == before:
        _check_query(entry, node, metric, scrape)
    if len(node.findings.errors) == before:
        _warn_of_single_events(entry, node, metric, scrape)
    return metric


def _check_query(entry: Node, node: Node, metric: Metric, scrape: Scrape | None) -> None:
    """Note what is wrong with a query, be it given or made here."""
    label = metric.labels.get(metric.object_kind or "pod", "")
    matchers = {**metric.selector, **dict.fromkeys(metric.labels.values(), "x")}
    query = Node(metric.query, node.get("query").path, node.source, node.findings)
    wrong = list(problems(metric.query, metric.series, matchers, label))
    for text in wrong:
        query.wrong(text)
    if scrape and not wrong:
        window = shortest_window(expand(metric.query, metric.series, matchers, label))
        if window < LEAST_SCRAPES * scrape.interval:
            name = entry.source.name("scrape.interval")
            query.wrong(
                f"looks at {window:g} s, but must at {LEAST_SCRAPES * scrape.interval} or more, {LEAST_SCRAPES} times "
                f"{name} = {scrape.interval}"
            )


def _warn_of_single_events(entry: Node, node: Node, metric: Metric, scrape: Scrape | None) -> None:
    """Note a target that is so low, for its window, that one event makes many replicas.

    A rate extrapolates what it saw between the first and the last sample of its window to all of it; irate looks at
    the last two samples only.
    """
    if not metric.target or metric.function not in RATES or metric.over or metric.series.endswith(MEASURES):
        return
    interval = scrape.interval if scrape else 0
    seconds = interval if metric.function == "irate" else metric.window - interval
    if not seconds:
        return
    reading, target = 1 / seconds, quantity(metric.target)
    most = entry.get("replicas").get("max").integer(MAX_REPLICAS)
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
    if window.given:
        name = interval.source.name(interval.path)
        least = LEAST_SCRAPES * scrape.interval
        window.wrong(f"must be {least} or more seconds, {LEAST_SCRAPES} times {name} = {scrape.interval}")
    else:
        most = metric.window // LEAST_SCRAPES
        interval.wrong(
            f"must be {most} or less seconds, so that {LEAST_SCRAPES} scrapes fit the window of {metric.window}"
        )


def _described(node: Node, namespace: str) -> tuple[str, str, str]:
    described = node.get("object")
    if node.get("external").boolean(False):
        _excluded(node, ["object", "labels"], "does not go with external: true")
        return "external", "", ""
    if not described.given:
        return "pods", "", ""
    kind, _unused, name = str(described.value).partition("/")
    if kind.lower() not in OBJECTS or not NAME.fullmatch(name):
        described.wrong(f"must be one of {', '.join(f'{kind}/NAME' for kind in OBJECTS)}")
    elif kind.lower() == "namespace" and name != namespace:
        described.wrong(f"must be the namespace of the app itself, namespace/{namespace}: an autoscaler sees no other")
    return "object", kind.lower(), name


def _target_type(node: Node, source: str) -> str:
    target_type = node.get("target_type")
    chosen = target_type.choice(("average", "value"), "average")
    if chosen == "value" and source == "pods":
        target_type.wrong("goes only with object or external; of pods the average is taken")
    return chosen


def _resource_labels(node: Node, source: str, object_kind: str) -> dict[str, str]:
    if source == "external":
        return {}
    resource = object_kind if source == "object" else "pod"
    labels = {name: name for name in dict.fromkeys(("namespace", resource))}
    given = node.get("labels")
    if given.given and given.mapping(tuple(labels)):
        labels |= {
            name: given.get(name).text(name, LABEL, "must be the name of a label: letters, digits and '_'")
            for name in labels
        }
    return labels


def _kind(series: str) -> str:
    return next((kind for suffix, kind in SUFFIXES.items() if series.endswith(suffix)), "gauge")


def _name(metric: Metric) -> str:
    base = metric.series.removesuffix("_total")
    if metric.over:
        return f"{base}_over_{metric.over.removesuffix('_total')}"
    if metric.function in RATES:
        return f"{base}_per_second"
    if metric.function == "quantile":
        return f"{metric.series.removesuffix('_bucket')}_p{metric.quantile * 100:g}".replace(".", "_")
    return metric.series


def _contradictions(pairs: Sequence[tuple[App, Source]], additional: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What two entries cannot both say."""
    names: dict[str, Source] = {}
    workloads: dict[tuple[str, str, str], Source] = {}
    made: list[tuple[Rule, str]] = []
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
        made += [(rule_of(metric), source.name(metric.path)) for metric in app.metrics if metric.served]
    made += [(rule, f"prometheus_adapter_rules[{number}]") for number, rule in enumerate(additional_rules(additional))]
    rules: dict[tuple[bool, str], tuple[Rule, str]] = {}
    for rule, place in made:
        known, first = rules.setdefault((rule.external, rule.name), (rule, place))
        joined = known.joined(rule)
        if joined is None:
            yield (
                f"{place}: makes metric {rule.name} otherwise than {first} does; "
                "give one of them another name with `as`, or make series, function, window and labels equal"
            )
        else:
            rules[rule.external, rule.name] = (joined, first)
