# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Judging a serving certificate."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.certificates import (
    CertificateProblem,
    check_secret,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ["adapter.custom-metrics.svc", "adapter.custom-metrics.svc.cluster.local"]
CA_KEY, OTHER_KEY, KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def certificate(
    signer: Any = CA_KEY, names: list[str] | None = None, days: float = 90, usage: Any = ExtendedKeyUsageOID.SERVER_AUTH
) -> str:
    """PEM of a certificate for KEY; of the CA itself if `usage` is None."""
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]) if usage else issuer
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(KEY.public_key() if usage else signer.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names != []:
            sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names or NAMES])
            builder = builder.add_extension(sans, critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: Any = KEY) -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return str(key.private_bytes(*form).decode())


def secret(**data: str) -> dict[str, Any]:
    return {"data": {name.replace("_", "."): base64.b64encode(text.encode()).decode() for name, text in data.items()}}


CA = certificate(usage=None)


def test_a_good_certificate() -> None:
    found = check_secret(secret(tls_crt=certificate(), tls_key=key_pem()), NAMES[::-1], CA, 30)
    assert found.private_key == key_pem()
    assert found.authority == CA
    assert found.not_after > datetime.datetime.now(datetime.UTC)
    assert check_secret(secret(tls_crt=certificate(), tls_key=key_pem(), ca_crt=CA), NAMES, None, 30).authority == CA


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "it does not exist"),
        ({}, "it has no tls.crt"),
        (secret(tls_crt=certificate()), "it has no tls.key"),
        ({"data": {"tls.crt": "%", "tls.key": "%"}}, "its tls.crt is not PEM text"),
        (secret(tls_crt="x", tls_key=key_pem()), "tls.crt is not a certificate"),
        (secret(tls_crt=certificate(), tls_key="x"), "tls.key is not a private key"),
        (secret(tls_crt=certificate(), tls_key=key_pem(OTHER_KEY)), "tls.key is not the key of tls.crt"),
        (secret(tls_crt=certificate(names=["a"]), tls_key=key_pem()), f"is for a, it must be for {', '.join(NAMES)}"),
        (secret(tls_crt=certificate(names=[*NAMES, "kubernetes"]), tls_key=key_pem()), "it is for adapter"),
        (secret(tls_crt=certificate(names=[]), tls_key=key_pem()), "it is for no name"),
        (
            secret(tls_crt=certificate(usage=ExtendedKeyUsageOID.CLIENT_AUTH), tls_key=key_pem()),
            "its extended key usage lacks serverAuth",
        ),
        (secret(tls_crt=certificate(OTHER_KEY), tls_key=key_pem()), "it is not signed by the CA CN=ca"),
        (secret(tls_crt=certificate(days=29), tls_key=key_pem()), "it expires in 28 days"),
        (secret(tls_crt=certificate(days=-1), tls_key=key_pem()), "it is expired"),
    ],
)
def test_reasons(found: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(CertificateProblem) as caught:
        check_secret(found, NAMES, CA, 30)
    assert words in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)
