# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What the doctor examines of the cluster: who serves the metrics APIs, certificates, clocks, requests."""

from __future__ import annotations

import base64
import datetime
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from ..applyset.ownership import PART_OF_LABEL, labels_of, owner_of
from ..common.text import shorten
from ..kube.client import ApiError
from ..kube.objects import (
    condition,
    explain,
    holds,
    parse_time,
    service_selector,
    why_not_ready,
)
from ..kube.prometheus import PrometheusError, prometheus_query
from .causes import Finding, broken
from .checks import (
    APISERVICES,
    Watched,
    issued_by,
    kubelet_certificates,
)
from .settings import (
    CUSTOM_API,
    EXTERNAL_API,
    PLURALS,
    RESOURCE_API,
    Settings,
    lacking_request,
    optional,
    pods_in,
)

#: Who serves an API group when nobody else does.
ROLES = {CUSTOM_API: "prometheus_adapter", EXTERNAL_API: "prometheus_adapter", RESOURCE_API: "metrics_server"}
#: Days before its end at which a certificate is told of. Runs renew those of the roles 30 days before.
ENDING_DAYS = 14
#: Seconds that the controller's clock may differ from the API server's (as before a node is made), and a node's from
#: Prometheus' (a scrape of a busy node takes a part of that).
CONTROLLER_SKEW, NODE_SKEW = 60.0, 10.0
AUTOSCALERS = "/apis/autoscaling/v2/horizontalpodautoscalers"


@dataclass(frozen=True)
class Seen:
    """What the controller saw of the API server beside its answers; None where it could not be seen."""

    now: datetime.datetime
    server_now: datetime.datetime | None = None
    server_certificate: str | None = None
    #: When that was, by a clock that nobody sets.
    at: float = field(default_factory=time.monotonic)


# -- servers of aggregated APIs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is wrong with the server of an API; ``values`` are for the advice."""

    cause: str
    evidence: str
    values: Mapping[str, Any] = field(default_factory=dict)


def registrations(facts: Watched, group: str) -> list[dict[str, Any]]:
    """APIServices of a group."""
    return [item for item in facts.items(APISERVICES) if item["spec"].get("group") == group]


def place(registration: Mapping[str, Any]) -> str:
    """Namespace and name of the Service that an APIService leads to."""
    service = registration["spec"].get("service") or {}
    return f"{service['namespace']}/{service['name']}" if service else "the API server itself"


def is_ours(item: Mapping[str, Any]) -> bool:
    """Whether a set of this collection applied an object."""
    return PART_OF_LABEL in labels_of(item)


def judge_server(facts: Watched, group: str, owner: str, now: datetime.datetime) -> tuple[Problem | None, str]:
    """The first thing wrong with who serves an API group, or what is well. ``owner``: the role that is to serve it."""
    role = owner or ROLES[group]
    held = registrations(facts, group)
    if not held:
        return Problem("api_not_registered", f"there is no APIService of {group}", {"role": role}), ""
    for item in held:
        if problem := judge_ownership(item, owner) or judge_registration(facts, item, role, now):
            return problem, ""
    if role == "prometheus_adapter" and (wrong := adapters_prometheus(facts, held[0])):
        return Problem("adapter_asks_elsewhere", wrong), ""
    verified = "verified" if not held[0]["spec"].get("insecureSkipTLSVerify") else "not verified"
    return None, f"{group}: {place(held[0])}, {verified}"


def judge_ownership(item: Mapping[str, Any], owner: str) -> Problem | None:
    """Whether the APIService of a component of ours is ours and verifies its server."""
    name = item["metadata"]["name"]
    if not owner:
        return None
    if not is_ours(item):
        return Problem("api_of_others", f"{name} leads to {place(item)}; it {owner_of(item)}", {"role": owner})
    if item["spec"].get("insecureSkipTLSVerify") or not item["spec"].get("caBundle"):
        how = "insecureSkipTLSVerify" if item["spec"].get("insecureSkipTLSVerify") else "no caBundle"
        return Problem("api_unverified", f"{name} does not verify {place(item)} ({how})", {"role": owner})
    return None


