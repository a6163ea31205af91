# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The aggregated APIs: they are registered, ours where they should be, verified, served and available."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ...applyset.ownership import owner_of
from ...common.text import shorten
from ...kube.objects import condition, explain, holds, service_selector, why_not_ready
from ..facts import APISERVICES, NODES, Watched, is_ours, key
from ..link import Cause, Finding, broken, link, ok, skipped
from ..settings import CUSTOM_API, EXTERNAL_API, RESOURCE_API, Case, Settings
from .serving import judge_certificate, serving_certificates

#: Role whose component serves an API group by default, and versions that it registers.
ROLES = {CUSTOM_API: "prometheus_adapter", EXTERNAL_API: "prometheus_adapter", RESOURCE_API: "metrics_server"}
VERSIONS = {CUSTOM_API: {"v1beta1", "v1beta2"}, EXTERNAL_API: {"v1beta1"}, RESOURCE_API: {"v1beta1"}}
_AGAIN = "run site.yml with --tags {role} again"

CAUSES = {
    "api_not_registered": Cause("No server is registered for the API.", _AGAIN),
    "api_of_others": Cause(
        "The API leads to a server that is not the one of this collection.",
        "decide for one owner: `{role}_state: absent` leaves it to them, `adopt: [{role}]` takes it over",
    ),
    "api_unverified": Cause(
        "Anybody on the network path could answer in the server's place.",
        _AGAIN + ", which registers it with its CA",
    ),
    "server_down": Cause(
        "The API has no running server.",
        "kubectl --namespace {server_namespace} describe pods; site.yml with --tags {role} puts back what was "
        "deleted or scaled",
    ),
    "certificate_missing": Cause("The server's Secret holds no certificate.", _AGAIN + ", which makes a new one"),
    "certificate_expired": Cause(
        "The server's certificate has expired, or is not valid yet.", _AGAIN + ", which makes a new one"
    ),
    "ca_bundle_wrong": Cause("The API server does not trust the CA that signed the server's certificate.", _AGAIN),
    "certificate_misnamed": Cause(
        "The server's certificate does not have the name by which the API server calls it.",
        _AGAIN + ", which makes a new one",
    ),
    "api_unavailable": Cause(
        "The API server cannot use the API, although its server runs: mostly the way from API server to pod.",
        "kubectl describe apiservice {api}; does a NetworkPolicy, firewall or HTTP proxy (NO_PROXY) stand between?",
    ),
    "adapter_asks_elsewhere": Cause(
        "The adapter's Prometheus does not exist.",
        "correct prometheus_adapter_prometheus_url, then site.yml with --tags prometheus_adapter",
    ),
}


@link("the metrics API is served and verified", CAUSES)
def apiservice(facts: Watched, case: Case) -> Finding:
    """Check that the APIs of the app's metrics are registered, ours where they should be, verified and available."""
    findings = [judge_server(facts, group, case.settings) for group in case.groups]
    wrong = next((finding for finding in findings if finding.state == "broken"), None)
    return wrong or ok("; ".join(finding.evidence for finding in findings))


@link("the metrics APIs are served by the components that the variables name, and verified", CAUSES)
def owners(facts: Watched, settings: Settings) -> Finding:
    """Check who serves each of the metrics APIs, and that those that must be served are."""
    texts = []
    for group in (RESOURCE_API, CUSTOM_API, EXTERNAL_API):
        held = registrations(facts, group)
        if group in settings.served:
            finding = judge_server(facts, group, settings)
            if finding.state == "broken":
                return finding
        for item in held:
            if problem := judge_ownership(item, settings.owners.get(group, "")):
                return problem
        if not held:
            texts.append(f"{group}: nobody")
            continue
        whose = "ours" if is_ours(held[0]) else "not ours"
        insecure = any(item["spec"].get("insecureSkipTLSVerify") for item in held)
        texts.append(f"{group}: {place(held[0])} ({whose}, {'not verified' if insecure else 'verified'})")
    return ok("; ".join(texts))


@link(
    "every APIService is available",
    {
        "apiservice_unavailable": Cause(
            "An aggregated API without a server slows every kubectl call and keeps namespaces from being deleted.",
            "kubectl describe apiservice {api}",
        )
    },
)
def apiservices_available(facts: Watched, _settings: Settings) -> Finding:
    """Check that every APIService, local or aggregated, is Available."""
    services = facts.items(APISERVICES)
    bad = {key(item): explain(condition(item, "Available")) for item in services if not holds(item, "Available")}
    if bad:
        evidence = "; ".join(f"{name}: {why}" for name, why in bad.items())
        return broken("apiservice_unavailable", evidence, api=next(iter(bad)))
    return ok(f"{len(services)} APIServices available")


@link(
    "metrics.k8s.io answers for every node and for pods",
    {
        "resource_metrics_missing": Cause(
            "kubectl top and autoscaling on CPU or memory read this API.",
            "look at the logs of its server: kubectl get apiservice v1beta1.metrics.k8s.io; site.yml with "
            "--tags {role}",
        )
    },
)
def resource_metrics(facts: Watched, settings: Settings) -> Finding:
    """Check that metrics.k8s.io has every node, and pods."""
    role = settings.owners.get(RESOURCE_API)
    if not role:
        return skipped(f"{RESOURCE_API} is not ours to serve")
    measured = {item["metadata"]["name"] for item in facts.items(f"/apis/{RESOURCE_API}/v1beta1/nodes")}
    pods = facts.items(f"/apis/{RESOURCE_API}/v1beta1/pods")
    names = [node["metadata"]["name"] for node in facts.items(NODES)]
    bad = [f"no metrics of node {name}" for name in names if name not in measured]
    bad += [] if pods else ["no metrics of any pod"]
    if bad:
        return broken("resource_metrics_missing", "; ".join(bad), role=role)
    return ok(f"{len(measured)} nodes and {len(pods)} pods measured")


# -- one API -----------------------------------------------------------------------------------------------------------


def registrations(facts: Watched, group: str) -> list[dict[str, Any]]:
    """Return the APIServices of a group."""
    return [item for item in facts.items(APISERVICES) if item["spec"].get("group") == group]


def place(registration: Mapping[str, Any]) -> str:
    """Return namespace and name of the Service that an APIService leads to."""
    service = registration["spec"].get("service") or {}
    return f"{service['namespace']}/{service['name']}" if service else "the API server itself"


def judge_server(facts: Watched, group: str, settings: Settings) -> Finding:
    """Check the server of an API group: that of the role that must serve it, or anybody's."""
    owner = settings.owners.get(group, "")
    role = owner or ROLES[group]
    held = registrations(facts, group)
    if not held:
        return broken("api_not_registered", f"there is no APIService of {group}", role=role)
    if owner and (lacking := VERSIONS[group] - {item["spec"]["version"] for item in held}):
        return broken("api_not_registered", f"there is no APIService {shorten(lacking)}.{group}", role=role)
    for item in held:
        if problem := judge_ownership(item, owner) or judge_registration(facts, item, role, settings):
            return problem
    if role == "prometheus_adapter" and (wrong := adapters_prometheus(facts, held[0])):
        return broken("adapter_asks_elsewhere", wrong)
    verified = "verified" if not held[0]["spec"].get("insecureSkipTLSVerify") else "not verified"
    return ok(f"{group}: {place(held[0])}, {verified}")


def judge_ownership(item: Mapping[str, Any], owner: str) -> Finding | None:
    """Return the finding if the APIService of a component of ours is not ours or does not verify its server."""
    name = item["metadata"]["name"]
    if not owner:
        return None
    if not is_ours(item):
        return broken("api_of_others", f"{name} leads to {place(item)}; it {owner_of(item)}", role=owner)
    if item["spec"].get("insecureSkipTLSVerify") or not item["spec"].get("caBundle"):
        how = "insecureSkipTLSVerify" if item["spec"].get("insecureSkipTLSVerify") else "no caBundle"
        return broken("api_unverified", f"{name} does not verify {place(item)} ({how})", role=owner)
    return None


def judge_registration(facts: Watched, item: Mapping[str, Any], role: str, settings: Settings) -> Finding | None:
    """Return the finding if an APIService's server is down, its certificate is rejected, or it is not Available."""
    target = item["spec"].get("service")
    if not target:
        return None
    namespace, name = target["namespace"], item["metadata"]["name"]
    given = {"role": role, "server_namespace": namespace, "api": name}
    service = facts.optional(f"/api/v1/namespaces/{namespace}/services/{target['name']}")
    if service is None:
        return broken("server_down", f"{name} leads to Service {place(item)}, which does not exist", **given)
    selector = service_selector(service)
    pods = facts.pods(namespace, selector)
    if selector and not any(holds(pod, "Ready") for pod in pods):
        detail = f"pod {pods[0]['metadata']['name']}: {why_not_ready(pods[0])}" if pods else "it has no pods"
        return broken("server_down", f"Service {place(item)}: {detail}", **given)
    certificates = serving_certificates(facts, pods)
    # Somebody else's server may mount Secrets for other purposes.
    if is_ours(item) and certificates and not any(certificates.values()):
        return broken("certificate_missing", f"{name}, Secret {shorten(certificates)}: no certificate", **given)
    for secret, certificate in certificates.items():
        host = f"{target['name']}.{namespace}.svc"
        if certificate and (wrong := judge_certificate(certificate, item["spec"], host, settings.now)):
            return replace(wrong, evidence=f"{name}, Secret {secret}: {wrong.evidence}", values=given)
    if not holds(item, "Available"):
        return broken("api_unavailable", f"{name}: {explain(condition(item, 'Available'))}", **given)
    return None


def adapters_prometheus(facts: Watched, registration: Mapping[str, Any]) -> str:
    """Return why the Prometheus that the adapter asks cannot answer, if it is a Service; or an empty text."""
    target = registration["spec"]["service"]
    service = facts.raw(f"/api/v1/namespaces/{target['namespace']}/services/{target['name']}")
    for pod in facts.pods(target["namespace"], service_selector(service)):
        arguments = [text for entry in pod["spec"]["containers"] for text in entry.get("args") or []]
        url = next((text.partition("=")[2] for text in arguments if text.startswith("--prometheus-url=")), "")
        named = re.fullmatch(r"([^.]+)\.([^.]+)\.svc(\.cluster\.local\.?)?", urlsplit(url).hostname or "")
        if not named:
            continue
        asked = facts.optional(f"/api/v1/namespaces/{named[2]}/services/{named[1]}")
        if asked is None:
            return f"{url}: there is no Service {named[2]}/{named[1]}"
        ports = [entry["port"] for entry in asked["spec"].get("ports") or []]
        if (urlsplit(url).port or 80) not in ports:
            return f"{url}: Service {named[2]}/{named[1]} has the ports {shorten(ports)}"
        selector = service_selector(asked)
        if selector and not any(holds(entry, "Ready") for entry in facts.pods(named[2], selector)):
            return f"{url}: no ready pod is behind Service {named[2]}/{named[1]}"
    return ""
