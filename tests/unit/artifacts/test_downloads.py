"""Downloads from real servers: each way they go wrong is named, and nothing of a failed one is kept."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import downloads
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import ArtifactError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.scheduler import execute

BINARY = b"#!/bin/sh\necho kubelet\n" * 1000


def tar_of(**files: bytes) -> bytes:
    """A .tar.gz as releases have them: names begin with ./, binaries are executable."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./bin/{name}")
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def zip_of(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"example.com/operator@v1.0.0/crds/{name}.yaml", content)
        archive.writestr("example.com/operator@v1.0.0/crds/../../../../escape.yaml", b"out")
    return packed.getvalue()


FILES = {
    "/release/v1.0.0/bin/linux/amd64/kubelet": BINARY,
    "/containerd/v1.0.0/containerd-1.0.0-linux-amd64.tar.gz": tar_of(containerd=b"daemon", ctr=b"client"),
    "/operator/@v/v1.0.0.zip": zip_of(probes=b"kind: Probe", rules=b"kind: Rule"),
}


class Releases(http.server.BaseHTTPRequestHandler):
    """Serves FILES, and under a first part of the path that says so, serves them badly."""

    protocol_version = "HTTP/1.1"
    plain = ""

    def do_GET(self) -> None:
        way, path = "/", self.path
        for bad in ("/truncated", "/stalled", "/redirect", "/loop", "/broken", "/downgrade"):
            if path.startswith(bad):
                way, path = bad, path.removeprefix(bad)
        if way in ("/redirect", "/loop", "/downgrade"):
            there = {"/redirect": path, "/loop": self.path, "/downgrade": f"{self.plain}{path}"}[way]
            self.answer(302, b"", Location=there)
        elif way == "/broken":
            self.answer(503, b"")
        elif path not in FILES:
            self.answer(404, b"")
        elif way == "/truncated":
            self.answer(200, FILES[path][:100], length=len(FILES[path]))
            self.close_connection = True
        elif way == "/stalled":
            self.answer(200, FILES[path][:100], length=len(FILES[path]))
            self.server.released.wait()  # type: ignore[attr-defined]
        else:
            self.answer(200, FILES[path])

    def answer(self, code: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server, with TLS if a certificate is given, and return its base URL."""
    running = []

    def start(certificate: Path | None = None, plain: str = "") -> str:
        handler = type("Handler", (Releases,), {"plain": plain})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.released = threading.Event()  # type: ignore[attr-defined]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        scheme = "https" if certificate else "http"
        return f"{scheme}://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signed itself, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


KUBELET = "/release/v1.0.0/bin/linux/amd64/kubelet"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pins(base: str, checksum: str | None = None) -> dict[str, Any]:
    """Pins of three components with each kind of download."""
    archive, module = (
        "/containerd/v{version}/containerd-{version}-linux-{architecture}.tar.gz",
        "/operator/@v/v{version}.zip",
    )
    plain = {"url": f"{base}/release/v{{version}}/bin/linux/{{architecture}}/kubelet"}
    return {
        "components": {
            "kubernetes": {
                "version": "1.0.0",
                "downloads": [{**plain, "sha256": {"amd64": checksum or sha256(BINARY)}}],
            },
            "containerd": {
                "version": "1.0.0",
                "downloads": [
                    {
                        "url": base + archive,
                        "members": {"containerd": "bin/containerd", "ctr": "bin/ctr"},
                        "sha256": {"amd64": sha256(FILES["/containerd/v1.0.0/containerd-1.0.0-linux-amd64.tar.gz"])},
                    }
                ],
            },
            "operator": {
                "version": "1.0.0",
                "downloads": [
                    {
                        "url": base + module,
                        "members": {"crds": "example.com/operator@v{version}/crds/"},
                        "sha256": {"amd64": sha256(FILES["/operator/@v/v1.0.0.zip"])},
                    }
                ],
            },
        },
        "layers": {},
        "images": [],
        "machine_files": {"kubelet": {"component": "kubernetes", "folder": "/usr/local/bin", "binaries": ["kubelet"]}},
    }


def run(directory: Path, base: str, name: str, mirrors: dict[str, str] | None = None, **settings: str) -> Cache:
    cache = Cache(directory, pins(base, **settings), "amd64")
    execute([downloads.download_step(cache, name, mirrors or {})], lambda *_: None)
    return cache


def test_a_binary_lands_where_a_build_would_put_it(serve: Callable[..., str], tmp_path: Path) -> None:
    cache = run(tmp_path, serve(), "kubernetes")
    (item,) = cache.machine_files(["kubelet"])
    assert (tmp_path / item["source"]).read_bytes() == BINARY
    assert (item["sha256"], item["size"]) == (sha256(BINARY), len(BINARY))


def test_members_of_an_archive_and_nothing_else(serve: Callable[..., str], tmp_path: Path) -> None:
    folder = run(tmp_path, serve(), "containerd").component("containerd")
    assert sorted(path.name for path in folder.iterdir()) == ["containerd", "ctr", "manifest.json"]
    assert (folder / "ctr").read_bytes() == b"client"
    assert (folder / "ctr").stat().st_mode & 0o111


def test_a_folder_of_a_module_and_nothing_that_climbs_out(serve: Callable[..., str], tmp_path: Path) -> None:
    folder = run(tmp_path, serve(), "operator").component("operator")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml")) == [
        "crds/probes.yaml",
        "crds/rules.yaml",
    ]
    assert list(tmp_path.rglob("escape.yaml")) == []


def test_a_mirror_serves_the_same_path_and_gives_the_same_digest(serve: Callable[..., str], tmp_path: Path) -> None:
    mirrors = {"dl.example": serve() + "/redirect/"}
    cache = run(tmp_path, "https://dl.example", "kubernetes", mirrors)
    assert downloads.download_step(cache, "kubernetes", {}).is_made()


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("/truncated", rf"truncated: {len(BINARY)} bytes were announced, 100 came"),
        ("/broken", "answered 503 Service Unavailable"),
        ("/nothing", "answered 404 Not Found"),
        ("/loop", "more than 5 redirects"),
    ],
)
def test_failures_name_the_url_and_leave_nothing(
    serve: Callable[..., str], tmp_path: Path, way: str, text: str
) -> None:
    base = serve() + way
    with pytest.raises(ArtifactError, match=text) as raised:
        run(tmp_path, base, "kubernetes")
    assert f"{base}{KUBELET}" in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "artifacts/kubernetes").iterdir()) == []


def test_another_content_names_both_checksums(serve: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"SHA-256 is {sha256(BINARY)}, expected {'0' * 64}"):
        run(tmp_path, serve(), "kubernetes", checksum="0" * 64)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failure_keeps_what_was_there_before(serve: Callable[..., str], tmp_path: Path) -> None:
    cache = run(tmp_path, serve(), "kubernetes")
    with pytest.raises(ArtifactError):
        run(tmp_path, serve() + "/truncated", "kubernetes", checksum="0" * 64)
    assert (cache.component("kubernetes") / "kubelet").read_bytes() == BINARY


def test_a_server_that_stalls(serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "fetch", functools.partial(downloads.fetch, timeout=0.3))
    with pytest.raises(ArtifactError, match="sent nothing for"):
        run(tmp_path, serve() + "/stalled", "kubernetes")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nobody_listens(tmp_path: Path, serve: Callable[..., str]) -> None:
    with pytest.raises(ArtifactError, match="refused"):
        run(tmp_path, "http://127.0.0.1:1", "kubernetes")
    assert not downloads.answers("http://127.0.0.1:1/")
    assert downloads.answers(serve() + "/")
    assert not downloads.answers(serve() + "/broken/", timeout=1)


def test_a_certificate_nobody_vouches_for(serve: Callable[..., str], tmp_path: Path, certificate: Path) -> None:
    with pytest.raises(ArtifactError, match="TLS is not accepted"):
        run(tmp_path, serve(certificate), "kubernetes")


def test_https_works_with_a_ca_and_never_becomes_http(
    serve: Callable[..., str], tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    base = serve(certificate, plain=serve())
    run(tmp_path / "good", base, "kubernetes")
    run(tmp_path / "redirected", f"{base}/redirect", "kubernetes")
    with pytest.raises(ArtifactError, match=r"redirects from https to http://127\.0\.0\.1"):
        run(tmp_path / "downgraded", f"{base}/downgrade", "kubernetes")
    assert not (tmp_path / "downgraded/artifacts/kubernetes/1.0.0-amd64").exists()


def test_an_archive_without_what_is_wanted(tmp_path: Path) -> None:
    packed = tmp_path / "archive"
    packed.write_bytes(tar_of(ctr=b"client"))
    with pytest.raises(ArtifactError, match="the archive has no bin/containerd"):
        downloads.unpack(packed, {"containerd": "bin/containerd", "ctr": "bin/ctr"}, tmp_path)
    packed.write_bytes(b"<html>sign in</html>")
    with pytest.raises(ArtifactError, match="no readable archive"):
        downloads.unpack(packed, {"ctr": "bin/ctr"}, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_in_an_archive_is_no_file(tmp_path: Path, kind: bytes) -> None:
    packed = tmp_path / "packed"
    with tarfile.open(packed, "w") as archive:
        member = tarfile.TarInfo("bin/ctr")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ArtifactError, match="the archive has no bin/ctr"):
        downloads.unpack(packed, {"ctr": "bin/ctr"}, tmp_path / "target")
    assert not (tmp_path / "target").exists()