def judge_registration(facts: Watched, item: Mapping[str, Any], role: str, now: datetime.datetime) -> Problem | None:
    """Whether an APIService's server runs, has a certificate that is accepted, and is found Available."""
    target = item["spec"].get("service")
    if not target:
        return None
    namespace, name = target["namespace"], item["metadata"]["name"]
    given = {"role": role, "server_namespace": namespace, "api": name}
    service = optional(facts, f"/api/v1/namespaces/{namespace}/services/{target['name']}")
    if service is None:
        return Problem("server_down", f"{name} leads to Service {place(item)}, which does not exist", given)
    selector = service_selector(service)
    pods = pods_in(facts, namespace, selector)
    if selector and not any(holds(pod, "Ready") for pod in pods):
        detail = f"pod {pods[0]['metadata']['name']}: {why_not_ready(pods[0])}" if pods else "it has no pods"
        return Problem("server_down", f"Service {place(item)}: {detail}", given)
    for secret, certificate in certificates_of(facts, pods):
        host = f"{target['name']}.{namespace}.svc"
        if wrong := judge_certificate(certificate, item["spec"], host, now):
            return Problem(wrong[0], f"{name}, Secret {secret}: {wrong[1]}", given)
    if not holds(item, "Available"):
        return Problem("api_unavailable", f"{name}: {explain(condition(item, 'Available'))}", given)
    return None


def certificates_of(facts: Watched, pods: list[dict[str, Any]]) -> Iterator[tuple[str, x509.Certificate]]:
    """Serving certificates in the Secrets that pods mount, by the Secrets' names, as far as they may be read."""
    for secret in sorted(
        {
            f"{pod['metadata']['namespace']}/{volume['secret']['secretName']}"
            for pod in pods
            for volume in pod["spec"].get("volumes") or []
            if volume.get("secret")
        }
    ):
        namespace, _unused, name = secret.partition("/")
        try:
            data = facts.raw(f"/api/v1/namespaces/{namespace}/secrets/{name}").get("data") or {}
        except ApiError as error:
            if error.status in (403, 404):
                continue
            raise
        if "tls.crt" in data:
            yield secret, x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))


