# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The scrape job of an app: it is described, Prometheus chooses it, and has loaded it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ...apps.scraping import APPS, NAMESPACE, job_name, standalone_scrape_config
from ...kube.client import ApiError
from ...kube.objects import holds, matches, selector_text, why_not_ready
from ...kube.prometheus import PrometheusError, prometheus_data, service_path
from ..edits import differences
from ..facts import Watched, key
from ..link import Cause, Finding, broken, link, ok, skipped
from ..settings import MONITORS, Case, Settings

NO_PROMETHEUS = Cause(
    "Prometheus does not answer: no app has metrics.",
    "kubectl --namespace {prometheus_namespace} get pods; then describe and logs of the one that is not ready; "
    "site.yml with --tags prometheus puts back what was deleted or scaled",
)


@link(
    "Prometheus has the scrape job",
    {
        "no_prometheus": NO_PROMETHEUS,
        "monitor_kind_missing": Cause(
            "The cluster does not know the kind that describes scrape jobs.",
            "run site.yml with --tags prometheus,hpa",
        ),
        "monitor_missing": Cause("No scrape job describes the app.", "run site.yml with --tags hpa"),
        "namespace_not_watched": Cause(
            "Prometheus does not watch the app's namespace.",
            "give namespace {namespace} the labels that the selector wants, or put Prometheus back to all namespaces: "
            "site.yml with --tags prometheus",
        ),
        "monitor_not_selected": Cause(
            "Prometheus chooses monitors by labels that the app's monitor does not have.",
            "put Prometheus back to all monitors: site.yml with --tags prometheus",
        ),
        "monitor_not_loaded": Cause(
            "The job is described, and Prometheus has not loaded it yet: that takes up to a minute or two.",
            "run the doctor again in a minute; then look at the logs of the operator and of Prometheus' "
            "config-reloader in namespace {prometheus_namespace}",
        ),
    },
    components=("prometheus",),
)
def scrape(facts: Watched, case: Case) -> Finding:
    """Check that the scrape job is described, chosen by Prometheus, and loaded."""
    if not case.is_scraped:
        return skipped("nothing of it is scraped")
    described = (scrape_file if case.settings.flavor == "standalone" else monitor_chosen)(facts, case)
    if isinstance(described, Finding):
        return described
    try:
        path = service_path(case.settings.service, "/api/v1/scrape_pools")
        pools = prometheus_data(facts.raw(path), "its scrape jobs")["scrapePools"] or []
    except (ApiError, PrometheusError) as error:
        return broken("no_prometheus", f"{error}{prometheus_trouble(facts, case.settings)}")
    if case.pool not in pools:
        return broken("monitor_not_loaded", f"{described}, and Prometheus has {len(pools)} jobs without {case.pool}")
    return ok(f"{described}, job {case.pool}")


def prometheus_trouble(facts: Watched, settings: Settings) -> str:
    """Return why Prometheus' pods are not ready, or an empty text."""
    namespace = settings.prometheus_namespace
    chosen = [
        pod
        for pod in facts.items(f"/api/v1/namespaces/{namespace}/pods")
        if (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == "prometheus"
    ]
    bad = [f"pod {pod['metadata']['name']}: {why_not_ready(pod)}" for pod in chosen if not holds(pod, "Ready")]
    return f"; {bad[0]}" if bad else "" if chosen else f"; namespace {namespace} has no pod of Prometheus"


def monitor_chosen(facts: Watched, case: Case) -> Finding | str:
    """Return the app's monitor in words if it exists and a Prometheus chooses it, else the finding."""
    monitor = case.made(*MONITORS)
    if monitor is None:
        return "its entry makes no monitor"
    kind, namespace = monitor["kind"], monitor["metadata"]["namespace"]
    if facts.optional("/apis/monitoring.coreos.com/v1") is None:
        return broken("monitor_kind_missing", f"the cluster does not know kind {kind}")
    live = facts.optional(monitor_path(monitor))
    if live is None:
        return broken("monitor_missing", f"there is no {kind} {key(monitor)}")
    servers = facts.items("/apis/monitoring.coreos.com/v1/prometheuses")
    if not servers:
        return broken("no_prometheus", "there is no Prometheus object for the operator to run")
    labels = facts.raw(f"/api/v1/namespaces/{namespace}")["metadata"].get("labels") or {}
    prefix = MONITORS[kind][0]
    reasons = [
        unwatched(server["spec"].get(f"{prefix}NamespaceSelector"), labels, server, namespace) for server in servers
    ]
    if all(reasons):
        return broken("namespace_not_watched", "; ".join(reasons))
    wanted = live["metadata"].get("labels") or {}
    choosers = [server["spec"].get(f"{prefix}Selector") for server in servers]
    if not any(matches(chooser, wanted) for chooser in choosers):
        texts = ["nothing" if chooser is None else selector_text(chooser) for chooser in choosers]
        evidence = (
            f"Prometheus chooses {', '.join(texts)} of {kind.lower()}s, which {kind} {key(monitor)} does not have"
        )
        return broken("monitor_not_selected", evidence)
    return f"{kind} {key(monitor)}"


def monitor_path(monitor: Mapping[str, Any]) -> str:
    """Return the path of a monitor."""
    metadata, plural = monitor["metadata"], f"{monitor['kind'].lower()}s"
    return f"/apis/monitoring.coreos.com/v1/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


def unwatched(
    chooser: Mapping[str, Any] | None, labels: Mapping[str, str], server: Mapping[str, Any], namespace: str
) -> str:
    """Return why a Prometheus does not watch a namespace. No selector means its own namespace only."""
    if chooser is None:
        own = server["metadata"]["namespace"]
        return "" if own == namespace else f"Prometheus {key(server)} watches its own namespace only"
    if matches(chooser, labels):
        return ""
    return f"Prometheus {key(server)} watches namespaces with {selector_text(chooser)} only"


def scrape_file(facts: Watched, case: Case) -> Finding | str:
    """Return the ConfigMap that a standalone Prometheus reads if it has the app's job, else the finding."""
    if job_in_file(facts, case) is None:
        return broken("monitor_missing", f"ConfigMap {NAMESPACE}/{APPS} has no job {job_name(case.app)}")
    return f"ConfigMap {NAMESPACE}/{APPS}"


def job_in_file(facts: Watched, case: Case) -> Mapping[str, Any] | None:
    """Return the app's job in the ConfigMap that a standalone Prometheus reads, or None."""
    live = facts.optional(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{APPS}") or {}
    jobs = yaml.safe_load((live.get("data") or {}).get("scrape.yml") or "") or {}
    return next((job for job in jobs.get("scrape_configs") or [] if job["job_name"] == job_name(case.app)), None)


def job_edits(facts: Watched, case: Case) -> list[str]:
    """Return the parts of the app's scrape job that are not as its entry makes them."""
    if case.settings.flavor == "standalone" and case.app.scrape:
        return differences(standalone_scrape_config(case.app, case.app.scrape), job_in_file(facts, case), "job")
    monitor = case.made(*MONITORS)
    live = facts.optional(monitor_path(monitor)) if monitor else None
    return differences(monitor["spec"], live["spec"], "spec") if monitor and live else []
