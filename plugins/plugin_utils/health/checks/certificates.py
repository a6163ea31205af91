# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The end of every certificate that can be seen, and kubelets that wait for theirs."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509

from ...kube.client import ApiError
from ...kube.objects import condition, explain, holds, service_selector
from ...kube.prometheus import PrometheusError, prometheus_query
from ..facts import REQUESTS, Watched, is_ours
from ..link import Cause, Finding, broken, link, ok, unknown
from ..settings import Settings
from .apis import ROLES, registrations
from .serving import serving_certificates


@link(
    "certificates are approved, and valid for long enough",
    {
        "certificate_ending": Cause("A certificate ends soon.", "{renewal}"),
        "kubelet_certificate_waiting": Cause(
            "A kubelet waits for its serving certificate: metrics-server cannot verify it, logs and exec fail.",
            "kubectl get csr; run site.yml with --tags control_plane,worker (for a kind cluster: playbooks/kind.yml), "
            "which approves requests for own names and addresses",
        ),
    },
)
def certificates(facts: Watched, settings: Settings) -> Finding:
    """Check the end of the certificates of the API server, of kubelets and of the metrics APIs' servers."""
    if waiting := waiting_requests(facts):
        return broken("kubelet_certificate_waiting", "; ".join(waiting))
    ends = [*serving_ends(facts, settings)]
    if served := settings.seen.server_certificate():
        end = x509.load_pem_x509_certificate(served.encode()).not_valid_after_utc
        ends.append(
            (end, "the API server's own", "on the control plane: kubeadm certs renew apiserver, then restart it")
        )
    for node, seconds in kubelet_lifetimes(facts, settings).items():
        end = settings.now + datetime.timedelta(seconds=seconds)
        ends.append((end, f"the kubelet's on {node}", "kubectl get csr; on the machine: systemctl restart kubelet"))
    if not ends:
        return unknown("no certificate can be read")
    end, name, renewal = min(ends)
    left = (end - settings.now).days
    evidence = f"{name} ends first, on {end:%Y-%m-%d} ({left} days)"
    if left < settings.certificate_days:
        return broken("certificate_ending", evidence, renewal=renewal)
    return ok(f"{evidence}, of {len(set(ends))}")


def waiting_requests(facts: Watched) -> list[str]:
    """Return the kubelets whose newest request for a serving certificate was not signed, with the reason.

    Older requests of the same kubelet are left-overs.
    """
    newest: dict[str, dict[str, Any]] = {}
    for request in facts.items(REQUESTS):
        if request["spec"].get("signerName") != "kubernetes.io/kubelet-serving":
            continue
        user = request["spec"].get("username", "")
        held = newest.get(user)
        if held is None or request["metadata"]["creationTimestamp"] >= held["metadata"]["creationTimestamp"]:
            newest[user] = request
    waiting = []
    for user, request in sorted(newest.items()):
        name = request["metadata"]["name"]
        if refused := [kind for kind in ("Denied", "Failed") if holds(request, kind)]:
            waiting.append(f"{user}: {name} {refused[0].lower()} ({explain(condition(request, refused[0]))})")
        elif not request.get("status", {}).get("certificate"):
            state = "approved but not signed" if holds(request, "Approved") else "waits for approval"
            waiting.append(f"{user}: {name} {state}")
    return waiting


def serving_ends(facts: Watched, settings: Settings) -> list[tuple[datetime.datetime, str, str]]:
    """Return end, name and renewal of the certificates of our servers of the metrics APIs."""
    ends = []
    for group, role in ROLES.items():
        renewal = f"run site.yml with --tags {settings.owners.get(group) or role}, which makes a new one"
        for item in registrations(facts, group):
            target = item["spec"].get("service") or {}
            path = f"/api/v1/namespaces/{target.get('namespace')}/services/{target.get('name')}"
            service = facts.optional(path) if is_ours(item) else None
            if service:
                found = serving_certificates(facts, facts.pods(target["namespace"], service_selector(service)))
                ends += [
                    (certificate.not_valid_after_utc, f"Secret {secret}", renewal)
                    for secret, certificate in found.items()
                    if certificate
                ]
    return ends


def kubelet_lifetimes(facts: Watched, settings: Settings) -> dict[str, float]:
    """Return the seconds that each kubelet's serving certificate is still valid, as far as Prometheus knows."""
    query = "min by (node, instance) (kubelet_certificate_manager_server_ttl_seconds)"
    try:
        samples = prometheus_query(facts, query, settings.service)
    except (ApiError, PrometheusError):
        return {}  # Link prometheus_ready reports it.
    return {
        sample["metric"].get("node") or sample["metric"].get("instance", "?"): float(sample["value"][1])
        for sample in samples
        if sample["value"][1] not in ("NaN", "+Inf", "-Inf")
    }
