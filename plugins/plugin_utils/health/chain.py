# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The links of one app's chain, each a function over facts that were read once. Nothing here changes a cluster."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ..apps.model import App, Metric
from ..apps.scraping import (
    APPS,
    NAMESPACE,
    job_name,
    standalone_scrape_config,
)
from ..common.text import nearest, shorten
from ..kube.client import ApiError
from ..kube.objects import (
    condition,
    explain,
    holds,
    matches,
    parse_time,
    selector_text,
    service_selector,
    why_not_ready,
    with_query,
)
from ..kube.prometheus import (
    PrometheusError,
    prometheus_data,
    prometheus_query,
    service_path,
)
from ..kube.quantity import quantity
from .causes import Finding, State, broken
from .checks import (
    CUSTOM,
    Watched,
    key,
    series_query,
)
from .cluster import judge_server, place, registrations
from .settings import (
    CUSTOM_API,
    EXTERNAL_API,
    PLURALS,
    RESOURCE_API,
    Settings,
    containers,
    lacking_request,
    optional,
    pods_in,
    seconds_since,
)

#: Seconds for which a pod may be without target, series or value after it became ready: scrapes have to come first.
SETTLING = 30.0
#: Seconds for which a pod may be on its way to ready while others serve.
STARTING = 120.0
#: Seconds back in which a series that is gone is looked for, and in which an event is still news.
RECENT = 900
#: How alike (1.0: equal) a metric's name must be to be called a renamed one, and how many are shown.
LIKENESS, NEAREST = 0.6, 3
ADAPTER_CONFIG = "custom-metrics/adapter-config"
MONITORS = {"PodMonitor": ("podMonitor", "podMetricsEndpoints"), "ServiceMonitor": ("serviceMonitor", "endpoints")}
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CREATION = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"}
#: What Prometheus says of a failed scrape, the first that fits.
_SCRAPE_ERRORS = (
    (r"connection refused", "target_refused"),
    (r"HTTP status (404|405|410)", "target_not_found"),
    (r"HTTP status 40[13]", "target_forbidden"),
    (r"HTTP response to HTTPS client|x509|tls:|malformed HTTP response|certificate", "target_tls"),
    (r"HTTP status", "target_http_error"),
    (r"deadline exceeded|i/o timeout|timed out", "target_timed_out"),
    (r"no route to host|network is unreachable|host is down", "target_unreachable"),
    (r"Content-Type|start token|parsing|expected |invalid metric|unsupported character", "target_not_metrics"),
)


@dataclass(frozen=True)
class Case:
    """One app with what its entry makes of it (objects as they would be applied)."""

    app: App
    objects: tuple[Mapping[str, Any], ...]
    settings: Settings

    def made(self, *kinds: str) -> Mapping[str, Any] | None:
        """The first object of one of the kinds, if the entry makes one."""
        return next((item for item in self.objects if item["kind"] in kinds), None)

    def values(self, **more: object) -> dict[str, Any]:
        """What advice may name."""
        app = self.app
        known: dict[str, Any] = {
            "app": app.name,
            "namespace": app.namespace,
            "workload": f"{app.workload_kind.lower()}/{app.workload_name}",
            "min": app.min_replicas,
            "pod": "POD",
            "prometheus_namespace": self.settings.service.partition("/")[0],
        }
        return known | more


Link = Callable[[Watched, Case], Finding]
CHAIN: dict[str, Link] = {}


def link(function: Link) -> Link:
    """Add a link to the chain, in the order of this file."""
    CHAIN[function.__name__] = function
    return function


def found(name: str, state: State, evidence: str) -> Finding:
    """A finding that is not broken."""
    return Finding(name, state, evidence)


# -- reading -----------------------------------------------------------------------------------------------------------


def workload_path(app: App) -> str:
    """Path of an app's workload."""
    return f"/apis/apps/v1/namespaces/{app.namespace}/{PLURALS[app.workload_kind]}/{app.workload_name}"


def app_pods(facts: Watched, case: Case) -> list[dict[str, Any]]:
    """Pods of the app's workload."""
    workload = facts.raw(workload_path(case.app))
    return pods_in(facts, case.app.namespace, workload["spec"]["selector"])


def settled(facts: Watched, case: Case) -> tuple[list[str], str]:
    """Names of the app's pods that have been ready for long enough to have been scraped.

    When none has, all ready ones, and why nothing follows from what they lack.
    """
    ready = [pod for pod in app_pods(facts, case) if holds(pod, "Ready")]
    patience = max(SETTLING, 3.0 * case.app.scrape.interval) if case.app.scrape else SETTLING
    old = [
        pod
        for pod in ready
        if seconds_since(condition(pod, "Ready").get("lastTransitionTime"), case.settings.now) >= patience
    ]
    young = f"its pods are ready for less than {patience:.0f} s, look again" if ready and not old else ""
    return sorted(pod["metadata"]["name"] for pod in old or ready), young


def from_prometheus(case: Case) -> list[Metric]:
    """Metrics of the app that the adapter reads from Prometheus."""
    return [metric for metric in case.app.metrics if metric.source in ("pods", "object", "external")]


def of_resources(case: Case) -> list[Metric]:
    """Metrics of the app that are CPU or memory."""
    return [metric for metric in case.app.metrics if metric.source in ("resource", "container_resource")]


