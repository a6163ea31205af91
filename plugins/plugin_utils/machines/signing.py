# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Make keys, signing requests and certificates for servers inside a cluster."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY_BITS = 2048
# Certificates are valid from an hour ago, because the API server's clock may be behind the controller's.
BACKDATED = datetime.timedelta(hours=1)
PEM = serialization.Encoding.PEM


def new_key() -> rsa.RSAPrivateKey:
    """Return a new private key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def key_text(key: rsa.RSAPrivateKey) -> str:
    """Return a private key as PEM text, without a password."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def request_text(key: rsa.RSAPrivateKey, names: Sequence[str]) -> str:
    """Return a signing request for a server with these DNS names, as PEM text."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(names[0]))
    for extension, critical in _serving_extensions(names):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM).decode()


def signed_by_own_authority(key: rsa.RSAPrivateKey, names: Sequence[str], days: int) -> tuple[str, str]:
    """Return a certificate for a server with these DNS names, and the certificate of its own CA, as PEM texts.

    The CA's key is not kept, so that nobody can sign anything else with it.
    """
    authority_key, authority_name = new_key(), _name(f"CA of {names[0]}")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign"), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    builder = _builder(_name(names[0]), authority_name, key.public_key(), days)
    for extension, critical in _serving_extensions(names):
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(authority_key, hashes.SHA256())
    return certificate.public_bytes(PEM).decode(), authority.public_bytes(PEM).decode()


def _name(text: str) -> x509.Name:
    # The format allows 64 characters. Clients do not verify this name, only the DNS names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _serving_extensions(names: Sequence[str]) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of a server's certificate, and whether each is critical."""
    return [
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage("digital_signature", "key_encipherment"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]


def _usage(*names: str) -> x509.KeyUsage:
    """Return the key usage that allows only what is named."""
    known = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in names for name in known})


def _builder(name: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )
