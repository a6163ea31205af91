# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Prometheus, its targets, Alertmanager and Grafana."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from ...apps.scraping import ANNOTATED_PODS, ANNOTATED_SERVICES
from ...common.components import NAMESPACES
from ...kube.client import ApiError
from ...kube.objects import holds
from ...kube.prometheus import PrometheusError, prometheus_data, prometheus_query, service_path
from ..facts import PODS, Watched, key
from ..link import Cause, Finding, broken, link, ok
from ..settings import MONITORS, Settings
from .scrape import NO_PROMETHEUS, prometheus_trouble
from .target import DOWN, TWICE, scraped_twice, target_pod, targets

ALERTMANAGER = f"{NAMESPACES['alertmanager']}/alertmanager-main:9093"
GRAFANA = f"{NAMESPACES['grafana']}/grafana:3000"


@link("Prometheus answers queries", {"no_prometheus": NO_PROMETHEUS}, components=("prometheus",))
def prometheus_ready(facts: Watched, settings: Settings) -> Finding:
    """Check that Prometheus answers a query, which it does only after it has read its data."""
    try:
        prometheus_query(facts, "vector(1)", settings.service)
        path = service_path(settings.service, "/api/v1/status/buildinfo")
        version = prometheus_data(facts.raw(path), "its version")["version"]
    except (ApiError, PrometheusError) as error:
        return broken("no_prometheus", f"{error}{prometheus_trouble(facts, settings)}")
    return ok(f"version {version}")


_COMPARE = (
    "compare the monitor's selector or the annotation, and its port, with the Service and its endpoints: "
    "kubectl get endpointslices --all-namespaces"
)


@link(
    "every monitor or scrape job has targets, and every target is up",
    {
        "job_without_target": Cause("Prometheus has a scrape job that finds nothing to scrape.", _COMPARE),
        "annotated_without_target": Cause(
            "A Service or pod asks by annotation to be scraped, and no port of it is that of the annotation.", _COMPARE
        ),
        "target_down": DOWN,
        "scraped_twice": TWICE,
    },
    components=("prometheus",),
)
def prometheus_targets(facts: Watched, settings: Settings) -> Finding:
    """Check that every scrape job has a target, and every target is up. Link ``target`` examines those of apps."""
    everything = targets(facts, settings)
    others = [entry for entry in everything if entry["scrapePool"] not in settings.pools]
    standalone = settings.flavor == "standalone"
    if idle := (idle_jobs if standalone else idle_monitors)(facts, settings, others):
        return broken("job_without_target", "; ".join(idle))
    if standalone and (annotated := without_target(facts, everything)):
        return broken("annotated_without_target", "; ".join(annotated))
    down = [entry for entry in others if entry["health"] != "up"]
    if down:
        labels = down[0].get("labels") or {}
        evidence = [
            f"{entry['scrapePool']} {entry['scrapeUrl']} is {entry['health']}: "
            f"{entry.get('lastError') or 'not scraped yet'}"
            for entry in down
        ]
        namespace, pod = labels.get("namespace", "NAMESPACE"), target_pod(down[0]) or "POD"
        return broken("target_down", "; ".join(evidence), namespace=namespace, pod=pod)
    # An operator's monitors may scrape one address on purpose, each with a part of its series.
    if standalone and (twice := scraped_twice(everything)):
        return broken("scraped_twice", "; ".join(twice), app="APP")
    return ok(f"{len(others)} targets up in {len({entry['scrapePool'] for entry in others})} pools")


