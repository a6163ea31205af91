# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The series behind the metrics of an app."""

from __future__ import annotations

from ...apps.model import Metric
from ...common.text import nearest, shorten
from ...kube.prometheus import prometheus_data, prometheus_query, service_path
from ..facts import Watched
from ..link import Cause, Finding, broken, link, ok, skipped, unknown
from ..settings import Case
from .target import targets

#: Seconds back in which a series that is gone is looked for.
RECENT = 900
#: Similarity (1.0: equal) from which a metric's name counts as a renamed one, and number of names that are shown.
LIKENESS, NEAREST = 0.6, 3


@link(
    "every pod has the series",
    {
        "series_renamed": Cause(
            "The pods have no such series, but one with a similar name.",
            "set `metric` of entry {app} in autoscaled_apps to the name that the app has, then site.yml with "
            "--tags hpa",
        ),
        "series_absent": Cause(
            "Prometheus scrapes the app, and it has no such series. Many libraries show a counter only after its "
            "first event.",
            "let the app create the counter at its start, with value 0; or correct `metric` of entry {app}",
        ),
        "series_incomplete": Cause(
            "Some pods have the series and some do not: their counter does not exist before its first event.",
            "let the app create the counter at its start, with value 0",
        ),
        "series_stale": Cause(
            "Pods had the series and do not have it any more.",
            "kubectl --namespace {namespace} logs {pod}; did the app restart and count anew?",
        ),
        "series_unlabelled": Cause(
            "The series lacks the labels that name its owner (namespace and pod, or the object's).",
            "keep these labels in the job that scrapes it (site.yml with --tags hpa makes one that does), or name "
            "those that it has: `labels` of entry {app}",
        ),
    },
    components=("prometheus",),
)
def series(facts: Watched, case: Case) -> Finding:
    """Check that every settled pod has the series; series of objects and external ones need one sample."""
    good = []
    for metric in case.adapter_metrics:
        for name in filter(None, (metric.series, metric.over)):
            finding = (pod_series if metric.source == "pods" else any_series)(facts, case, metric, name)
            if finding.state != "ok":
                return finding
            good.append(finding.evidence)
    return ok(", ".join(good)) if good else skipped("nothing is read from Prometheus")


def counted(facts: Watched, case: Case, expression: str, label: str) -> dict[str, float]:
    """Return the number of samples of an expression for each value of a label."""
    samples = prometheus_query(facts, f"count by ({label}) ({expression})", case.settings.service)
    return {sample["metric"].get(label, ""): float(sample["value"][1]) for sample in samples}


def pod_series(facts: Watched, case: Case, metric: Metric, name: str) -> Finding:
    """Check that settled pods have a series."""
    namespace_label, pod_label = metric.labels.get("namespace", "namespace"), metric.labels.get("pod", "pod")
    chosen = f'{name}{{{namespace_label}="{case.app.namespace}",{pod_label}!=""}}'
    held = counted(facts, case, chosen, pod_label)
    wanted, young = case.settled(facts)
    missing = [pod for pod in wanted if pod not in held]
    if not missing:
        return ok(f"{name} of {len(wanted)} pods")
    if young:
        return unknown(f"no {name} yet: {young}")
    lacking = f"{name} is missing for pod {shorten(missing)}"
    before = counted(facts, case, f"last_over_time({chosen}[{RECENT}s])", pod_label)
    if gone := [pod for pod in missing if pod in before]:
        evidence = f"{name} of pod {shorten(gone)} was there within the last {RECENT // 60} minutes"
        return broken("series_stale", evidence, pod=gone[0])
    own = [entry for entry in targets(facts, case.settings) if entry["scrapePool"] == case.pool]
    instances = {(entry.get("labels") or {}).get("instance") for entry in own}
    if instances & set(counted(facts, case, f'{name}{{{pod_label}=""}} or {name}{{{namespace_label}=""}}', "instance")):
        return broken("series_unlabelled", f"{lacking}, and is there without label {pod_label} or {namespace_label}")
    if len(missing) < len(wanted):
        return broken("series_incomplete", f"{lacking}, {len(wanted) - len(missing)} have it")
    # Of the app's own job: those of the kubelets have series about the same pod.
    job = f'{{namespace="{case.app.namespace}",pod="{missing[0]}",job="{case.app.name}"}}'
    names = counted(facts, case, job, "__name__")
    if near := nearest(name, names, NEAREST, LIKENESS):
        return broken("series_renamed", f"{lacking}; the pod has {', '.join(near)}")
    return broken("series_absent", f"{lacking}; the pod has {len(names)} others, none of a similar name")


def any_series(facts: Watched, case: Case, metric: Metric, name: str) -> Finding:
    """Check that an object's or an external series has a sample."""
    labels = dict(metric.selector)
    for resource, label in metric.labels.items():
        labels[label] = case.app.namespace if resource == "namespace" else metric.object_name
    matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
    chosen = f"{name}{{{matchers}}}"
    if held := counted(facts, case, chosen, "job"):
        return ok(f"{chosen}: {sum(held.values()):.0f} series")
    if counted(facts, case, f"last_over_time({chosen}[{RECENT}s])", "job"):
        return broken("series_stale", f"{chosen} was there within the last {RECENT // 60} minutes")
    path = service_path(case.settings.service, "/api/v1/label/__name__/values")
    names = prometheus_data(facts.raw(path), "its names")
    if name in names:
        return broken("series_unlabelled", f"{chosen} has no samples, though {name} exists with other labels")
    if near := nearest(name, names, NEAREST, LIKENESS):
        return broken("series_renamed", f"{chosen} has no samples; there is {', '.join(near)}")
    return broken("series_absent", f"{chosen} has no samples, nor has a similar name")
