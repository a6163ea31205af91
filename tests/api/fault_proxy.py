# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Stands before an API server and lets it be ill: it refuses, hangs, answers with errors, or takes its time."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

WRITES = ("POST", "PUT", "PATCH", "DELETE")
#: Headers that are between two ends of one connection only.
OWN_HEADERS = {"connection", "host", "transfer-encoding", "content-length"}


class FaultProxy:
    """A plain HTTP server before the API server of a kubeconfig, whose credentials it uses.

    ``fault`` may be changed at any time: "" (none), "hangs", "500", "429", "500 on writes", or "slow" (2 seconds before
    each answer). A server that refuses is one that was stopped.
    """

    SLOW = 2.0

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._target = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._tls.load_cert_chain(user["client-certificate"], user["client-key"])
        self.fault = ""
        self.requests = 0
        self.released = threading.Event()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    def start(self) -> None:
        """Listen, at the same port as before."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                proxy.answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def heal(self) -> None:
        """Be well again."""
        self.fault = ""
        self.released.set()
        self.released = threading.Event()
        if not self._server:
            self.start()

    def kubeconfig(self) -> dict[str, Any]:
        """Content of a kubeconfig that leads here."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}],
            "users": [{"name": "proxy", "user": {}}],
        }

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request as the fault says, or as the API server does."""
        self.requests += 1
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self.fault
        if fault == "hangs":
            self.released.wait()
            request.close_connection = True
            return
        if fault in ("500", "429") or (fault == "500 on writes" and request.command in WRITES):
            refuse(request, int(fault[:3]))
            return
        if fault == "slow":
            time.sleep(self.SLOW)
        with contextlib.suppress(OSError):  # who asked is gone, or the API server is
            self._pass_on(request, body)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OWN_HEADERS}
        upstream = http.client.HTTPSConnection(self._target, context=self._tls, timeout=60)
        with contextlib.closing(upstream):
            upstream.request(request.command, request.path, body or None, headers)
            response = upstream.getresponse()
            request.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in OWN_HEADERS | {"date"}:
                    request.send_header(name, value)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            while piece := response.read1(65536):
                request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            request.wfile.write(b"0\r\n\r\n")


def refuse(request: BaseHTTPRequestHandler, status: int) -> None:
    """Answer with an error, as an API server writes one."""
    body = json.dumps({"kind": "Status", "status": "Failure", "message": f"ill on purpose ({status})", "code": status})
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    if status == 429:
        request.send_header("Retry-After", "1")
    request.end_headers()
    request.wfile.write(body.encode())


@contextlib.contextmanager
def fault_proxy(kubeconfig: Path) -> Iterator[FaultProxy]:
    """A proxy before the API server of a kubeconfig."""
    proxy = FaultProxy(kubeconfig)
    try:
        yield proxy
    finally:
        proxy.released.set()
        proxy.stop()
