# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The targets of an app's scrape job: every pod is one, is up, and is scraped once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...common.text import shorten
from ...kube.objects import matches
from ...kube.prometheus import prometheus_data, service_path
from ..facts import Watched
from ..link import Cause, Finding, broken, link, ok, skipped, unknown
from ..settings import Case, Settings
from .scrape import job_edits

#: Causes by a pattern of the error that Prometheus reports of a scrape; the first that fits counts.
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
DOWN = Cause("The scrape fails.", "kubectl --namespace {namespace} logs {pod}; the error is Prometheus' own")
TWICE = Cause(
    "Two jobs scrape the same address, so every pod counts twice.",
    "remove one of the two: the monitor or annotation that came with the app, or the `scrape` of entry {app}",
)
CAUSES = {
    "monitor_edited": Cause(
        "Pods are missing among the targets, and the scrape job is not as its entry says.",
        "run site.yml with --tags hpa, which puts it back",
    ),
    "targets_dropped": Cause(
        "Prometheus finds the pods, and the job's relabeling drops them: they belong to another controller, "
        "or have no container port of that name or number.",
        "compare the pods' controller (kubectl --namespace {namespace} get pods --output yaml, ownerReferences) and "
        "ports with `workload` and `scrape.port` of entry {app}",
    ),
    "target_missing": Cause(
        "Prometheus has the job and does not find the pods.",
        "look at the job under Status, Service discovery of Prometheus; may its ServiceAccount list pods there?",
    ),
    "target_refused": Cause(
        "Nothing listens on that port of the pod.",
        "correct `scrape.port` of entry {app} in autoscaled_apps, or let the app listen on all addresses (0.0.0.0)",
    ),
    "target_timed_out": Cause(
        "No answer in time: a NetworkPolicy or firewall drops the packets, or the app is too slow for the interval.",
        "allow ingress from Prometheus' namespace {prometheus_namespace} to the port; try: "
        "kubectl --namespace {namespace} port-forward {pod} PORT, then curl",
    ),
    "target_unreachable": Cause(
        "There is no route from Prometheus' node to the pod.",
        "look at the pod network: kubectl get nodes; kubectl --namespace kube-system get pods "
        "--selector k8s-app=flannel --output wide",
    ),
    "target_not_found": Cause(
        "The app answers, and serves nothing at that path.",
        "correct `scrape.path` of entry {app} in autoscaled_apps, then site.yml with --tags hpa",
    ),
    "target_forbidden": Cause(
        "The app demands a login.",
        "serve the metrics without login on a port of their own, and set `scrape.port` of entry {app} to it",
    ),
    "target_http_error": Cause(
        "The app answers with an error of its own.",
        "kubectl --namespace {namespace} logs {pod}",
    ),
    "target_not_metrics": Cause(
        "The app's answer is not in Prometheus' text format.",
        "correct `scrape.path` or `scrape.port` of entry {app} in autoscaled_apps, then site.yml with --tags hpa",
    ),
    "target_tls": Cause(
        "One side speaks TLS and the other does not, or the certificate is not trusted.",
        "correct `scrape.scheme` of entry {app} in autoscaled_apps, then site.yml with --tags hpa",
    ),
    "target_down": DOWN,
    "scraped_twice": TWICE,
}


@link("every pod is scraped, once, without an error", CAUSES, components=("prometheus",))
def target(facts: Watched, case: Case) -> Finding:
    """Check that every settled pod is a target of the job, up, and of no other job."""
    if not case.is_scraped:
        return skipped("nothing of it is scraped")
    everything = targets(facts, case.settings)
    own = [entry for entry in everything if entry["scrapePool"] == case.pool]
    by_pod = {target_pod(entry): entry for entry in own}
    wanted, young = case.settled(facts)
    missing = [pod for pod in wanted if pod not in by_pod]
    if missing and young:
        return unknown(f"no target yet: {young}")
    if missing:
        return missing_targets(facts, case, missing)
    down = [(pod, by_pod[pod]) for pod in wanted if by_pod[pod]["health"] == "down"]
    if down:
        pod, entry = down[0]
        error = (entry.get("lastError") or "no error given").removeprefix(f'Get "{entry["scrapeUrl"]}": ')
        evidence = f"{entry['scrapeUrl']}: {error}{policies(facts, case, entry)}"
        more = f" ({len(down)} of {len(wanted)} pods)" if len(down) > 1 else ""
        return broken(scrape_cause(entry), evidence + more, pod=pod)
    urls = {entry["scrapeUrl"] for entry in own}
    if twice := scraped_twice([entry for entry in everything if entry["scrapeUrl"] in urls]):
        return broken("scraped_twice", twice[0])
    if any(by_pod[pod]["health"] != "up" for pod in wanted):
        return unknown("not scraped yet: look again in a few seconds")
    return ok(f"{len(wanted)} pods up")