def judge_certificate(
    certificate: x509.Certificate, registration: Mapping[str, Any], host: str, now: datetime.datetime
) -> tuple[str, str] | None:
    """Cause and evidence if the API server does not accept a certificate, as an APIService has it verified."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        return "certificate_expired", f"valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if registration.get("insecureSkipTLSVerify"):
        return None
    try:
        bundle = x509.load_pem_x509_certificates(base64.b64decode(registration.get("caBundle") or ""))
    except ValueError:
        return "ca_bundle_wrong", "the APIService's caBundle holds no certificate"
    if not any(issued_by(certificate, authority) for authority in bundle):
        issuer = certificate.issuer.rfc4514_string()
        known = " or ".join(authority.subject.rfc4514_string() for authority in bundle)
        return "ca_bundle_wrong", f"signed by {issuer}, the APIService's caBundle is another CA ({known})"
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        hosts = []
    if host not in hosts:
        return "certificate_misnamed", f"names {shorten(hosts) or 'nothing'}, not {host}"
    return None


def adapters_prometheus(facts: Watched, registration: Mapping[str, Any]) -> str:
    """What is wrong with the Prometheus that the adapter asks, when that is a Service; nothing if it can answer."""
    target = registration["spec"]["service"]
    service = facts.raw(f"/api/v1/namespaces/{target['namespace']}/services/{target['name']}")
    for pod in pods_in(facts, target["namespace"], service_selector(service)):
        arguments = [text for entry in pod["spec"]["containers"] for text in entry.get("args") or []]
        url = next((text.partition("=")[2] for text in arguments if text.startswith("--prometheus-url=")), "")
        named = re.fullmatch(r"([^.]+)\.([^.]+)\.svc(\.cluster\.local\.?)?", urlsplit(url).hostname or "")
        if not named:
            continue
        asked = optional(facts, f"/api/v1/namespaces/{named[2]}/services/{named[1]}")
        if asked is None:
            return f"{url}: there is no Service {named[2]}/{named[1]}"
        ports = [entry["port"] for entry in asked["spec"].get("ports") or []]
        if (urlsplit(url).port or 80) not in ports:
            return f"{url}: Service {named[2]}/{named[1]} has the ports {shorten(ports)}"
        selector = service_selector(asked)
        if selector and not any(holds(entry, "Ready") for entry in pods_in(facts, named[2], selector)):
            return f"{url}: no ready pod is behind Service {named[2]}/{named[1]}"
    return ""


# -- the cluster -------------------------------------------------------------------------------------------------------

Examination = Callable[[Watched, Settings, Seen], Finding]
EXAMINATIONS: dict[str, Examination] = {}


def examination(function: Examination) -> Examination:
    """Add an examination, in the order of this file."""
    EXAMINATIONS[function.__name__] = function
    return function


@examination
def owners(facts: Watched, settings: Settings, _unused: Seen) -> Finding:
    """Who serves each of the metrics APIs, and whether it is whom the variables name."""
    texts = []
    for group in (RESOURCE_API, CUSTOM_API, EXTERNAL_API):
        held = registrations(facts, group)
        for item in held:
            if problem := judge_ownership(item, settings.owners.get(group, "")):
                return broken(problem.cause, "owners", problem.evidence, problem.values)
        if not held:
            texts.append(f"{group}: nobody")
            continue
        whose = "ours" if is_ours(held[0]) else "not ours"
        insecure = any(item["spec"].get("insecureSkipTLSVerify") for item in held)
        texts.append(f"{group}: {place(held[0])} ({whose}, {'not verified' if insecure else 'verified'})")
    return Finding("owners", "ok", "; ".join(texts))


@examination
def certificates(facts: Watched, settings: Settings, seen: Seen) -> Finding:
    """How long the certificates of the API servers, of kubelets and of the metrics APIs' servers are valid."""
    waiting = kubelet_certificates(facts, {})
    if not waiting.ok:
        return broken("kubelet_certificate_waiting", "certificates", waiting.evidence, {})
    ends: list[tuple[datetime.datetime, str, str]] = []
    for group, role in ROLES.items():
        for item in registrations(facts, group):
            target = item["spec"].get("service") or {}
            service = optional(facts, f"/api/v1/namespaces/{target.get('namespace')}/services/{target.get('name')}")
            if service and is_ours(item):
                pods = pods_in(facts, target["namespace"], service_selector(service))
                for secret, certificate in certificates_of(facts, pods):
                    renewal = f"run site.yml with --tags {settings.owners.get(group) or role}, which makes a new one"
                    ends.append((certificate.not_valid_after_utc, f"Secret {secret}", renewal))
    if seen.server_certificate:
        end = x509.load_pem_x509_certificate(seen.server_certificate.encode()).not_valid_after_utc
        ends.append(
            (end, "the API server's own", "on the control plane: kubeadm certs renew apiserver, then restart it")
        )
    for node, seconds in kubelet_lifetimes(facts, settings).items():
        end = settings.now + datetime.timedelta(seconds=seconds)
        ends.append((end, f"the kubelet's on {node}", "kubectl get csr; on the machine: systemctl restart kubelet"))
    if not ends:
        return Finding("certificates", "unknown", "no certificate could be seen")
    end, name, renewal = min(ends)
    left = (end - settings.now).days
    evidence = f"{name} ends first, on {end:%Y-%m-%d} ({left} days)"
    if left < ENDING_DAYS:
        return broken("certificate_ending", "certificates", evidence, {"renewal": renewal})
    return Finding("certificates", "ok", f"{evidence}, of {len(set(ends))}")


