# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The pod templates of apps: ports that Prometheus scrapes, and requests that autoscalers need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...apps.model import Metric
from ...common.text import shorten
from ..facts import AUTOSCALERS, Watched
from ..link import Cause, Finding, broken, link, ok, skipped
from ..settings import PLURALS, Case, Settings


@link(
    "its containers have what is asked of them: the port that is scraped, the CPU request that is scaled on",
    {
        "port_name_unknown": Cause(
            "No container has a port of the name that Prometheus must scrape.",
            "set `scrape.port` of entry {app} in autoscaled_apps to a name or number that the containers have, "
            "or name the port in the workload; then site.yml with --tags hpa",
        ),
        "container_unknown": Cause(
            "The pods have no container of the name whose usage is the metric.",
            "correct `container` of entry {app} in autoscaled_apps; then site.yml with --tags hpa",
        ),
        "request_missing": Cause(
            "The target is a percentage of the container's request, and the container requests nothing.",
            "set resources.requests.{resource} of container {container}, or aim at a quantity instead of a percentage",
        ),
    },
)
def pods(facts: Watched, case: Case) -> Finding:
    """Check that containers have the port that is scraped, and request what a percentage refers to."""
    template = facts.raw(case.workload_path)["spec"]["template"]["spec"]
    good = []
    for metric in case.metrics_of("resource", "container_resource"):
        if problem := resource_trouble(template, metric):
            return problem
        if metric.target_type == "utilization":
            good.append(f"{metric.resource} is requested")
    scrape = case.app.scrape
    if scrape and case.is_scraped and not scrape.service:
        ports = [(entry["name"], port) for entry in containers(template) for port in entry.get("ports") or []]
        if isinstance(scrape.port, str) and scrape.port not in [port.get("name") for _unused, port in ports]:
            evidence = f"no container has a port named {scrape.port}; there are {describe_ports(ports)}"
            return broken("port_name_unknown", evidence)
        good.append(f"port {scrape.port}")
    return ok(", ".join(good)) if good else skipped("nothing is asked of the containers")


def describe_ports(ports: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return ports in words, each given with its container's name."""
    texts = [f"{port.get('name', 'unnamed')} ({port['containerPort']}) of {name}" for name, port in ports]
    return ", ".join(texts) or "none"


def resource_trouble(template: Mapping[str, Any], metric: Metric) -> Finding | None:
    """Return the finding if the pod template lacks something for a metric of CPU or memory."""
    names = [entry["name"] for entry in containers(template)]
    if metric.container and metric.container not in names:
        return broken("container_unknown", f"there is no container {metric.container}; there are {shorten(names)}")
    if metric.target_type != "utilization":
        return None
    lacking = lacking_request(template, metric.resource, metric.container)
    if not lacking:
        return None
    evidence = f"{shorten(lacking)} requests no {metric.resource}, and the target is a percentage of it"
    return broken("request_missing", evidence, resource=metric.resource, container=lacking[0])


def containers(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the containers that run as long as the pod does, sidecars included."""
    beside = [entry for entry in template.get("initContainers") or [] if entry.get("restartPolicy") == "Always"]
    return [*beside, *template["containers"]]


def lacking_request(template: Mapping[str, Any], resource: str, only: str = "") -> list[str]:
    """Return the containers (``only`` one, if named) that request none of a resource; a limit is a request, too."""

    def asks(item: Mapping[str, Any]) -> bool:
        return any(resource in ((item.get("resources") or {}).get(part) or {}) for part in ("requests", "limits"))

    if not only and asks(template):
        return []
    return [entry["name"] for entry in containers(template) if only in ("", entry["name"]) and not asks(entry)]


# Advisory, because the autoscalers may be somebody else's.
@link(
    "what is scaled on CPU or memory requests it",
    {
        "target_without_request": Cause(
            "An autoscaler aims at a percentage of what containers request, and they request nothing.",
            "set resources.requests of the containers named",
        ),
    },
    advisory=True,
)
def requests(facts: Watched, _settings: Settings) -> Finding:
    """Check that every workload of which any autoscaler wants a percentage of CPU or memory requests it."""
    lacking, count = [], 0
    for item in facts.items(AUTOSCALERS):
        aim, namespace = item["spec"]["scaleTargetRef"], item["metadata"]["namespace"]
        for metric in item["spec"].get("metrics") or []:
            part = metric.get("resource") or metric.get("containerResource") or {}
            if part.get("target", {}).get("type") != "Utilization" or aim["kind"] not in PLURALS:
                continue
            count += 1
            workload = facts.optional(f"/apis/apps/v1/namespaces/{namespace}/{PLURALS[aim['kind']]}/{aim['name']}")
            template = workload["spec"]["template"]["spec"] if workload else {"containers": []}
            if names := lacking_request(template, part["name"], part.get("container", "")):
                lacking.append(f"{namespace}/{aim['name']}: {shorten(names)} ({part['name']})")
    if lacking:
        return broken("target_without_request", "; ".join(lacking))
    return ok(f"{count} autoscalers aim at a percentage")
