# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Check the serving certificate in a Secret of type kubernetes.io/tls."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID


class CertificateProblem(Exception):  # noqa: N818 - a finding, not a failure of ours
    """Why a certificate cannot be served."""


@dataclass(frozen=True)
class ServingCertificate:
    """Certificate, private key and certificate authorities as PEM text, and the end of validity."""

    certificate: str
    private_key: str
    authority: str
    not_after: datetime.datetime


def check_secret(
    secret: Mapping[str, Any] | None, dns_names: Collection[str], authority: str | None, renew_before: int
) -> ServingCertificate:
    """Return the certificate in a Secret. It must be for exactly `dns_names`, for more than `renew_before` days.

    `authority` is the PEM of CAs, and one of them must have signed the certificate. It defaults to ca.crt in the
    Secret. Without any CA, the signature is not checked. Raise CertificateProblem if the certificate cannot be served.
    """
    if secret is None:
        raise CertificateProblem("it does not exist")
    certificate, key = _pem(secret, "tls.crt"), _pem(secret, "tls.key")
    authority = authority or (_pem(secret, "ca.crt") if "ca.crt" in (secret.get("data") or {}) else "")
    try:
        leaf = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise CertificateProblem(f"tls.crt is not a certificate: {error}") from error
    try:
        # Checking that the primes of an RSA key are primes would take 50 ms.
        public = load_pem_private_key(key.encode(), None, unsafe_skip_rsa_key_validation=True).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateProblem("tls.key is not a private key in PEM without a password") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CertificateProblem("tls.key is not the key of tls.crt")
    _check_names(leaf, dns_names)
    _check_usage(leaf)
    if authority:
        _check_signature(leaf, authority)
    left = leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left <= datetime.timedelta(days=renew_before):
        state = "is expired" if left <= datetime.timedelta() else f"expires in {left.days} days"
        raise CertificateProblem(
            f"it {state} ({leaf.not_valid_after_utc:%Y-%m-%d}), renewal is due {renew_before} days before"
        )
    return ServingCertificate(certificate, key, authority, leaf.not_valid_after_utc)


def _pem(secret: Mapping[str, Any], key: str) -> str:
    value = (secret.get("data") or {}).get(key)
    if not value:
        raise CertificateProblem(f"it has no {key}")
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise CertificateProblem(f"its {key} is not PEM text") from error


def _check_names(leaf: x509.Certificate, dns_names: Collection[str]) -> None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    present = {f"{name.value}" for name in names}
    if present != set(dns_names):
        raise CertificateProblem(
            f"it is for {', '.join(sorted(present)) or 'no name'}, it must be for {', '.join(sorted(dns_names))}"
        )


def _check_usage(leaf: x509.Certificate) -> None:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usages = x509.ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise CertificateProblem("its extended key usage lacks serverAuth")


def _check_signature(leaf: x509.Certificate, authority: str) -> None:
    try:
        issuers = x509.load_pem_x509_certificates(authority.encode())
    except ValueError as error:
        raise CertificateProblem(f"the CA is not a certificate: {error}") from error
    if not any(_is_signed_by(leaf, issuer) for issuer in issuers):
        names = " or ".join(issuer.subject.rfc4514_string() for issuer in issuers)
        raise CertificateProblem(f"it is not signed by the CA {names}")


def _is_signed_by(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