def kubelet_lifetimes(facts: Watched, settings: Settings) -> dict[str, float]:
    """Seconds that each kubelet's serving certificate is still valid, as far as Prometheus knows."""
    query = "min by (node, instance) (kubelet_certificate_manager_server_ttl_seconds)"
    try:
        samples = prometheus_query(facts, query, settings.service)
    except (ApiError, PrometheusError):
        return {}  # that Prometheus does not answer is said elsewhere
    return {
        sample["metric"].get("node") or sample["metric"].get("instance", "?"): float(sample["value"][1])
        for sample in samples
        if sample["value"][1] not in ("NaN", "+Inf", "-Inf")
    }


@examination
def clock(facts: Watched, settings: Settings, seen: Seen) -> Finding:
    """Whether the clocks of controller, API server and nodes agree."""
    if seen.server_now is None:
        return Finding("clock", "unknown", "the API server does not say what time it has")
    ahead = (seen.now - seen.server_now).total_seconds()
    if abs(ahead) > CONTROLLER_SKEW:
        word = "ahead of" if ahead > 0 else "behind"
        evidence = f"this machine is {abs(ahead):.0f} s {word} the API server, allowed are {CONTROLLER_SKEW:.0f} s"
        return broken("controller_clock_off", "clock", evidence, {})
    skews = node_skews(facts, settings, seen)
    worst = max(skews, key=lambda name: abs(skews[name]), default="")
    if worst and abs(skews[worst]) > NODE_SKEW:
        word = "ahead" if skews[worst] > 0 else "behind"
        return broken("node_clock_off", "clock", f"node {worst} is {abs(skews[worst]):.0f} s {word}", {})
    nodes = f"{len(skews)} nodes within {max(map(abs, skews.values())):.1f} s" if skews else "no node's is known"
    return Finding("clock", "ok", f"this machine within {abs(ahead):.0f} s of the API server, {nodes}")


def node_skews(facts: Watched, settings: Settings, seen: Seen) -> dict[str, float]:
    """Seconds that nodes are ahead: by node_exporter as Prometheus scraped it, and by what kubelets wrote last."""
    skews = {}
    # A lease is renewed every 10 s with the node's own time: one from the future comes from a clock that is ahead.
    leases = facts.items("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
    now = (seen.server_now or seen.now) + datetime.timedelta(seconds=time.monotonic() - seen.at)
    for lease in leases:
        if renewed := lease["spec"].get("renewTime"):
            skews[lease["metadata"]["name"]] = max(0.0, (parse_time(renewed) - now).total_seconds())
    try:
        samples = prometheus_query(facts, "node_time_seconds - timestamp(node_time_seconds)", settings.service)
    except (ApiError, PrometheusError):
        return skews  # that Prometheus does not answer is said elsewhere
    for sample in samples:
        name, skew = sample["metric"].get("node") or sample["metric"].get("instance", "?"), float(sample["value"][1])
        if abs(skew) >= abs(skews.get(name, 0.0)):
            skews[name] = skew
    return skews


@examination
def requests(facts: Watched, _unused: Settings, _seen: Seen) -> Finding:
    """Whether everything that any autoscaler scales on a percentage of CPU or memory requests it."""
    lacking, count = [], 0
    for item in facts.items(AUTOSCALERS):
        aim, namespace = item["spec"]["scaleTargetRef"], item["metadata"]["namespace"]
        for metric in item["spec"].get("metrics") or []:
            part = metric.get("resource") or metric.get("containerResource") or {}
            if part.get("target", {}).get("type") != "Utilization" or aim["kind"] not in PLURALS:
                continue
            count += 1
            path = f"/apis/apps/v1/namespaces/{namespace}/{PLURALS[aim['kind']]}/{aim['name']}"
            workload = optional(facts, path)
            template = workload["spec"]["template"]["spec"] if workload else {"containers": []}
            if names := lacking_request(template, part["name"], part.get("container", "")):
                lacking.append(f"{namespace}/{aim['name']}: {shorten(names)} ({part['name']})")
    if lacking:
        return broken("target_without_request", "requests", "; ".join(lacking), {})
    return Finding("requests", "ok", f"{count} autoscalers aim at a percentage")
