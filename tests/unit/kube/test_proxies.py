# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Proxies between controller and API server, and faults of certificates, with real sockets."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import proxies
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError, connect
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.kubeconfig import KubeconfigError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


# The cases of Go's httpproxy tests for NO_PROXY, which kubectl follows.
@pytest.mark.parametrize(
    ("exceptions", "host", "port", "exempt"),
    [
        ("", "example.com", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "127.0.1.9", 443, True),
        ("", "::1", 443, True),
        ("*", "example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "API.Example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        (".example.com", "example.com", 443, False),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("example.com:6443", "example.com", 6443, True),
        ("example.com:6443", "example.com", 443, False),
        (" 10.0.0.0/8 , .corp", "10.9.8.7", 443, True),
        ("10.0.0.0/8", "11.0.0.1", 443, False),
        ("10.0.0.0/8", "api.corp", 443, False),
        ("192.0.2.7", "192.0.2.7", 6443, True),
        ("192.0.2.7:6443", "192.0.2.7", 443, False),
        ("192.0.2", "192.0.2.7", 443, False),
        ("2001:db8::/32", "2001:db8::7", 443, True),
        ("[2001:db8::7]:443", "2001:db8::7", 443, True),
        (":443,", "example.com", 443, False),
    ],
)
def test_no_proxy_is_read_as_kubectl_reads_it(exceptions: str, host: str, port: int, exempt: bool) -> None:
    assert proxies.is_exempt(exceptions, host, port) is exempt


@pytest.mark.parametrize(
    ("exceptions", "network", "exempt"),
    [
        ("10.0.0.0/8", "10.244.0.0/16", True),
        ("10.244.0.0/24", "10.244.0.0/16", False),
        ("*", "10.244.0.0/16", True),
        ("localhost,.svc,fd00::/8", "10.244.0.0/16", False),
    ],
)
def test_networks_without_proxy(exceptions: str, network: str, exempt: bool) -> None:
    assert proxies.is_exempt_network(exceptions, network) is exempt


SERVER = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("proxy_url", "environment", "text"),
    [
        ("", {}, "None"),
        ("", {"HTTP_PROXY": "http://p:1"}, "None"),
        ("", {"ALL_PROXY": "http://p:1"}, "None"),
        ("", {"https_proxy": "http://p:1"}, "http://p:1 (environment variable https_proxy)"),
        (
            "",
            {"HTTPS_PROXY": "http://u:secret@p:1", "https_proxy": "x"},
            "http://p:1 (environment variable HTTPS_PROXY)",
        ),
        ("", {"HTTPS_PROXY": "p:1"}, "http://p:1 (environment variable HTTPS_PROXY)"),
        ("", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com"}, "None"),
        ("", {"HTTPS_PROXY": "http://p:1", "no_proxy": "example.com"}, "None"),
        ("http://q:2", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "http://q:2 (proxy-url of the kubeconfig)"),
        ("socks5://q:2", {}, "socks5://q:2 (proxy-url of the kubeconfig)"),
    ],
)
def test_which_proxy_is_taken(proxy_url: str, environment: dict[str, str], text: str) -> None:
    assert str(proxies.proxy_of(SERVER, proxy_url, environment)) == text


@pytest.mark.parametrize(
    ("proxy_url", "environment", "words"),
    [
        ("ftp://user:secret@p", {}, "http, https, socks5, socks5h"),
        ("p:1", {}, "proxy-url must be a URL"),
        ("http://p:no", {}, "proxy-url must be a URL"),
        ("", {"HTTPS_PROXY": "gopher://user:secret@p"}, "HTTPS_PROXY"),
    ],
)
def test_a_wrong_proxy_is_named_without_its_password(proxy_url: str, environment: dict[str, str], words: str) -> None:
    with pytest.raises(proxies.ProxyError, match=words) as caught:
        proxies.proxy_of(SERVER, proxy_url, environment)
    assert "secret" not in str(caught.value)


def test_socks_without_its_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "urllib3.contrib.socks", None)
    proxy = proxies.proxy_of(SERVER, "socks5://p:1", {})
    assert proxy is not None
    with pytest.raises(proxies.ProxyError, match=r"socks5://p:1 .*: SOCKS proxies need .*pip install PySocks"):
        proxy.pool({})


# -- real connections ----------------------------------------------------------------------------------------------


class Api(BaseHTTPRequestHandler):
    """An API server that has one path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class ConnectProxy(BaseHTTPRequestHandler):
    """A proxy that answers CONNECT: it refuses it, or connects to the one server there is, whatever its name."""

    target: ClassVar[int] = 0
    status: ClassVar[int] = 200
    seen: ClassVar[list[tuple[str, str]]] = []

    def do_CONNECT(self) -> None:
        self.seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
        self.send_response(self.status)
        self.end_headers()
        if self.status == 200:
            pipe(self.connection, self.target)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def pipe(client: socket.socket, port: int) -> None:
    """Hand bytes on in both directions until one side ends."""
    with socket.create_connection(("127.0.0.1", port)) as server:

        def forward(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                pass  # the other side is gone
            finally:
                sink.shutdown(socket.SHUT_WR) if sink.fileno() >= 0 else None

        back = threading.Thread(target=forward, args=(server, client), daemon=True)
        back.start()
        forward(client, server)
        back.join(5)


def certificate(
    valid: tuple[datetime.datetime, datetime.datetime], names: list[x509.GeneralName]
) -> tuple[bytes, bytes]:
    """Return a certificate that signs itself, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
