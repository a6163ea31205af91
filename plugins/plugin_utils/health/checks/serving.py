# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Serving certificates of the metrics APIs: where they are, and whether the API server accepts them."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ...common.text import shorten
from ...kube.client import ApiError
from ..facts import Watched
from ..link import Finding, broken


def serving_certificates(facts: Watched, pods: Iterable[Mapping[str, Any]]) -> dict[str, x509.Certificate | None]:
    """Return the certificates in the Secrets that pods mount, by the Secrets' names.

    A Secret without a certificate has None. Secrets that may not be read are left out.
    """
    found: dict[str, x509.Certificate | None] = {}
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
        try:
            found[secret] = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
        except (KeyError, ValueError):
            found[secret] = None
    return found


def judge_certificate(
    certificate: x509.Certificate, registration: Mapping[str, Any], host: str, now: datetime.datetime
) -> Finding | None:
    """Return the finding if the API server rejects a certificate; ``registration`` is the spec of an APIService."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        return broken("certificate_expired", f"valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    if registration.get("insecureSkipTLSVerify"):
        return None
    try:
        bundle = x509.load_pem_x509_certificates(base64.b64decode(registration.get("caBundle") or ""))
    except ValueError:
        return broken("ca_bundle_wrong", "the APIService's caBundle holds no certificate")
    if not any(issued_by(certificate, authority) for authority in bundle):
        issuer = certificate.issuer.rfc4514_string()
        known = " or ".join(authority.subject.rfc4514_string() for authority in bundle)
        return broken("ca_bundle_wrong", f"signed by {issuer}, the APIService's caBundle is another CA ({known})")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        hosts = []
    if host not in hosts:
        return broken("certificate_misnamed", f"names {shorten(hosts) or 'nothing'}, not {host}")
    return None


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether ``authority`` signed ``certificate``."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
