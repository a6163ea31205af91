# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The certificates of an own authority: what each may be used for."""

from __future__ import annotations

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import signing
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

NAMES = ["adapter.metrics.svc", "adapter.metrics.svc.cluster.local"]
Made = tuple[x509.Certificate, x509.Certificate]


@pytest.fixture(scope="module")
def made() -> Made:
    """A certificate and that of its CA."""
    texts = signing.signed_by_own_authority(signing.new_key(), NAMES, 90)
    leaf, authority = (x509.load_pem_x509_certificate(text.encode()) for text in texts)
    return leaf, authority


def usages(certificate: x509.Certificate) -> set[str]:
    """Return the names of the critical key usages."""
    extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert extension.critical
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return {name for name in (*names, "key_cert_sign", "crl_sign") if getattr(extension.value, name)}


def test_the_authority_signs_certificates_of_servers_and_nothing_else(made: Made) -> None:
    constraints = made[1].extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usages(made[1]) == {"key_cert_sign"}


def test_the_servers_certificate_is_no_authority(made: Made) -> None:
    constraints = made[0].extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca is False
    assert usages(made[0]) == {"digital_signature", "key_encipherment"}
    extended = made[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_keys_are_long_enough_and_the_signature_is_the_authoritys(made: Made) -> None:
    for certificate in made:
        assert certificate.public_key().key_size >= 2048  # type: ignore[union-attr]
        assert isinstance(certificate.signature_hash_algorithm, signing.hashes.SHA256)
    made[0].verify_directly_issued_by(made[1])
