# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Approve the requests of kubelets for their serving certificates. Runs on the controller."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from ..kube.client import Api, ApiError
from .joining import JoinError

SERVING_SIGNER = "kubernetes.io/kubelet-serving"
SERVING_USAGES = ({"digital signature", "server auth"}, {"digital signature", "key encipherment", "server auth"})
CSR_API = "certificates.k8s.io/v1"
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class LateError(JoinError):
    """A kubelet did not get a serving certificate in time. Logs on its machine may show the cause."""


def reserved(api: Api, machine: str) -> dict[Network, str]:
    """Return the addresses that no certificate of a machine may have, and what they are.

    A machine reports its addresses itself, so one that was broken into could report those of the API server.
    """
    nodes = api.list("v1", "Node").items
    known: dict[Network, str] = {}
    for node in nodes:
        name = node["metadata"]["name"]
        for cidr in node["spec"].get("podCIDRs") or []:
            known[ipaddress.ip_network(cidr)] = f"pods on {name}"
        if name != machine:
            for address in _addresses(node):
                known[ipaddress.ip_network(address)] = f"machine {name}"
    for cidr in _service_ranges(api):
        known[ipaddress.ip_network(cidr)] = "services"
    # A control plane serves the API at its own address. No kubelet may set this label on its node.
    control_planes = {
        node["metadata"]["name"] for node in nodes if CONTROL_PLANE_LABEL in (node["metadata"].get("labels") or {})
    }
    server = _ip(urlsplit(api.server).hostname)
    if server and machine not in control_planes:
        known[ipaddress.ip_network(server)] = "the API server"
    return known


def _ip(text: str | None) -> str:
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return ""


def _addresses(node: Mapping[str, Any]) -> list[str]:
    reported = (node.get("status") or {}).get("addresses") or []
    return [address for entry in reported if (address := _ip(entry["address"]))]


def _service_ranges(api: Api) -> list[str]:
    """Return the ranges of services. A cluster before Kubernetes 1.33 tells the address of its API service only."""
    try:
        ranges = api.list("networking.k8s.io/v1", "ServiceCIDR").items
    except ApiError as error:
        if error.status != 404:
            raise
        ranges = []
    service = api.get("v1", "Service", "kubernetes", "default") or {"spec": {}}
    return [*(cidr for item in ranges for cidr in item["spec"]["cidrs"]), *(service["spec"].get("clusterIPs") or [])]


def refusal(
    csr: Mapping[str, Any], machine: str, addresses: Collection[str], foreign: Mapping[Network, str] | None = None
) -> str:
    """Return why a kubelet's request for a serving certificate must not be approved, or "" if it may be.

    The node itself must have made the request, for its own name and addresses only, and for none of ``foreign``.
    """
    spec = csr["spec"]
    if spec["username"] != f"system:node:{machine}" or "system:nodes" not in spec.get("groups", []):
        return f"it was made by {spec['username']}, not by the node {machine}"
    if spec["signerName"] != SERVING_SIGNER:
        return f"it asks the signer {spec['signerName']}"
    if set(spec.get("usages", [])) not in SERVING_USAGES:
        return f"it asks for the usages {', '.join(spec.get('usages', []))}"
    request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    if not request.is_signature_valid:
        return "its signature is not valid"
    subject = {attribute.rfc4514_attribute_name: attribute.value for attribute in request.subject}
    if len(list(request.subject)) != 2 or subject != {"CN": f"system:node:{machine}", "O": "system:nodes"}:
        return f"its subject is {request.subject.rfc4514_string()}"
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "it names no host and no address"
    allowed: set[object] = {machine, *map(ipaddress.ip_address, addresses)}
    if others := [str(name.value) for name in names if name.value not in allowed]:
        return f"it asks for {', '.join(others)}, which are not names or addresses of {machine}"
    for name in names.get_values_for_type(x509.IPAddress):
        for network, owner in (foreign or {}).items():
            if name in network:
                return f"it asks for {name}, an address of {owner}"
    return ""


def condition(csr: Mapping[str, Any]) -> str:
    """Return Approved, Denied, Failed, or "" for a pending request."""
    conditions = csr.get("status", {}).get("conditions") or []
    return conditions[0]["type"] if conditions else ""


