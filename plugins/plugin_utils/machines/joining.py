# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Create bootstrap tokens, write kubeconfigs, and approve kubelets' certificates. Runs on the controller."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import secrets
import string
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ...module_utils.node import admin_certificate, certificate_digest
from ..common.errors import FleetError
from ..kube.client import Api, ApiError

TOKEN_MINUTES = 15
TOKEN_LETTERS = string.ascii_lowercase + string.digits
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
SERVING_USAGES = ({"digital signature", "server auth"}, {"digital signature", "key encipherment", "server auth"})
CSR_API = "certificates.k8s.io/v1"


class JoinError(FleetError):
    """A machine cannot join. The message contains the cause and the remedy."""


class LateError(JoinError):
    """A kubelet did not get a serving certificate in time. Logs on its machine may show the cause."""


# -- kubeconfig ----------------------------------------------------------------------------------------------------


def home_kubeconfig(admin: str, cluster: str, server: str) -> str:
    """Return kubeadm's admin.conf with the cluster's name and the API's address ``server``, a URL."""
    content = yaml.safe_load(admin)
    user = f"{cluster}-admin"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {**content["clusters"][0]["cluster"], "server": server}}],
            "users": [{"name": user, "user": content["users"][0]["user"]}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
            "current-context": cluster,
        },
        sort_keys=False,
    )


def is_home(path: Path, admin_digest: str, server: str) -> bool:
    """Return whether the kubeconfig at ``path`` has the machine's administrator certificate and the API's address."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        same_server = content["clusters"][0]["cluster"]["server"] == server
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError, IndexError):
        return False
    private = path.stat().st_mode & 0o777 == 0o600
    return private and same_server and certificate_digest(admin_certificate(text)) == admin_digest


# -- joining -------------------------------------------------------------------------------------------------------


def ca_hash(kubeconfig: Mapping[str, Any]) -> str:
    """Return kubeadm's hash of the cluster CA's public key."""
    data = base64.b64decode(kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"])
    key = x509.load_pem_x509_certificate(data).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def endpoint(kubeconfig: Mapping[str, Any]) -> str:
    """Return host and port of the API in a kubeconfig."""
    return urlsplit(kubeconfig["clusters"][0]["cluster"]["server"]).netloc


class JoinToken:
    """Bootstrap token that exists inside a ``with`` block. It expires after TOKEN_MINUTES if the run is killed."""

    def __init__(self, api: Api, machine: str, now: Callable[[], datetime.datetime] | None = None) -> None:
        self.api = api
        self.machine = machine
        self.now = now or (lambda: datetime.datetime.now(datetime.UTC))
        self.identifier, self.secret = ("".join(secrets.choice(TOKEN_LETTERS) for _unused in range(n)) for n in (6, 16))

    def __enter__(self) -> str:
        ends = self.now() + datetime.timedelta(minutes=TOKEN_MINUTES)
        values = {
            "token-id": self.identifier,
            "token-secret": self.secret,
            "expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            "description": f"kubescale.fleet joins {self.machine}",
        }
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": f"bootstrap-token-{self.identifier}", "namespace": "kube-system"},
            "stringData": values,
        }
        self.api.request("POST", "/api/v1/namespaces/kube-system/secrets", body=body)
        self._wait_signed()
        return f"{self.identifier}.{self.secret}"

    def _wait_signed(self) -> None:
        """Wait until the controllers have signed cluster-info with the token. Joining machines verify that."""
        signature = f"jws-kubeconfig-{self.identifier}"
        for event in self.api.watch(
            "v1", "ConfigMap", "kube-public", field_selector="metadata.name=cluster-info", timeout=60
        ):
            if signature in event.object.get("data", {}):
                return
        raise JoinError(
            "The cluster's controllers have not signed kube-public/cluster-info for a new bootstrap token within 60 s. "
            "Is kube-controller-manager running? kubectl --namespace kube-system get pods"
        )

    def __exit__(self, *_unused: object) -> None:
        self.api.delete("v1", "Secret", f"bootstrap-token-{self.identifier}", "kube-system")


def missing_settings(wanted: object, live: object, path: str = "") -> dict[str, tuple[object, object]]:
    """Return each leaf of ``wanted`` that differs from ``live``, as path → (live, wanted).

    A field that only ``live`` has is a default, not a difference.
    """
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        missing: dict[str, tuple[object, object]] = {}
        for key, value in wanted.items():
            missing |= missing_settings(value, live.get(key), f"{path}.{key}" if path else key)
        return missing
    return {} if wanted == live or (not wanted and not live) else {path: (live, wanted)}


# -- kubelet certificates ------------------------------------------------------------------------------------------


def refusal(csr: Mapping[str, Any], machine: str, addresses: Collection[str]) -> str:
    """Return why a kubelet's request for a serving certificate must not be approved, or "" if it may be.

    The node itself must have made the request, for its own name and addresses only.
    """
    spec = csr["spec"]
    if spec["username"] != f"system:node:{machine}" or "system:nodes" not in spec.get("groups", []):
        return f"it was made by {spec['username']}, not by the node {machine}"
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
    foreign = [str(name.value) for name in names if name.value not in allowed]
    return f"it asks for {', '.join(foreign)}, which are not names or addresses of {machine}" if foreign else ""


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
        if why := refusal(csr, self.machine, self.addresses):
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