# -- workload ----------------------------------------------------------------------------------------------------------


@link
def workload(facts: Watched, case: Case) -> Finding:
    """The workload exists, wants pods, and its pods run."""
    app, here = case.app, "workload"
    item = optional(facts, workload_path(app))
    if item is None:
        if optional(facts, f"/api/v1/namespaces/{app.namespace}") is None:
            return broken("namespace_missing", here, f"there is no namespace {app.namespace}", case.values())
        plural = PLURALS[app.workload_kind]
        names = [
            entry["metadata"]["name"] for entry in facts.items(f"/apis/apps/v1/namespaces/{app.namespace}/{plural}")
        ]
        near = nearest(app.workload_name, names)
        hint = f"; there is {near[0]}" if near else f"; there are {shorten(names)}" if names else ""
        evidence = f"there is no {app.workload_kind} {app.workload_name} in namespace {app.namespace}{hint}"
        return broken("workload_missing", here, evidence, case.values())
    wanted = item["spec"].get("replicas", 1)
    if wanted == 0 and app.min_replicas > 0:
        return broken("workload_at_zero", here, "its spec.replicas is 0", case.values())
    pods = app_pods(facts, case)
    ready = [pod for pod in pods if holds(pod, "Ready")]
    if trouble := container_trouble(pods):
        cause, pod, evidence = trouble
        return broken(cause, here, evidence, case.values(pod=pod))
    refused = refusal(facts, item, case.settings.now)
    if refused and "quota" not in refused:
        return broken("pods_refused", here, refused, case.values())
    waiting = unschedulable(pods)
    if not ready and wanted:
        if refused:
            return broken("quota_exceeded", here, refused, case.values())
        if waiting:
            return broken("unschedulable", here, waiting, case.values())
    if late := readiness_trouble(pods, bool(ready), case.settings.now):
        pod, evidence = late
        return broken("pods_not_ready", here, evidence, case.values(pod=pod))
    if not ready and wanted:
        return broken("pods_not_ready", here, "it has no pods yet", case.values())
    return found(here, "ok", f"{len(ready)} of {wanted} pods ready")


def container_trouble(pods: Sequence[Mapping[str, Any]]) -> tuple[str, str, str] | None:
    """Cause, pod and evidence of the first container that cannot run."""
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            waiting = entry.get("state", {}).get("waiting") or {}
            reason = waiting.get("reason")
            cause = (
                "image_not_pulled"
                if reason in _IMAGE
                else "container_not_created"
                if reason in _CREATION
                else "crash_loop"
                if reason == "CrashLoopBackOff" or restarts_in_failure(entry)
                else ""
            )
            if cause:
                ended = entry.get("state", {}).get("terminated")
                why = f"{entry['name']} ended, {explain_end(ended)}" if ended else why_not_ready(pod)
                return cause, name, f"pod {name}: {why}, {entry.get('restartCount', 0)} restarts"
    return None


def explain_end(ended: Mapping[str, Any]) -> str:
    """How a container ended, with its last words if it left some."""
    return f"exit code {ended.get('exitCode')}: {explain(ended)}"


def restarts_in_failure(entry: Mapping[str, Any]) -> bool:
    """Whether a container that does not run now has failed more than once: between two tries of a crash loop."""
    state, last = entry.get("state", {}), entry.get("lastState", {}).get("terminated") or {}
    ended = state.get("terminated") or {}
    return bool(entry.get("restartCount", 0) > 1 and last.get("exitCode") and ended.get("exitCode"))


def refusal(facts: Watched, item: Mapping[str, Any], now: datetime.datetime) -> str:
    """Why the API server refuses pods of a workload at present, or nothing."""
    failure = condition(item, "ReplicaFailure")
    if failure.get("status") == "True":
        return explain(failure)
    if "strategy" in item["spec"] or item.get("status", {}).get("replicas", 0) >= item["spec"].get("replicas", 1):
        return ""
    # A StatefulSet says it in events only.
    namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
    chosen = {"fieldSelector": f"involvedObject.kind=StatefulSet,involvedObject.name={name},reason=FailedCreate"}
    events = [
        event
        for event in facts.items(with_query(f"/api/v1/namespaces/{namespace}/events", chosen))
        if seconds_since(event.get("lastTimestamp") or event.get("eventTime"), now) < RECENT
    ]
    return events[-1].get("message", "") if events else ""


def unschedulable(pods: Sequence[Mapping[str, Any]]) -> str:
    """What the scheduler says of the first pod that it finds no node for."""
    for pod in pods:
        entry = condition(pod, "PodScheduled")
        if entry.get("status") == "False":
            return f"pod {pod['metadata']['name']}: {explain(entry)}"
    return ""


def readiness_trouble(
    pods: Sequence[Mapping[str, Any]], others_serve: bool, now: datetime.datetime
) -> tuple[str, str] | None:
    """The first pod that ought to be ready and is not, with the reason; new pods beside ready ones have time."""
    for pod in pods:
        if holds(pod, "Ready") or condition(pod, "PodScheduled").get("status") == "False":
            continue
        since = condition(pod, "Ready").get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
        if not others_serve or seconds_since(since, now) > STARTING:
            name = pod["metadata"]["name"]
            return name, f"pod {name}: {why_not_ready(pod)}"
    return None


