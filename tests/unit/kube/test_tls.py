# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The API client verifies the server's certificate and its name."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import signing

from .api_server import client, served


def authority_data(pem: str) -> dict[str, str]:
    return {"certificate-authority-data": base64.b64encode(pem.encode()).decode()}


@pytest.fixture(params=["localhost", "other.example"])
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A server whose certificate has one name. Yield the name, its CA and its URL."""
    key = signing.new_key()
    certificate, authority = signing.signed_by_own_authority(key, [request.param], 1)
    chain = tmp_path / "chain.pem"
    chain.write_text(certificate + signing.key_text(key))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    with served(tls) as (_server, url):
        yield request.param, authority, url


def is_trusted(folder: Path, url: str, **cluster: Any) -> bool:
    """Return whether the client sends a request."""
    try:
        client(folder, url, **cluster).raw("/version")
    except ApiError as error:
        assert "TLS failed" in str(error)
        return False
    return True


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_only_the_kubeconfigs_authority_and_the_right_name_are_trusted(
    named: tuple[str, str, str], tmp_path: Path
) -> None:
    name, authority, url = named
    _unused, other = signing.signed_by_own_authority(signing.new_key(), [name], 1)
    assert is_trusted(tmp_path, url, **authority_data(authority)) is (name == "localhost")
    assert is_trusted(tmp_path, url, **authority_data(authority), **{"tls-server-name": name})
    assert not is_trusted(tmp_path, url, **authority_data(authority), **{"tls-server-name": "third.example"})
    assert not is_trusted(tmp_path, url, **authority_data(other), **{"tls-server-name": name})
    assert not is_trusted(tmp_path, url)
    assert is_trusted(tmp_path, url, **{"insecure-skip-tls-verify": True})