CURRENT = (NOW - DAY, NOW + DAY)


def serve(handler: type[BaseHTTPRequestHandler], tls: tuple[bytes, bytes] | None, folder: Path) -> ThreadingHTTPServer:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        (folder / "crt").write_bytes(tls[0])
        (folder / "key").write_bytes(tls[1])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt", folder / "key")
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        listener.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
    return listener


def kubeconfig(folder: Path, server: str, ca: bytes, **more: Any) -> Path:
    user = more.pop("user", {"token": "t"})
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode(), **more}
    content = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[bytes, str]]:
    """An API server that only the proxy reaches, by a name that no DNS knows. Return its CA and the proxy's address."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    pair = certificate(CURRENT, [x509.DNSName("api.invalid"), HERE])
    api, proxy = serve(Api, pair, tmp_path), serve(ConnectProxy, None, tmp_path)
    ConnectProxy.target, ConnectProxy.status, ConnectProxy.seen = api.server_port, 200, []
    yield pair[0], f"127.0.0.1:{proxy.server_port}"
    for listener in (api, proxy):
        listener.shutdown()
        listener.server_close()


def test_the_api_is_reached_by_the_proxy_of_the_environment(
    behind: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa%3Ass@{behind[1]}")
    assert connect(kubeconfig(tmp_path, "https://api.invalid:6443", behind[0])).raw("/version") == {}
    basic = base64.b64encode(b"user:pa:ss").decode()
    assert ConnectProxy.seen == [("api.invalid:6443", f"Basic {basic}")]


def test_no_proxy_leads_past_the_proxy(
    behind: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{behind[1]}")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,127.0.0.0/8")
    path = kubeconfig(tmp_path, f"https://127.0.0.1:{ConnectProxy.target}", behind[0])
    assert connect(path).raw("/version") == {}
    assert ConnectProxy.seen == []


def test_the_proxy_of_the_kubeconfig_wins(
    behind: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    path = kubeconfig(tmp_path, "https://api.invalid:6443", behind[0], **{"proxy-url": f"http://{behind[1]}"})
    assert connect(path).raw("/version") == {}
    assert [place for place, _unused in ConnectProxy.seen] == ["api.invalid:6443"]


def test_a_proxy_that_refuses_is_named(
    behind: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{behind[1]}")
    ConnectProxy.status = 403
    with pytest.raises(ApiError) as caught:
        connect(kubeconfig(tmp_path, "https://api.invalid:6443", behind[0])).raw("/version")
    said = str(caught.value)
    assert [word for word in (behind[1], "HTTPS_PROXY", "403", "add api.invalid to NO_PROXY") if word not in said] == []
    assert "secret" not in said


def test_a_wrong_proxy_of_a_kubeconfig_names_the_file(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, SERVER, certificate(CURRENT, [HERE])[0], **{"proxy-url": "ftp://p:1"})
    with pytest.raises(KubeconfigError, match=f"{path}: its proxy-url must be"):
        connect(path)


class Socks(threading.Thread):
    """A SOCKS5 proxy for one connection, which connects to the one server there is."""

    def __init__(self, target: int) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = target
        self.asked = b""

    def run(self) -> None:
        client, _unused = self.listener.accept()
        with client:
            client.recv(64)
            client.sendall(b"\x05\x00")
            self.asked = client.recv(256)
            client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            pipe(client, self.target)


def test_socks_proxies_resolve_the_name_themselves(behind: tuple[bytes, str], tmp_path: Path) -> None:
    socks = Socks(ConnectProxy.target)
    socks.start()
    url = f"socks5://127.0.0.1:{socks.port}"
    assert (
        connect(kubeconfig(tmp_path, "https://api.invalid:6443", behind[0], **{"proxy-url": url})).raw("/version") == {}
    )
    assert b"api.invalid" in socks.asked


@pytest.mark.parametrize(
    ("valid", "names", "same_ca", "words"),
    [
        ((NOW - 2 * DAY, NOW - DAY), [HERE], True, "has expired"),
        ((NOW + DAY, NOW + 2 * DAY), [HERE], True, "not valid yet"),
        (CURRENT, [x509.DNSName("other")], True, "control_plane_cert_sans"),
        (CURRENT, [HERE], False, "does not have the CA"),
    ],
)
def test_faults_of_the_servers_certificate_are_named(
    tmp_path: Path, valid: Any, names: list[x509.GeneralName], same_ca: bool, words: str
) -> None:
    pair = certificate(valid, names)
    listener = serve(Api, pair, tmp_path)
    ca = pair[0] if same_ca else certificate(CURRENT, [HERE])[0]
    with pytest.raises(ApiError, match=words):
        connect(kubeconfig(tmp_path, f"https://127.0.0.1:{listener.server_port}", ca)).raw("/version")
    listener.shutdown()
    listener.server_close()


def test_an_expired_client_certificate_is_named(tmp_path: Path) -> None:
    ca = certificate(CURRENT, [HERE])[0]

    def user(valid: Any) -> dict[str, str]:
        names = ("client-certificate-data", "client-key-data")
        return dict(zip(names, (base64.b64encode(pem).decode() for pem in certificate(valid, [HERE])), strict=True))

    path = kubeconfig(tmp_path, SERVER, ca, user=user((NOW - 2 * DAY, NOW - DAY)))
    with pytest.raises(KubeconfigError, match=r"client certificate expired on \d{4}-\d\d-\d\d"):
        connect(path)
    connect(kubeconfig(tmp_path, SERVER, ca, user=user(CURRENT)))
