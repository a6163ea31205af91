# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The Service through which Prometheus scrapes an app, if its entry names one."""

from __future__ import annotations

from ...common.text import shorten
from ...kube.objects import selector_text, service_selector, with_query
from ..facts import Watched
from ..link import Cause, Finding, broken, link, ok, skipped
from ..settings import Case

_COMPARE = (
    "compare: kubectl --namespace {namespace} describe service {service}; "
    "kubectl --namespace {namespace} get pods --show-labels"
)


@link(
    "the Service to scrape leads to its pods",
    {
        "service_missing": Cause(
            "The Service that Prometheus must scrape does not exist.",
            "create it, or remove `scrape.service` from entry {app} in autoscaled_apps: Prometheus then scrapes pods",
        ),
        "service_port_unknown": Cause(
            "The Service has no port of that name.",
            "set `scrape.port` of entry {app} in autoscaled_apps to a port of Service {service}",
        ),
        "service_without_endpoints": Cause(
            "The Service's selector matches none of the app's pods, or no container has its target port.",
            _COMPARE,
        ),
        "service_lacks_pods": Cause("The Service leads to only some of the app's ready pods.", _COMPARE),
    },
)
def endpoints(facts: Watched, case: Case) -> Finding:
    """Check that the Service that is scraped has the port and leads to every ready pod."""
    app = case.app
    if not (app.scrape and app.scrape.service and case.is_scraped):
        return skipped("no Service is scraped")
    name, port = app.scrape.service, app.scrape.port
    service = facts.optional(f"/api/v1/namespaces/{app.namespace}/services/{name}")
    if service is None:
        return broken("service_missing", f"there is no Service {name} in namespace {app.namespace}")
    known = {entry.get("name", ""): entry["port"] for entry in service["spec"].get("ports") or []}
    if port not in known and port not in known.values():
        has = ", ".join(f"{held or 'unnamed'} ({number})" for held, number in known.items()) or "none"
        return broken("service_port_unknown", f"Service {name} has no port {port}; it has {has}", service=name)
    path = f"/apis/discovery.k8s.io/v1/namespaces/{app.namespace}/endpointslices"
    led = {
        (entry.get("targetRef") or {}).get("name")
        for part in facts.items(with_query(path, {"labelSelector": f"kubernetes.io/service-name={name}"}))
        if part.get("ports")
        for entry in part.get("endpoints") or []
        if entry.get("conditions", {}).get("ready") is not False
    }
    ready, _young = case.settled(facts)
    missing = [pod for pod in ready if pod not in led]
    if ready and len(missing) == len(ready):
        selector = service_selector(service)
        text = selector_text(selector) if selector else "none"
        evidence = f"Service {name} (selector {text}) leads to none of the {len(ready)} ready pods"
        return broken("service_without_endpoints", evidence, service=name)
    if missing:
        return broken("service_lacks_pods", f"Service {name} does not lead to {shorten(missing)}", service=name)
    return ok(f"Service {name} leads to {len(ready)} pods")
