"""How an autoscaler reacts to a load: samples of one run, and what they mean.

An *observer* asks the API once per interval and keeps a sample. Everything is timed by the controller's clock at the
moment it was seen, so that clocks of other machines don't matter; a step is therefore late by one interval at most.
Times are seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..kube.client import CONNECTIONS, JSON, Api, ApiError
from ..kube.objects import (
    SelectorError,
    condition,
    explain,
    holds,
    matches,
    parse_time,
    selector_text,
    why_not_ready,
    with_query,
)
from ..kube.prometheus import (
    SERVICES,
    PrometheusError,
    prometheus_query_range,
)
from ..kube.quantity import TOLERANCE, quantity
from .checks import (
    metric_by_pod,
    pod_metrics,
)

# Conditions of an autoscaler that are True when all is well; the others are False then.
GOOD_CONDITIONS = ("AbleToScale", "ScalingActive")
# Seconds that are still observed once scale-in began, so that a picture shows it.
AFTERGLOW = 5.0
# How a resource is told to people: its name with the unit, and that unit's share of a core or byte.
RESOURCES = {"cpu": ("cpu in millicores", 0.001), "memory": ("memory in MiB", 2**20)}


class ScalingError(Exception):
    """The app did not scale as the load demands; the message says at which step it stopped, and why."""


@dataclass(frozen=True)
class Goal:
    """What an autoscaler wants per pod, and how far it may go.

    ``target`` is the metric per pod, ``tolerance`` the share of it that is let pass. One request per second adds
    ``weight`` to the metric of all pods together, and a pod has ``base`` of it without any. ``resource`` is cpu or
    memory; empty for a metric of the custom metrics API.
    """

    namespace: str
    name: str
    metric: str
    target: float
    minimum: int
    maximum: int
    tolerance: float
    weight: float = 1.0
    base: float = 0.0
    resource: str = ""

    @classmethod
    def of(cls, autoscaler: Mapping[str, Any], workload: Mapping[str, Any], weight: float = 1.0) -> Goal:
        """Goal of an autoscaling/v2 object's first Pods metric, or else of its first Resource metric.

        ``ScalingError`` when it has neither.
        """
        spec, metadata = autoscaler["spec"], autoscaler["metadata"]
        pods = pod_metrics(autoscaler)
        resources = [entry["resource"] for entry in spec.get("metrics") or [] if entry.get("type") == "Resource"]
        if pods:
            metric, resource = pods[0]["metric"]["name"], ""
            target = quantity(pods[0]["target"]["averageValue"])
        elif resources:
            resource = resources[0]["name"]
            metric, unit = RESOURCES[resource]
            target = resource_target(resources[0], workload) / unit
        else:
            raise ScalingError(
                f"HorizontalPodAutoscaler {metadata['namespace']}/{metadata['name']} has no metric of type Pods or "
                "Resource"
            )
        tolerance = ((spec.get("behavior") or {}).get("scaleUp") or {}).get("tolerance")
        return cls(
            metadata["namespace"],
            metadata["name"],
            metric,
            target,
            spec.get("minReplicas", 1),
            spec["maxReplicas"],
            quantity(str(tolerance)) if tolerance is not None else TOLERANCE,
            weight,
            resource=resource,
        )

    def replicas(self, rate: float) -> int:
        """Replicas at which so many requests per second are met exactly, within the autoscaler's bounds."""
        return self._bounded(rate, self.target)

    def enough(self, rate: float) -> int:
        """Replicas with which the autoscaler rests: ``replicas``, less what its tolerance lets pass."""
        return self._bounded(rate, self.target * (1 + self.tolerance))

    def _bounded(self, rate: float, limit: float) -> int:
        if limit <= self.base:
            return self.maximum
        # Rounded first: 5.000000000000001 of a counter's rate is 5.
        demanded = math.ceil(round(rate * self.weight / (limit - self.base), 6))
        return max(self.minimum, min(self.maximum, demanded))