# -- pods and endpoints ------------------------------------------------------------------------------------------------


@link
def pods(facts: Watched, case: Case) -> Finding:
    """Containers have the port that is scraped, and request what a percentage is aimed at."""
    here = "pods"
    template = facts.raw(workload_path(case.app))["spec"]["template"]["spec"]
    good = []
    for metric in of_resources(case):
        if problem := resource_trouble(template, metric, case):
            return problem
        if metric.target_type == "utilization":
            good.append(f"{metric.resource} is requested")
    scrape = case.app.scrape
    if scrape and from_prometheus(case) and not scrape.service:
        ports = container_ports(template)
        if isinstance(scrape.port, str) and scrape.port not in [port.get("name") for _unused, port in ports]:
            evidence = f"no container has a port named {scrape.port}; there are {describe_ports(ports)}"
            return broken("port_name_unknown", here, evidence, case.values())
        good.append(f"port {scrape.port}")
    return found(here, "ok" if good else "skipped", ", ".join(good) or "nothing is asked of the containers")


def container_ports(template: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Ports that containers name or number, each with its container's name."""
    return [(entry["name"], port) for entry in containers(template) for port in entry.get("ports") or []]


def describe_ports(ports: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Ports for a person."""
    return (
        ", ".join(f"{port.get('name', 'unnamed')} ({port['containerPort']}) of {name}" for name, port in ports)
        or "none"
    )


def resource_trouble(template: Mapping[str, Any], metric: Metric, case: Case) -> Finding | None:
    """What the pod template lacks for a metric of CPU or memory."""
    names = [entry["name"] for entry in containers(template)]
    if metric.container and metric.container not in names:
        evidence = f"there is no container {metric.container}; there are {shorten(names)}"
        return broken("container_unknown", "pods", evidence, case.values())
    if metric.target_type != "utilization":
        return None
    lacking = lacking_request(template, metric.resource, metric.container)
    if not lacking:
        return None
    evidence = f"{shorten(lacking)} requests no {metric.resource}, and the target is a percentage of it"
    return broken("request_missing", "pods", evidence, case.values(resource=metric.resource, container=lacking[0]))


@link
def endpoints(facts: Watched, case: Case) -> Finding:
    """The Service that is scraped has the port and leads to every ready pod."""
    here, app = "endpoints", case.app
    if not (app.scrape and app.scrape.service and from_prometheus(case)):
        return found(here, "skipped", "no Service is scraped")
    name, port = app.scrape.service, app.scrape.port
    values = case.values(service=name)
    service = optional(facts, f"/api/v1/namespaces/{app.namespace}/services/{name}")
    if service is None:
        return broken("service_missing", here, f"there is no Service {name} in namespace {app.namespace}", values)
    known = {entry.get("name", ""): entry["port"] for entry in service["spec"].get("ports") or []}
    if port not in known and port not in known.values():
        has = ", ".join(f"{held or 'unnamed'} ({number})" for held, number in known.items()) or "none"
        return broken("service_port_unknown", here, f"Service {name} has no port {port}; it has {has}", values)
    path = f"/apis/discovery.k8s.io/v1/namespaces/{app.namespace}/endpointslices"
    slices = facts.items(with_query(path, {"labelSelector": f"kubernetes.io/service-name={name}"}))
    led = {
        (entry.get("targetRef") or {}).get("name")
        for part in slices
        if part.get("ports")
        for entry in part.get("endpoints") or []
        if entry.get("conditions", {}).get("ready") is not False
    }
    ready, _unused = settled(facts, case)
    missing = [pod for pod in ready if pod not in led]
    if ready and len(missing) == len(ready):
        selector = service_selector(service)
        text = selector_text(selector) if selector else "none"
        evidence = f"Service {name} (selector {text}) leads to none of the {len(ready)} ready pods"
        return broken("service_without_endpoints", here, evidence, values)
    if missing:
        return broken("service_lacks_pods", here, f"Service {name} does not lead to {shorten(missing)}", values)
    return found(here, "ok", f"Service {name} leads to {len(ready)} pods")


# -- scrape and target -------------------------------------------------------------------------------------------------


def asks_prometheus(case: Case) -> bool:
    """Whether the app has something that Prometheus is to scrape for its autoscaler."""
    return bool(case.app.scrape and from_prometheus(case))


def pool_of(case: Case) -> str:
    """Name of the app's scrape job in Prometheus."""
    monitor = case.made(*MONITORS)
    if monitor is None:
        return job_name(case.app)
    return f"{MONITORS[monitor['kind']][0]}/{key(monitor)}/0"


@link
def scrape(facts: Watched, case: Case) -> Finding:
    """The scrape job is described, chosen by Prometheus, and loaded."""
    here = "scrape"
    if not asks_prometheus(case):
        return found(here, "skipped", "nothing of it is scraped")
    problem, described = (scrape_file if case.settings.flavor == "standalone" else monitor_chosen)(facts, case)
    if problem and problem.cause != "monitor_not_loaded":
        return problem
    try:
        path = service_path(case.settings.service, "/api/v1/scrape_pools")
        pools = prometheus_data(facts.raw(path), "its scrape jobs")["scrapePools"] or []
    except (ApiError, PrometheusError) as error:
        return broken("no_prometheus", here, f"{error}{prometheus_trouble(facts, case)}", case.values())
    if pool_of(case) not in pools:
        evidence = f"{described}, and Prometheus has {len(pools)} jobs without {pool_of(case)}"
        return broken("monitor_not_loaded", here, evidence, case.values())
    return found(here, "ok", f"{described}, job {pool_of(case)}")


def prometheus_trouble(facts: Watched, case: Case) -> str:
    """Why Prometheus' pods are not ready, as far as they are there."""
    namespace = case.settings.service.partition("/")[0]
    chosen = [
        pod
        for pod in facts.items(f"/api/v1/namespaces/{namespace}/pods")
        if (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == "prometheus"
    ]
    bad = [f"pod {pod['metadata']['name']}: {why_not_ready(pod)}" for pod in chosen if not holds(pod, "Ready")]
    return f"; {bad[0]}" if bad else "" if chosen else f"; namespace {namespace} has no pod of Prometheus"


def monitor_chosen(facts: Watched, case: Case) -> tuple[Finding | None, str]:
    """Whether the app's monitor is there and some Prometheus chooses it; else the finding."""
    here, monitor = "scrape", case.made(*MONITORS)
    if monitor is None:
        return None, "its entry makes no monitor"
    kind, namespace = monitor["kind"], monitor["metadata"]["namespace"]
    plural = f"{kind.lower()}s"
    if optional(facts, "/apis/monitoring.coreos.com/v1") is None:
        return broken("monitor_kind_missing", here, f"the cluster does not know kind {kind}", case.values()), ""
    live = optional(facts, monitor_path(monitor))
    if live is None:
        evidence = f"there is no {kind} {key(monitor)}"
        return broken("monitor_missing", here, evidence, case.values()), ""
    servers = facts.items("/apis/monitoring.coreos.com/v1/prometheuses")
    if not servers:
        evidence = "there is no Prometheus object for the operator to run"
        return broken("no_prometheus", here, evidence, case.values()), ""
    labels = facts.raw(f"/api/v1/namespaces/{namespace}")["metadata"].get("labels") or {}
    field_name = MONITORS[kind][0]
    reasons = [
        unwatched(server["spec"].get(f"{field_name}NamespaceSelector"), labels, server, namespace) for server in servers
    ]
    if all(reasons):
        return broken("namespace_not_watched", here, "; ".join(reasons), case.values()), ""
    wanted = live["metadata"].get("labels") or {}
    choosers = [server["spec"].get(f"{field_name}Selector") for server in servers]
    if not any(chooser is not None and matches(chooser, wanted) for chooser in choosers):
        texts = ["nothing" if chooser is None else selector_text(chooser) for chooser in choosers]
        evidence = f"{kind} {key(monitor)} is not among what Prometheus chooses ({', '.join(texts)}) of {plural}"
        return broken("monitor_not_selected", here, evidence, case.values()), ""
    return None, f"{kind} {key(monitor)}"


def monitor_path(monitor: Mapping[str, Any]) -> str:
    """Path of a monitor."""
    metadata, plural = monitor["metadata"], f"{monitor['kind'].lower()}s"
    return f"/apis/monitoring.coreos.com/v1/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


def unwatched(
    chooser: Mapping[str, Any] | None, labels: Mapping[str, str], server: Mapping[str, Any], namespace: str
) -> str:
    """Why a Prometheus does not watch a namespace, or nothing. No selector means its own namespace only."""
    if chooser is None:
        own = server["metadata"]["namespace"]
        return "" if own == namespace else f"Prometheus {key(server)} watches its own namespace only"
    return (
        ""
        if matches(chooser, labels)
        else f"Prometheus {key(server)} watches namespaces with {selector_text(chooser)} only"
    )


def scrape_file(facts: Watched, case: Case) -> tuple[Finding | None, str]:
    """Whether the app's job is in the ConfigMap that a standalone Prometheus reads; else the finding."""
    if job_in_file(facts, case) is None:
        evidence = f"ConfigMap {NAMESPACE}/{APPS} has no job {job_name(case.app)}"
        return broken("monitor_missing", "scrape", evidence, case.values()), ""
    return None, f"ConfigMap {NAMESPACE}/{APPS}"


def job_in_file(facts: Watched, case: Case) -> Mapping[str, Any] | None:
    """The app's job in the ConfigMap that a standalone Prometheus reads."""
    live = optional(facts, f"/api/v1/namespaces/{NAMESPACE}/configmaps/{APPS}") or {}
    jobs = yaml.safe_load((live.get("data") or {}).get("scrape.yml") or "") or {}
    return next((job for job in jobs.get("scrape_configs") or [] if job["job_name"] == job_name(case.app)), None)


def job_edits(facts: Watched, case: Case) -> list[str]:
    """What of the app's scrape job is not as its entry makes it."""
    if case.settings.flavor == "standalone" and case.app.scrape:
        return differences(standalone_scrape_config(case.app, case.app.scrape), job_in_file(facts, case), "job")
    monitor = case.made(*MONITORS)
    live = optional(facts, monitor_path(monitor)) if monitor else None
    return differences(monitor["spec"], live["spec"], "spec") if monitor and live else []


def targets_of(facts: Watched, case: Case, state: str = "active", **more: str) -> list[dict[str, Any]]:
    """Targets of Prometheus in a state (active or dropped)."""
    path = service_path(case.settings.service, "/api/v1/targets", {"state": state, **more})
    return prometheus_data(facts.raw(path), "its targets")[f"{state}Targets"] or []


@link
def target(facts: Watched, case: Case) -> Finding:
    """Every settled pod is a target of the job, up, and of no other job."""
    here = "target"
    if not asks_prometheus(case):
        return found(here, "skipped", "nothing of it is scraped")
    everything, pool = targets_of(facts, case), pool_of(case)
    own = [entry for entry in everything if entry["scrapePool"] == pool]
    by_pod = {target_pod(entry): entry for entry in own}
    wanted, young = settled(facts, case)
    missing = [pod for pod in wanted if pod not in by_pod]
    if missing and young:
        return found(here, "unknown", f"no target yet: {young}")
    if missing:
        return missing_targets(facts, case, missing)
    down = [(pod, by_pod[pod]) for pod in wanted if by_pod[pod]["health"] == "down"]
    if down:
        pod, entry = down[0]
        error = (entry.get("lastError") or "no error given").removeprefix(f'Get "{entry["scrapeUrl"]}": ')
        evidence = f"{entry['scrapeUrl']}: {error}{policies(facts, case, entry)}"
        more = f" ({len(down)} of {len(wanted)} pods)" if len(down) > 1 else ""
        return broken(scrape_cause(entry), here, evidence + more, case.values(pod=pod))
    urls = {entry["scrapeUrl"] for entry in own}
    others = sorted({entry["scrapePool"] for entry in everything if entry["scrapeUrl"] in urls} - {pool})
    if others:
        return broken(
            "scraped_twice", here, f"{shorten(urls, 1)} is scraped by {pool} and by {shorten(others)}", case.values()
        )
    if any(by_pod[pod]["health"] != "up" for pod in wanted):
        return found(here, "unknown", "not scraped yet: look again in a few seconds")
    return found(here, "ok", f"{len(wanted)} pods up")


def target_pod(entry: Mapping[str, Any]) -> str:
    """Name of a target's pod."""
    labels = entry.get("labels") or {}
    return labels.get("pod") or (entry.get("discoveredLabels") or {}).get("__meta_kubernetes_pod_name", "")


def scrape_cause(entry: Mapping[str, Any]) -> str:
    """Cause that a scrape's error stands for."""
    error = entry.get("lastError") or ""
    return next((cause for pattern, cause in _SCRAPE_ERRORS if re.search(pattern, error)), "target_down")


def policies(facts: Watched, case: Case, entry: Mapping[str, Any]) -> str:
    """Names of NetworkPolicies that limit who may reach the app's pods, when a scrape got no answer."""
    if scrape_cause(entry) != "target_timed_out":
        return ""
    app = case.app
    labels = facts.raw(workload_path(app))["spec"]["template"]["metadata"].get("labels") or {}
    names = [
        item["metadata"]["name"]
        for item in facts.items(f"/apis/networking.k8s.io/v1/namespaces/{app.namespace}/networkpolicies")
        if matches(item["spec"].get("podSelector") or {}, labels) and item["spec"].get("policyTypes") != ["Egress"]
    ]
    return f"; NetworkPolicy {shorten(names)} limits who may reach these pods" if names else ""


def missing_targets(facts: Watched, case: Case, missing: Sequence[str]) -> Finding:
    """Why pods are no targets of a job that Prometheus has."""
    here, lacking = "target", f"no target for pod {shorten(missing)}"
    if edits := job_edits(facts, case):
        return broken("monitor_edited", here, f"{lacking}; of {pool_of(case)} {shorten(edits)}", case.values())
    names = {
        (entry.get("discoveredLabels") or {}).get("__meta_kubernetes_pod_name")
        for entry in targets_of(facts, case, "dropped", scrapePool=pool_of(case))
        if (entry.get("discoveredLabels") or {}).get("__meta_kubernetes_namespace") == case.app.namespace
    }
    dropped = [pod for pod in missing if pod in names]
    if dropped:
        owner = controllers(facts, case, dropped[0])
        return broken("targets_dropped", here, f"{lacking}; the job drops {shorten(dropped)}{owner}", case.values())
    return broken("target_missing", here, f"{lacking}; the job's discovery has none of them", case.values())


def controllers(facts: Watched, case: Case, name: str) -> str:
    """By whom a pod is controlled."""
    for pod in app_pods(facts, case):
        if pod["metadata"]["name"] == name:
            owners = pod["metadata"].get("ownerReferences") or []
            said = [f"{owner['kind']} {owner['name']}" for owner in owners if owner.get("controller")]
            return f", which {said[0]} controls" if said else ", which nobody controls"
    return ""


def differences(wanted: Any, live: Any, path: str) -> list[str]:  # noqa: ANN401 - whatever YAML holds
    """What of ``wanted`` is not so in ``live``; what only ``live`` has is no difference, nor is 0.01 for 10m."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return [text for name in wanted for text in differences(wanted[name], live.get(name), f"{path}.{name}")]
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return [
            text
            for number, (one, other) in enumerate(zip(wanted, live, strict=True))
            for text in differences(one, other, f"{path}[{number}]")
        ]
    if wanted == live or (wanted in ({}, [], None) and not live) or same_quantity(wanted, live):
        return []
    return [f"{path} is {shown(live)}, not {shown(wanted)}"]


def same_quantity(one: object, other: object) -> bool:
    """Whether two values are the same quantity, such as 0.01 and 10m."""
    try:
        return quantity(str(one)) == quantity(str(other))
    except ValueError:
        return False


def shown(value: object) -> str:
    """A value in few words."""
    text = "missing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


# -- series ------------------------------------------------------------------------------------------------------------


@link
def series(facts: Watched, case: Case) -> Finding:
    """Every settled pod has the series of each metric; metrics of objects and external ones have at least one."""
    here, good = "series", []
    metrics = from_prometheus(case)
    if not metrics:
        return found(here, "skipped", "nothing is read from Prometheus")
    for metric in metrics:
        for name in filter(None, (metric.series, metric.over)):
            problem, text = (pod_series if metric.source == "pods" else any_series)(facts, case, metric, name)
            if problem:
                return problem
            good.append(text)
    return found(here, "ok", ", ".join(good))


def counted(facts: Watched, case: Case, expression: str, label: str) -> dict[str, float]:
    """How many samples an expression has, for each value of a label."""
    samples = prometheus_query(facts, f"count by ({label}) ({expression})", case.settings.service)
    return {sample["metric"].get(label, ""): float(sample["value"][1]) for sample in samples}


def pod_series(facts: Watched, case: Case, metric: Metric, name: str) -> tuple[Finding | None, str]:
    """The finding if settled pods lack a series, else what there is."""
    namespace_label, pod_label = metric.labels.get("namespace", "namespace"), metric.labels.get("pod", "pod")
    chosen = f'{name}{{{namespace_label}="{case.app.namespace}",{pod_label}!=""}}'
    held = counted(facts, case, chosen, pod_label)
    wanted, young = settled(facts, case)
    missing = [pod for pod in wanted if pod not in held]
    if not missing:
        return None, f"{name} of {len(wanted)} pods"
    if young:
        return found("series", "unknown", f"no {name} yet: {young}"), ""
    here, lacking = "series", f"{name} is missing for pod {shorten(missing)}"
    before = counted(facts, case, f"last_over_time({chosen}[{RECENT}s])", pod_label)
    if gone := [pod for pod in missing if pod in before]:
        evidence = f"{name} of pod {shorten(gone)} was there within the last {RECENT // 60} minutes"
        return broken("series_stale", here, evidence, case.values(pod=gone[0])), ""
    own = [entry for entry in targets_of(facts, case) if entry["scrapePool"] == pool_of(case)]
    instances = {(entry.get("labels") or {}).get("instance") for entry in own}
    if instances & set(counted(facts, case, f'{name}{{{pod_label}=""}} or {name}{{{namespace_label}=""}}', "instance")):
        evidence = f"{lacking}, and is there without label {pod_label} or {namespace_label}"
        return broken("series_unlabelled", here, evidence, case.values()), ""
    if len(missing) < len(wanted):
        return broken("series_incomplete", here, f"{lacking}, {len(wanted) - len(missing)} have it", case.values()), ""
    # Of the app's own job: those of the kubelets have series about the same pod.
    job = f'{{namespace="{case.app.namespace}",pod="{missing[0]}",job="{case.app.name}"}}'
    names = counted(facts, case, job, "__name__")
    near = nearest(name, names, NEAREST, LIKENESS)
    if near:
        return broken("series_renamed", here, f"{lacking}; the pod has {', '.join(near)}", case.values()), ""
    evidence = f"{lacking}; the pod has {len(names)} others, none of a similar name"
    return broken("series_absent", here, evidence, case.values()), ""


def any_series(facts: Watched, case: Case, metric: Metric, name: str) -> tuple[Finding | None, str]:
    """The finding if there is no sample at all of an object's or external series, else what there is."""
    labels = dict(metric.selector)
    for resource, label in metric.labels.items():
        labels[label] = case.app.namespace if resource == "namespace" else metric.object_name
    matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
    chosen = f"{name}{{{matchers}}}"
    if held := counted(facts, case, chosen, "job"):
        return None, f"{chosen}: {sum(held.values()):.0f} series"
    here = "series"
    if counted(facts, case, f"last_over_time({chosen}[{RECENT}s])", "job"):
        evidence = f"{chosen} was there within the last {RECENT // 60} minutes"
        return broken("series_stale", here, evidence, case.values()), ""
    path = service_path(case.settings.service, "/api/v1/label/__name__/values")
    names = prometheus_data(facts.raw(path), "its names")
    if name in names:
        evidence = f"{chosen} has no samples, though {name} exists with other labels"
        return broken("series_unlabelled", here, evidence, case.values()), ""
    near = nearest(name, names, NEAREST, LIKENESS)
    if near:
        return broken("series_renamed", here, f"{chosen} has no samples; there is {', '.join(near)}", case.values()), ""
    return broken("series_absent", here, f"{chosen} has no samples, nor has a similar name", case.values()), ""


# -- adapter -----------------------------------------------------------------------------------------------------------


@link
def discovered(facts: Watched, case: Case) -> Finding:
    """The adapter has a rule for each metric, started after it was written, and lists the metric."""
    here, metrics = "discovered", from_prometheus(case)
    if not metrics:
        return found(here, "skipped", "no metric comes from the adapter")
    namespace, _unused, name = ADAPTER_CONFIG.partition("/")
    config = optional(facts, f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    texts = ((config or {}).get("data") or {}).values()
    for metric in metrics:
        part = "externalRules" if metric.source == "external" else "rules"
        rules = [rule for text in texts for rule in (yaml.safe_load(text) or {}).get(part) or []]
        if not series_query(rules, metric.name):
            evidence = f"ConfigMap {ADAPTER_CONFIG} has no rule that makes {metric.name}"
            return broken("rule_missing", here, evidence, case.values())
    if config and (late := started_before(facts, config)):
        return broken("adapter_not_restarted", here, late, case.values())
    listed: dict[str, set[str]] = {}
    for metric in metrics:
        group = EXTERNAL_API if metric.source == "external" else CUSTOM_API
        try:
            version = "v1beta1" if group == EXTERNAL_API else "v1beta2"
            answer = facts.raw(f"/apis/{group}/{version}")
        except ApiError as error:
            return found(here, "unknown", f"the rule is there; {group} cannot be asked: {error}")
        names = listed.setdefault(group, {entry["name"] for entry in answer.get("resources") or []})
        if not any(entry.rpartition("/")[2] == metric.name for entry in names):
            evidence = f"{group} lists {len(names)} metrics without {metric.name}"
            return broken("metric_not_listed", here, evidence, case.values())
    return found(here, "ok", ", ".join(metric.name for metric in metrics))


def started_before(facts: Watched, config: Mapping[str, Any]) -> str:
    """Adapters that started before their rules were written, or nothing."""
    namespace = config["metadata"]["namespace"]
    written = max(
        (
            entry["time"]
            for entry in config["metadata"].get("managedFields") or []
            if "f:data" in (entry.get("fieldsV1") or {})
        ),
        default="",
    )
    for pod in pods_in(facts, namespace, {"matchLabels": {"app.kubernetes.io/name": "prometheus-adapter"}}):
        for entry in pod.get("status", {}).get("containerStatuses") or []:
            started = (entry.get("state", {}).get("running") or {}).get("startedAt", "")
            if written and started and parse_time(started) < parse_time(written):
                return f"pod {pod['metadata']['name']} started at {started}, the rules are of {written}"
    return ""


def groups_of(case: Case) -> list[str]:
    """API groups that serve the app's metrics."""
    groups = {"pods": CUSTOM_API, "object": CUSTOM_API, "external": EXTERNAL_API}
    return list(dict.fromkeys(groups.get(metric.source, RESOURCE_API) for metric in case.app.metrics))


@link
def apiservice(facts: Watched, case: Case) -> Finding:
    """The APIs of the app's metrics are registered, ours where they should be, verified, served, and available."""
    here, good = "apiservice", []
    for group in groups_of(case):
        problem, text = judge_server(facts, group, case.settings.owners.get(group, ""), case.settings.now)
        if problem:
            return broken(problem.cause, here, problem.evidence, {**case.values(), **problem.values})
        good.append(text)
    return found(here, "ok", "; ".join(good))


# -- values ------------------------------------------------------------------------------------------------------------


@link
def values(facts: Watched, case: Case) -> Finding:
    """The metrics API has a value for every settled pod, or for the object, or of the external metric."""
    here, good = "values", []
    workload_selector = facts.raw(workload_path(case.app))["spec"]["selector"]
    for metric in case.app.metrics:
        path = value_path(case, metric, selector_text(workload_selector))
        served = registrations(facts, path.split("/")[2])
        server = place(served[0]) if served else "NAMESPACE/SERVICE"
        given = case.values(path=path, server=server.partition("/")[2], server_namespace=server.partition("/")[0])
        wanted, young = settled(facts, case)
        try:
            items = facts.raw(path).get("items") or []
            lacking = "" if items else f"{path} is an empty list"
        except ApiError as error:
            if error.status not in (404, 500):
                raise
            items, lacking = [], str(error)
        cause = "value_missing" if lacking else "values_incomplete"
        if items:
            lacking, text = judge_values(wanted, metric, items)
        if lacking and young:
            return found(here, "unknown", f"no value yet: {young}")
        if lacking:
            return broken(cause, here, lacking, given)
        good.append(text)
    return found(here, "ok", "; ".join(good))


def value_path(case: Case, metric: Metric, selector: str) -> str:
    """Path at which the autoscaler reads a metric."""
    app = case.app
    if metric.source == "pods":
        path = f"{CUSTOM}/v1beta2/namespaces/{app.namespace}/pods/*/{metric.name}"
        return with_query(path, {"labelSelector": selector})
    if metric.source == "object" and metric.object_kind == "namespace":
        return f"{CUSTOM}/v1beta2/namespaces/{app.namespace}/metrics/{metric.name}"
    if metric.source == "object":
        plural = OBJECTS[metric.object_kind]
        return f"{CUSTOM}/v1beta2/namespaces/{app.namespace}/{plural}/{metric.object_name}/{metric.name}"
    if metric.source == "external":
        path = f"/apis/{EXTERNAL_API}/v1beta1/namespaces/{app.namespace}/{metric.name}"
        own = {"matchLabels": dict(metric.selector)}
        return with_query(path, {"labelSelector": selector_text(own)} if metric.selector else None)
    return with_query(f"/apis/{RESOURCE_API}/v1beta1/namespaces/{app.namespace}/pods", {"labelSelector": selector})


#: Kinds that a metric may be about, as the custom metrics API names them.
OBJECTS = {"ingress": "ingresses.networking.k8s.io", "service": "services"}


def judge_values(wanted: Sequence[str], metric: Metric, items: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What is missing among the values, and what there is."""
    if metric.source in ("object", "external"):
        return "", f"{metric.name} {items[0]['value']}"
    if metric.source == "pods":
        held = {item["describedObject"]["name"]: str(item["value"]) for item in items}
    else:
        held = {item["metadata"]["name"]: usage(item, metric) for item in items}
    missing = [pod for pod in wanted if not held.get(pod)]
    name = metric.name or metric.resource
    return (f"{name} has no value for pod {shorten(missing)}" if missing else ""), (
        f"{name} " + shorten((f"{pod} {value}" for pod, value in held.items()), 2)
    )


def usage(item: Mapping[str, Any], metric: Metric) -> str:
    """Usage of a pod, or of its one container that the metric is about."""
    parts = [
        entry["usage"].get(metric.resource, "")
        for entry in item.get("containers") or []
        if not metric.container or entry["name"] == metric.container
    ]
    return " + ".join(part for part in parts if part)


# -- autoscaler --------------------------------------------------------------------------------------------------------


def autoscaler_path(case: Case) -> str:
    """Path of the app's autoscaler."""
    made = case.made("HorizontalPodAutoscaler")
    name = made["metadata"]["name"] if made else case.app.name
    return f"/apis/autoscaling/v2/namespaces/{case.app.namespace}/horizontalpodautoscalers/{name}"


@link
def hpa(facts: Watched, case: Case) -> Finding:
    """The autoscaler is there, as its entry says, alone, and able to scale by its metrics."""
    here, made = "hpa", case.made("HorizontalPodAutoscaler")
    item = optional(facts, autoscaler_path(case))
    if item is None:
        return broken(
            "autoscaler_missing", here, f"there is no HorizontalPodAutoscaler in {case.app.namespace}", case.values()
        )
    if made and (edits := differences(made["spec"], item["spec"], "spec")):
        return broken("autoscaler_edited", here, shorten(edits), case.values())
    aim = item["spec"]["scaleTargetRef"]
    rivals = [
        other["metadata"]["name"]
        for other in facts.items(f"/apis/autoscaling/v2/namespaces/{case.app.namespace}/horizontalpodautoscalers")
        if other["metadata"]["name"] != item["metadata"]["name"]
        and all(other["spec"]["scaleTargetRef"].get(name) == aim.get(name) for name in ("kind", "name"))
    ]
    if rivals:
        evidence = f"{item['metadata']['name']} and {shorten(rivals)} scale {aim['kind']} {aim['name']}"
        return broken("autoscaler_rival", here, evidence, case.values(rival=rivals[0]))
    for kind, cause in (("AbleToScale", "autoscaler_unable"), ("ScalingActive", "autoscaler_blind")):
        entry = condition(item, kind)
        if not entry:
            return found(here, "unknown", f"{kind} is not judged yet: look again in 15 seconds")
        if entry.get("status") != "True" and (young := settled(facts, case)[1]):
            return found(here, "unknown", f"{kind} is False: {young}")
        if entry.get("status") != "True":
            return broken(cause, here, f"{kind}={entry.get('status')}: {explain(entry)}", case.values())
    current, desired = (item["status"].get(f"{word}Replicas", 0) for word in ("current", "desired"))
    return found(here, "ok", f"{current} replicas, {desired} desired")


@link
def limits(facts: Watched, case: Case) -> Finding:
    """Nothing keeps the workload from the replicas that its autoscaler wants."""
    here, app = "limits", case.app
    item = facts.raw(autoscaler_path(case))
    spec = item["spec"]
    if spec.get("minReplicas", 1) == spec["maxReplicas"]:
        return broken("size_fixed", here, f"minReplicas and maxReplicas are {spec['maxReplicas']}", case.values())
    behavior = spec.get("behavior") or {}
    if (behavior.get("scaleUp") or {}).get("selectPolicy") == "Disabled":
        return broken("scale_up_disabled", here, "behavior.scaleUp.selectPolicy is Disabled", case.values())
    workload_now = facts.raw(workload_path(app))
    refused = refusal(facts, workload_now, case.settings.now)
    if "quota" in refused:
        return broken("quota_reached", here, refused, case.values())
    if waiting := unschedulable(app_pods(facts, case)):
        return broken("no_room", here, waiting, case.values())
    limited = condition(item, "ScalingLimited")
    if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
        # Not the current ones: pods for the last of the desired may be starting still.
        desired = item["status"].get("desiredReplicas", 0)
        evidence = f"{desired} of at most {spec['maxReplicas']} replicas desired: {explain(limited)}"
        return broken("max_reached", here, evidence, case.values())
    one_way = (
        " never fewer (behavior.scaleDown is Disabled),"
        if ((behavior.get("scaleDown") or {}).get("selectPolicy") == "Disabled")
        else ""
    )
    return found(
        here, "ok", f"{spec.get('minReplicas', 1)} to {spec['maxReplicas']} replicas,{one_way} none refused or waiting"
    )