def idle_monitors(facts: Watched, settings: Settings, active: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the endpoints of ServiceMonitors and PodMonitors without a target, in words."""
    known = {entry["scrapePool"] for entry in active} | settings.pools
    idle = []
    for kind, (prefix, field) in MONITORS.items():
        for monitor in facts.items(f"/apis/monitoring.coreos.com/v1/{kind.lower()}s"):
            for number, endpoint in enumerate(monitor["spec"].get(field) or []):
                if f"{prefix}/{key(monitor)}/{number}" not in known:
                    port = endpoint.get("port") or endpoint.get("targetPort") or endpoint.get("portNumber")
                    idle.append(f"{kind} {key(monitor)} has no target at port {port}")
    return idle


def idle_jobs(facts: Watched, settings: Settings, active: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the scrape jobs without a target, in words. Nothing needs to be annotated."""
    path = service_path(settings.service, "/api/v1/scrape_pools")
    jobs = set(prometheus_data(facts.raw(path), "its jobs")["scrapePools"])
    jobs -= {entry["scrapePool"] for entry in active} | settings.pools | {ANNOTATED_SERVICES, ANNOTATED_PODS}
    return [f"job {job} has no target" for job in sorted(jobs)]


def without_target(facts: Watched, active: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the annotated Services and Ready pods that have no target, in words."""
    lacking = []
    for kind, path in (("service", "/api/v1/services"), ("pod", PODS)):
        scraped = {f"{entry['labels'].get('namespace')}/{entry['labels'].get(kind)}" for entry in active}
        for item in facts.items(path):
            wanted = (item["metadata"].get("annotations") or {}).get("prometheus.io/scrape") == "true"
            if wanted and key(item) not in scraped and (kind == "service" or holds(item, "Ready")):
                lacking.append(f"{kind} {key(item)} is annotated, and has no target")
    return lacking


@link(
    "Prometheus knows Alertmanager, and it is ready",
    {
        "alertmanager_unknown": Cause(
            "Prometheus computes alerts and sends them to nobody.", "run site.yml with --tags prometheus,alertmanager"
        ),
        "alertmanager_not_ready": Cause(
            "Prometheus computes alerts, and nobody gets them.",
            "kubectl --namespace monitoring get statefulsets,pods; then logs of the pod of Alertmanager",
        ),
    },
    components=("prometheus", "alertmanager"),
)
def alertmanager(facts: Watched, settings: Settings) -> Finding:
    """Check that Prometheus sends to an Alertmanager, and that it is ready."""
    path = service_path(settings.service, "/api/v1/alertmanagers")
    active = prometheus_data(facts.raw(path), "its Alertmanagers")["activeAlertmanagers"]
    if not active:
        return broken("alertmanager_unknown", "Prometheus knows no Alertmanager")
    status = facts.raw(service_path(ALERTMANAGER, "/api/v2/status"))
    state, version = status["cluster"]["status"], status["versionInfo"]["version"]
    if state not in ("ready", "disabled"):
        return broken("alertmanager_not_ready", f"it is {state}")
    return ok(f"version {version}, {len(active)} known")


_LOGS = "kubectl --namespace monitoring logs deployment/grafana --tail=50"


@link(
    "Grafana is healthy and has its dashboards",
    {
        "grafana_unhealthy": Cause("Grafana cannot use its database.", _LOGS),
        "dashboards_missing": Cause("Grafana runs without a dashboard.", _LOGS + "; run site.yml with --tags grafana"),
    },
    components=("grafana",),
)
def grafana(facts: Watched, _settings: Settings) -> Finding:
    """Check Grafana's own health, and its dashboards: as it lists them, or, behind its login, as they are mounted."""
    health = facts.raw(service_path(GRAFANA, "/api/health"))
    if health.get("database") != "ok":
        return broken("grafana_unhealthy", f"/api/health says {health}")
    try:
        count = len(facts.raw(service_path(GRAFANA, "/api/search", {"type": "dash-db"})))
    except ApiError as error:
        if error.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise
        namespace, _unused, name = GRAFANA.partition(":")[0].partition("/")
        pod = facts.raw(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")["spec"]["template"]["spec"]
        mounted = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])]
        count = sum("configMap" in source for source in mounted)
    if not count:
        return broken("dashboards_missing", "it has no dashboards")
    return ok(f"version {health.get('version')}, {count} dashboards")
