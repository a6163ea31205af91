# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Watch an autoscaler react to a load, and report where it stopped. Times are seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from ..kube.client import CONNECTIONS, JSON, Api, ApiError
from ..kube.objects import condition, explain, holds, why_not_ready
from ..kube.prometheus import SERVICES, PrometheusError, prometheus_query_range
from .goal import Goal, Run, Sample, ScalingError
from .observer import Observer

#: Seconds for which the observation goes on after scale-in began, so that a picture shows it.
AFTERGLOW = 5.0


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