class ServingCertificates:
    """Certificate requests of one node for its kubelet."""

    def __init__(self, api: Api, machine: str, addresses: Collection[str]) -> None:
        self.api = api
        self.machine = machine
        self.addresses = addresses

    def pending(self) -> list[dict[str, Any]]:
        """Return the node's pending requests."""
        selector = f"spec.signerName={SERVING_SIGNER}"
        requests = self.api.list(CSR_API, "CertificateSigningRequest", field_selector=selector).items
        return [csr for csr in requests if self.is_ours(csr) and not condition(csr)]

    def forget(self) -> None:
        """Delete the requests of an earlier machine of this name. Otherwise a wait would accept its certificate."""
        for csr in self.api.list(CSR_API, "CertificateSigningRequest").items:
            if self.is_ours(csr):
                self.api.delete(CSR_API, "CertificateSigningRequest", csr["metadata"]["name"])

    def is_ours(self, csr: Mapping[str, Any]) -> bool:
        """Return whether this node made a request."""
        return bool(csr["spec"]["username"] == f"system:node:{self.machine}")

    def approve(self, csr: Mapping[str, Any]) -> None:
        """Approve one request. Raise JoinError if it must not be approved."""
        name = csr["metadata"]["name"]
        if why := refusal(csr, self.machine, self.addresses, reserved(self.api, self.machine)):
            raise JoinError(
                f"CertificateSigningRequest {name} is not approved: {why}. If the machine's addresses have changed, "
                "run the playbook that prepares it again; otherwise somebody else uses its identity: "
                f"kubectl describe csr {name}"
            )
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        approved = {
            "type": "Approved",
            "status": "True",
            "reason": "MatchesMachine",
            "message": "kubescale.fleet: name and addresses are those of the machine.",
            "lastUpdateTime": now,
        }
        body = {**csr, "status": {**csr.get("status", {}), "conditions": [approved]}}
        path = f"/apis/{CSR_API}/certificatesigningrequests/{name}/approval"
        try:
            self.api.request("PUT", path, body=body)
        except ApiError as error:
            if error.status != 409:  # somebody else changed the request; the watch reports its new state
                raise

    def wait_and_approve(self, seconds: float) -> int:
        """Approve the node's requests until one has its certificate. Return the number of approvals.

        Raise LateError after ``seconds``, JoinError if a request must not be approved.
        """
        approvals = 0
        deadline = time.monotonic() + seconds
        selector = f"spec.signerName={SERVING_SIGNER}"
        approved: set[str] = set()
        while (left := deadline - time.monotonic()) > 0:
            for event in self.api.watch(CSR_API, "CertificateSigningRequest", field_selector=selector, timeout=left):
                csr = event.object
                if event.type == "DELETED" or not self.is_ours(csr):
                    continue
                if csr.get("status", {}).get("certificate"):
                    # A certificate for other addresses is older than the machine's current addresses.
                    if refusal(csr, self.machine, self.addresses):
                        continue
                    return approvals
                if not condition(csr) and csr["metadata"]["uid"] not in approved:
                    approved.add(csr["metadata"]["uid"])
                    self.approve(csr)
                    approvals += 1
        raise LateError(self._late(seconds))

    def _late(self, seconds: float) -> str:
        """Return the message for a kubelet without a certificate after ``seconds``, with the state of its request."""
        kind = "CertificateSigningRequest"
        requests = self.api.list(CSR_API, kind, field_selector=f"spec.signerName={SERVING_SIGNER}").items
        mine = [csr for csr in requests if self.is_ours(csr)]
        if not mine:
            return f"The kubelet of {self.machine} has not asked for its serving certificate within {seconds:g} s."
        newest = max(mine, key=lambda csr: str(csr["metadata"].get("creationTimestamp")))
        conditions = "; ".join(
            f"{entry['type']}: {entry.get('message')}" for entry in newest["status"].get("conditions") or []
        )
        text = f"The kubelet of {self.machine} has no serving certificate after {seconds:g} s: {kind} "
        text += f"{newest['metadata']['name']} is {condition(newest) or 'not approved'} ({conditions or '-'})."
        return text + " Does kube-controller-manager run? It signs certificates." * (condition(newest) == "Approved")