def targets(facts: Watched, settings: Settings, state: str = "active", **more: str) -> list[dict[str, Any]]:
    """Return the targets of Prometheus in a state (active or dropped)."""
    path = service_path(settings.service, "/api/v1/targets", {"state": state, **more})
    return prometheus_data(facts.raw(path), "its targets")[f"{state}Targets"] or []


def scraped_twice(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the addresses that several jobs scrape, in words."""
    pools: dict[str, set[str]] = {}
    for entry in entries:
        pools.setdefault(entry["scrapeUrl"], set()).add(entry["scrapePool"])
    return [f"{url} is scraped by {' and by '.join(sorted(names))}" for url, names in pools.items() if len(names) > 1]


def target_pod(entry: Mapping[str, Any]) -> str:
    """Return the name of a target's pod."""
    labels = entry.get("labels") or {}
    return labels.get("pod") or (entry.get("discoveredLabels") or {}).get("__meta_kubernetes_pod_name", "")


def scrape_cause(entry: Mapping[str, Any]) -> str:
    """Return the cause of a scrape's error."""
    error = entry.get("lastError") or ""
    return next((cause for pattern, cause in _SCRAPE_ERRORS if re.search(pattern, error)), "target_down")


def policies(facts: Watched, case: Case, entry: Mapping[str, Any]) -> str:
    """Return the NetworkPolicies that limit who may reach the app's pods, if a scrape got no answer."""
    if scrape_cause(entry) != "target_timed_out":
        return ""
    labels = facts.raw(case.workload_path)["spec"]["template"]["metadata"].get("labels") or {}
    names = [
        item["metadata"]["name"]
        for item in facts.items(f"/apis/networking.k8s.io/v1/namespaces/{case.app.namespace}/networkpolicies")
        if matches(item["spec"].get("podSelector") or {}, labels) and item["spec"].get("policyTypes") != ["Egress"]
    ]
    return f"; NetworkPolicy {shorten(names)} limits who may reach these pods" if names else ""


def missing_targets(facts: Watched, case: Case, missing: Sequence[str]) -> Finding:
    """Return why pods are no targets of a job that Prometheus has."""
    lacking = f"no target for pod {shorten(missing)}"
    if edits := job_edits(facts, case):
        return broken("monitor_edited", f"{lacking}; of {case.pool} {shorten(edits)}")
    names = {
        (entry.get("discoveredLabels") or {}).get("__meta_kubernetes_pod_name")
        for entry in targets(facts, case.settings, "dropped", scrapePool=case.pool)
        if (entry.get("discoveredLabels") or {}).get("__meta_kubernetes_namespace") == case.app.namespace
    }
    dropped = [pod for pod in missing if pod in names]
    if dropped:
        owner = controller(facts, case, dropped[0])
        return broken("targets_dropped", f"{lacking}; the job drops {shorten(dropped)}{owner}")
    return broken("target_missing", f"{lacking}; the job's discovery has none of them")


def controller(facts: Watched, case: Case, name: str) -> str:
    """Return the controller of a pod in words."""
    for pod in case.pods(facts):
        if pod["metadata"]["name"] == name:
            owners = pod["metadata"].get("ownerReferences") or []
            names = [f"{owner['kind']} {owner['name']}" for owner in owners if owner.get("controller")]
            return f", which {names[0]} controls" if names else ", which nobody controls"
    return ""