def resource_target(resource: Mapping[str, Any], workload: Mapping[str, Any]) -> float:
    """What a Resource metric aims at per pod, in cores or bytes: its value, or its share of what a pod requests."""
    target = resource["target"]
    if "averageValue" in target:
        return quantity(target["averageValue"])
    containers = workload["spec"]["template"]["spec"]["containers"]
    requests = [(container.get("resources") or {}).get("requests") or {} for container in containers]
    return (
        sum(quantity(str(asked.get(resource["name"], "0"))) for asked in requests) * target["averageUtilization"] / 100
    )


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment; ``t`` in seconds since the observation began, None where the API had no answer.

    ``metric`` is the average per pod from the metrics API, ``seen`` the one that the autoscaler wrote into its status.
    """

    t: float
    load: bool
    metric: float | None
    seen: float | None
    pods: int
    ready: int
    current: int
    desired: int


@dataclass(frozen=True)
class Happening:
    """An event that the autoscaler recorded."""

    t: float
    reason: str
    message: str


@dataclass
class Run:
    """One observed load: its terms, its samples, and what happened."""

    goal: Goal
    rate: float
    began: float
    samples: list[Sample] = field(default_factory=list)
    events: list[Happening] = field(default_factory=list)
    pods: dict[str, float] = field(default_factory=dict)

    def steps(self) -> dict[str, float | None]:
        """When each step of the reaction was first seen (seconds since the observation began; None: not yet)."""
        return find_steps(self.samples, self.goal, self.rate)


def first(samples: Sequence[Sample], test: Callable[[Sample], bool], after: float | None) -> float | None:
    """Time of the first sample from ``after`` on that passes a test."""
    if after is None:
        return None
    return next((sample.t for sample in samples if sample.t >= after and test(sample)), None)


def find_steps(samples: Sequence[Sample], goal: Goal, rate: float) -> dict[str, float | None]:
    """Times of the steps from load start to first scale-in, in the order of the chain."""
    start = first(samples, lambda sample: sample.load, 0.0)
    before = next((sample for sample in reversed(samples) if start is not None and sample.t <= start), None)
    desired, ready = (before.desired, before.ready) if before else (0, 0)
    limit = goal.target * (1 + goal.tolerance)
    enough = goal.enough(rate)
    end = first(samples, lambda sample: not sample.load, start)
    top = max((sample.desired for sample in samples if end is not None and sample.t <= end), default=0)
    return {
        "load_start": start,
        "metric_over_target": first(samples, lambda sample: sample.metric is not None and sample.metric > limit, start),
        "decision": first(samples, lambda sample: sample.desired > desired, start),
        "first_new_pod_ready": first(samples, lambda sample: sample.ready > ready, start),
        "demanded_ready": first(samples, lambda sample: sample.ready >= enough and sample.desired >= enough, start),
        "load_end": end,
        "scale_in": first(samples, lambda sample: sample.desired < top, end),
    }


class Observer:
    """Samples one autoscaler through the API, in parallel requests over one connection pool."""

    def __init__(self, api: Api, namespace: str, name: str, job: str = "", weight: float = 1.0) -> None:
        self.api, self.namespace, self.name, self.job = api, namespace, name, job
        self.autoscaler = self._autoscaler()
        target = self.autoscaler["spec"]["scaleTargetRef"]
        workload = api.get(target["apiVersion"], target["kind"], target["name"], namespace)
        if workload is None:
            raise ScalingError(f"{target['kind']} {namespace}/{target['name']}, which {name} scales, does not exist")
        self.goal = Goal.of(self.autoscaler, workload, weight)
        self.selector = workload["spec"].get("selector")
        try:
            self.labels = selector_text(self.selector)
        except SelectorError as error:
            raise ScalingError(f"{target['kind']} {namespace}/{target['name']}: {error}") from error
        self.began = time.time()
        self.trouble = ""
        self.app_pods: list[JSON] = []
        self.load_pods: list[JSON] = []

    def _autoscaler(self) -> JSON:
        found = self.api.get("autoscaling/v2", "HorizontalPodAutoscaler", self.name, self.namespace)
        if found is None:
            raise ScalingError(
                f"there is no HorizontalPodAutoscaler {self.namespace}/{self.name}; run site.yml with --tags hpa"
            )
        return found

    def _metric(self) -> float | None:
        try:
            if self.goal.resource:
                values = self._usage(self.goal.resource)
            else:
                found = metric_by_pod(self.api, self.namespace, self.goal.metric, self.labels)
                values = [quantity(value) for value in found.values()]
        except ApiError as error:
            self.trouble = str(error)
            return None
        return sum(values) / len(values) if values else None

    def _usage(self, resource: str) -> list[float]:
        """What each pod uses of a resource, in the unit that people are told."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self.namespace}/pods"
        return [
            sum(quantity(container["usage"][resource]) for container in item["containers"]) / RESOURCES[resource][1]
            for item in self.api.raw(with_query(path, {"labelSelector": self.labels})).get("items") or []
        ]

    def _pods(self) -> list[JSON]:
        return self.api.list("v1", "Pod", self.namespace).items

    def sample(self, pool: ThreadPoolExecutor, run: Run) -> Sample:
        """One look at autoscaler, pods and metric; new pods' first Ready moments go to ``run``."""
        asked = (pool.submit(self._autoscaler), pool.submit(self._pods), pool.submit(self._metric))
        self.autoscaler, pods, metric = asked[0].result(), asked[1].result(), asked[2].result()
        now = round(time.time() - self.began, 2)
        mine = [
            pod
            for pod in pods
            if matches(self.selector, pod["metadata"].get("labels") or {})
            and "deletionTimestamp" not in pod["metadata"]
        ]
        ready = [pod for pod in mine if holds(pod, "Ready")]
        for pod in ready:
            run.pods.setdefault(pod["metadata"]["name"], now)
        self.app_pods = mine
        self.load_pods = [
            pod for pod in pods if (pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name") == self.job
        ]
        status = self.autoscaler.get("status", {})
        return Sample(
            now,
            any(attacking(pod) for pod in self.load_pods),
            metric,
            seen_by(self.autoscaler, self.goal),
            len(mine),
            len(ready),
            status.get("currentReplicas", 0),
            status.get("desiredReplicas", 0),
        )

    def events(self) -> list[Happening]:
        """Events of the autoscaler since the observation began, oldest first."""
        about = f"involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={self.name}"
        found = []
        for event in self.api.list("v1", "Event", self.namespace, field_selector=about).items:
            stamp = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
            seconds = parse_time(stamp).timestamp() - self.began
            if seconds >= -1:
                found.append(Happening(round(seconds, 1), event.get("reason", ""), event.get("message", "")))
        return sorted(found, key=lambda happening: happening.t)

    def why(self) -> str:
        """What the autoscaler complains about, for an error message."""
        conditions = self.autoscaler.get("status", {}).get("conditions")
        if not conditions:
            return "it has no conditions yet"
        said = [
            f"{entry['type']} is {entry['status']} ({explain(entry)})"
            for entry in conditions
            if (entry["status"] == "True") is not (entry["type"] in GOOD_CONDITIONS)
        ]
        return "; ".join(said) or "it complains about nothing, so the load may have ended too early (load_duration)"

    def load_said(self) -> str:
        """What the load generator reports about its requests, or why it could not run."""
        for pod in self.load_pods:
            for number, status in enumerate(pod.get("status", {}).get("initContainerStatuses") or []):
                ended = status.get("state", {}).get("terminated")
                if ended and ended.get("exitCode"):
                    said = self._log(pod, "initContainers", number)
                    return f"The load generator failed with exit code {ended['exitCode']}: {said}"
            report = self._log(pod, "containers", 0)
            if isinstance(report, dict):
                errors = "; ".join(report.get("errors") or [])[:300]
                success = f"{report.get('success', 0):.0%}"
                return f"Of the load's {report.get('requests')} requests {success} succeeded. {errors}".strip()
        return "The load generator left no report."

    def _log(self, pod: Mapping[str, Any], kind: str, number: int) -> JSON | str:
        metadata, container = pod["metadata"], pod["spec"][kind][number]["name"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
        try:
            return self.api.raw(path, {"container": container, "tailLines": "20"})
        except ApiError as error:
            return str(error)


def attacking(pod: Mapping[str, Any]) -> bool:
    """Whether the load's pod is sending requests: its first container runs."""
    statuses = pod.get("status", {}).get("initContainerStatuses") or []
    return bool(statuses) and "running" in statuses[0].get("state", {})


def seen_by(autoscaler: Mapping[str, Any], goal: Goal) -> float | None:
    """Average of the goal's metric that an autoscaler last wrote into its status."""
    for entry in autoscaler.get("status", {}).get("currentMetrics") or []:
        if goal.resource:
            if entry.get("type") == "Resource" and entry["resource"]["name"] == goal.resource:
                return quantity(entry["resource"]["current"].get("averageValue", "0")) / RESOURCES[goal.resource][1]
        elif entry.get("type") == "Pods" and entry["pods"]["metric"]["name"] == goal.metric:
            return quantity(entry["pods"]["current"].get("averageValue", "0"))
    return None


def progress_line(sample: Sample, start: float, rate: float, goal: Goal) -> str:
    """One line for a person: time since load start, load, metric against target, replicas."""
    metric = "-" if sample.metric is None else f"{sample.metric:.2f}"
    load = f"{rate:g}/s" if sample.load else "off"
    since = f"t{sample.t - start:+.0f}s"
    return f"{since}  load {load}  metric {metric}/{goal.target:g}  desired {sample.desired}  ready {sample.ready}"


def wait_for_rest(observer: Observer, interval: float, timeout: float, say: Callable[[str], None]) -> None:
    """Return when the autoscaler is at its minimum and the metric under its target.

    ``ScalingError`` when that takes longer than ``timeout`` seconds.
    """
    goal, run, said = observer.goal, Run(observer.goal, 0, observer.began), -math.inf
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        for sample in ticks(observer, pool, run, interval):
            if (
                sample.desired == sample.ready == goal.minimum
                and sample.metric is not None
                and sample.metric <= goal.target
            ):
                return
            if sample.t > timeout:
                raise ScalingError(
                    f"{goal.namespace}/{goal.name} did not come to rest within {timeout:g} s: {sample.desired} "
                    f"replicas desired (minimum {goal.minimum}), {sample.ready} ready, metric {sample.metric}; "
                    f"{observer.trouble or observer.why()}"
                )
            if sample.t - said >= 10:
                said = sample.t
                say(f"waiting for rest: desired {sample.desired}, minimum {goal.minimum}, metric {sample.metric}")


def ticks(observer: Observer, pool: ThreadPoolExecutor, run: Run, interval: float) -> Iterator[Sample]:
    """Samples at an even pace, without end."""
    due = time.monotonic()
    while True:
        yield observer.sample(pool, run)
        now = time.monotonic()
        due = max(due + interval, now)
        time.sleep(due - now)


@dataclass(frozen=True)
class Terms:
    """The load's ``rate`` in requests per second, and how many seconds a run may take.

    ``duration`` of the load at most, ``hold`` with all demanded replicas ready, ``scale_in`` after the load's end,
    ``start`` for the load's pod to begin.
    """

    rate: float
    duration: float
    hold: float
    scale_in: float
    start: float = 60


def observe(
    observer: Observer,
    terms: Terms,
    interval: float,
    stop: Callable[[], None],
    say: Callable[[str], None],
    every: float = 5,
) -> tuple[Run, str]:
    """Watch a load from before its start until scale-in began; the run, and what failed (empty: nothing).

    ``stop`` ends the load; it is called once the demanded replicas have been ready for ``terms.hold``.
    """
    goal = observer.goal
    run = Run(goal, terms.rate, observer.began)
    said, stopped, failure = -math.inf, False, ""
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        for sample in ticks(observer, pool, run, interval):
            if not run.samples and goal.resource:
                # A process has memory, and now and then some CPU, before anybody asks it for anything.
                goal = run.goal = replace(goal, base=sample.metric or 0.0)
            run.samples.append(sample)
            steps = run.steps()
            start, end, full = steps["load_start"], steps["load_end"], steps["demanded_ready"]
            if sample.t - said >= every:
                said = sample.t
                say(progress_line(sample, start or 0.0, terms.rate, goal))
            if start is None and sample.t > terms.start:
                failure = f"the load did not start within {terms.start:g} s: " + (
                    "; ".join(why_not_ready(pod) for pod in observer.load_pods) or "its Job has no pod"
                )
                break
            if full is not None and not stopped and end is None and sample.t - full >= terms.hold:
                stopped = True
                stop()
            if end is not None and full is None:
                failure = explain_stop(observer, run)
                break
            if steps["scale_in"] is not None and sample.t - steps["scale_in"] >= AFTERGLOW:
                break
            if end is not None and steps["scale_in"] is None and sample.t - end > terms.scale_in:
                failure = (
                    f"{goal.namespace}/{goal.name} did not scale in within {terms.scale_in:g} s after the load: "
                    f"metric {sample.metric}, {sample.desired} replicas desired; {observer.why()}"
                )
                break
            if start is not None and end is None and sample.t - start > terms.duration + terms.start:
                failure = f"the load still runs {terms.start:g} s after its {terms.duration:g} s are over"
                break
        run.events = observer.events()
    return run, failure


def explain_stop(observer: Observer, run: Run) -> str:
    """At which step the scale-out stopped, and what the parties say about it."""
    goal, steps = run.goal, run.steps()
    most = max(sample.ready for sample in run.samples)
    wanted = max(sample.desired for sample in run.samples)
    lasted = (steps["load_end"] or 0.0) - (steps["load_start"] or 0.0)
    text = (
        f"{goal.namespace}/{goal.name}: {run.rate:g}/s at {goal.target:g} per pod demand {goal.replicas(run.rate)} "
        f"replicas; {most} were ready when the load ended after {lasted:.0f} s. "
    )
    if steps["metric_over_target"] is None:
        highest = max((sample.metric for sample in run.samples if sample.metric is not None), default=None)
        text += f"The metric {goal.metric} never exceeded its target (highest: {highest}). "
        return text + (observer.trouble or observer.load_said())
    if steps["decision"] is None:
        return text + f"The metric was over its target, but the autoscaler never asked for more: {observer.why()}"
    if wanted > most:
        waiting = [pod for pod in observer.app_pods if not holds(pod, "Ready")]
        why = "; ".join(f"{pod['metadata']['name']}: {why_not_ready(pod)}" for pod in waiting)
        return (
            text + f"{wanted} were desired, but pods did not become ready: {why or 'see the events of the Deployment'}"
        )
    limited = condition(observer.autoscaler, "ScalingLimited")
    why = explain(limited) if limited.get("status") == "True" else observer.load_said()
    return text + f"The autoscaler asked for {wanted} at most within the load's time: {why}"


def received_load(
    api: Api, run: Run, series: str, window: int, step: float, service: str = SERVICES["operator"]
) -> list[tuple[float, float]]:
    """Rate at which the app counted events, by its own ``series``: (seconds since the observation began, per second).

    Averaged over ``window`` seconds, by the Prometheus of ``service``; empty when it has none: the picture then shows
    the offered load alone.
    """
    if not run.samples:
        return []
    start, end = (run.began + sample.t for sample in (run.samples[0], run.samples[-1]))
    try:
        found = prometheus_query_range(api, f"sum(rate({series}[{window}s]))", start, end, step, service)
    except (ApiError, PrometheusError):
        return []
    return [
        (round(float(t) - run.began, 1), round(float(value), 3)) for entry in found[:1] for t, value in entry["values"]
    ]


def as_data(run: Run, terms: Terms, received: Sequence[tuple[float, float]], failure: str) -> JSON:
    """A run as plain data for the report: times are seconds since load start (before it: negative)."""
    steps = run.steps()
    zero = steps["load_start"] or 0.0

    def shifted(t: float | None) -> float | None:
        return None if t is None else round(t - zero, 1)

    return {
        "began": run.began + zero,
        "autoscaler": f"{run.goal.namespace}/{run.goal.name}",
        "metric": run.goal.metric,
        "target": run.goal.target,
        "tolerance": run.goal.tolerance,
        "minimum": run.goal.minimum,
        "maximum": run.goal.maximum,
        "rate": run.rate,
        "weight": run.goal.weight,
        "base": run.goal.base,
        "demanded": run.goal.replicas(run.rate),
        "enough": run.goal.enough(run.rate),
        "terms": asdict(terms),
        "ok": not failure,
        "failure": failure,
        "steps": {name: shifted(t) for name, t in steps.items()},
        "samples": [{**asdict(sample), "t": shifted(sample.t)} for sample in run.samples],
        "received": [(shifted(t), value) for t, value in received],
        "events": [{"t": shifted(event.t), "reason": event.reason, "message": event.message} for event in run.events],
        "pods": [{"name": name, "ready": shifted(t)} for name, t in sorted(run.pods.items(), key=lambda item: item[1])],
    }
