# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Create bootstrap tokens and write kubeconfigs. Runs on the controller."""

from __future__ import annotations

import base64
import datetime
import hashlib
import secrets
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ...module_utils.node import admin_certificate, certificate_digest
from ..common.errors import FleetError
from ..kube.client import Api

TOKEN_MINUTES = 15
TOKEN_LETTERS = string.ascii_lowercase + string.digits


class JoinError(FleetError):
    """A machine cannot join. The message contains the cause and the remedy."""


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
