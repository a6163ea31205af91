# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Proxies on the way to an API server, chosen as kubectl does (Go's golang.org/x/net/http/httpproxy).

Python's own rules differ: they know no CIDR ranges, and no ports.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3

from ..common.errors import FleetError

SCHEMES = ("http", "https", "socks5", "socks5h")
_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*):(?P<port>[^:\[\]]*)")


class ProxyError(FleetError):
    """A proxy cannot be used; the message names the setting that chose it."""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the setting that chose it. The text of a proxy contains no password."""

    url: SplitResult
    setting: str

    def __str__(self) -> str:
        port = f":{self.url.port}" if self.url.port else ""
        return f"{self.url.scheme}://{self.url.hostname}{port} ({self.setting})"

    def pool(self, options: Mapping[str, Any]) -> urllib3.PoolManager:
        """Return a connection pool through this proxy. Raise ProxyError if a Python package for it is missing."""
        user, password = (unquote(part or "") for part in (self.url.username, self.url.password))
        if self.url.scheme in ("http", "https"):
            headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
            return urllib3.ProxyManager(self._address(self.url.scheme), proxy_headers=headers, **options)
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError:
            raise ProxyError(
                f"{self}: SOCKS proxies need the Python package PySocks on the controller: pip install PySocks"
            ) from None
        # As in kubectl, the proxy resolves the names.
        address = self._address("socks5h")
        return SOCKSProxyManager(address, username=user or None, password=password or None, **options)

    def _address(self, scheme: str) -> str:
        return f"{scheme}://{self.url.netloc.rpartition('@')[2]}"


def proxy_of(server: str, proxy_url: object, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy to an API server, or None for a direct connection.

    Args:
        server: URL of the API server.
        proxy_url: The field `proxy-url` of the kubeconfig's cluster; it wins over the environment, NO_PROXY included.
        environment: Environment variables.

    Raises:
        ProxyError: The URL of the proxy is wrong.
    """
    if proxy_url:
        url = _parsed(str(proxy_url))
        if url is None or url.scheme not in SCHEMES:
            raise ProxyError(
                f"its proxy-url must be a URL such as http://proxy.example:3128 with one of {', '.join(SCHEMES)}"
            )
        return Proxy(url, "proxy-url of the kubeconfig")
    target = urlsplit(server)
    name = f"{target.scheme}_proxy".upper()
    setting = next((known for known in (name, name.lower()) if environment.get(known)), "")
    if not setting or is_exempt(no_proxy(environment), target.hostname or "", target.port or _default_port(target)):
        return None
    text = environment[setting]
    url = _parsed(text) or _parsed(f"http://{text}")
    if url is None or url.scheme not in SCHEMES:
        raise ProxyError(f"environment variable {setting}: must be a URL with one of {', '.join(SCHEMES)}")
    return Proxy(url, f"environment variable {setting}")


def no_proxy(environment: Mapping[str, str]) -> str:
    """Return the value of NO_PROXY, or of no_proxy without it."""
    return environment.get("NO_PROXY") or environment.get("no_proxy") or ""


def is_exempt(exceptions: str, host: str, port: int) -> bool:
    """Return whether connections to a host (name or IP address) are direct. ``exceptions`` is the text of NO_PROXY."""
    host = host.strip().lower()
    address = _address(host)
    if host == "localhost" or (address and address.is_loopback):
        return True
    return any(_matches(entry, host, address, port) for entry in _entries(exceptions))


def is_exempt_network(exceptions: str, network: str) -> bool:
    """Return whether connections to all addresses of a network are direct."""
    wanted = ipaddress.ip_network(network, strict=False)
    ranges = [_network(entry) for entry in _entries(exceptions)]
    return "*" in _entries(exceptions) or any(
        known is not None and known.version == wanted.version and wanted.subnet_of(known)  # type: ignore[arg-type]
        for known in ranges
    )


def _entries(exceptions: str) -> list[str]:
    return [entry for part in exceptions.split(",") if (entry := part.strip().lower())]


def _matches(entry: str, host: str, address: Any, port: int) -> bool:  # noqa: ANN401
    """Return whether an entry of NO_PROXY is for a host."""
    if entry == "*":
        return True
    network = _network(entry) if "/" in entry else None
    if network is not None:
        return address is not None and address in network
    split = _PORT.fullmatch(entry)
    name, its_port = (split["host"].strip("[]"), split["port"]) if split else (entry, "")
    if not name or (its_port and its_port != str(port)):
        return False
    own = _address(name)
    if own is not None:
        return bool(own == address)
    name = name.removeprefix("*")
    # "example.com" is for the name itself, too; ".example.com" for names below it only.
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _parsed(text: str) -> SplitResult | None:
    """Return a URL, or None if it has no scheme, no host or a wrong port."""
    try:
        url = urlsplit(text)
        _unused = url.port
    except ValueError:
        return None
    return url if url.scheme and url.hostname else None


def _default_port(url: SplitResult) -> int:
    return 443 if url.scheme == "https" else 80
