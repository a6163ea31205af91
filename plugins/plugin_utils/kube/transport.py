# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Requests to an API server: one connection pool, errors in words, and patience with a server that restarts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import responses
from typing import Any
from urllib.parse import urlsplit

import urllib3
from kubernetes.client import Configuration

from ..common.errors import FleetError
from .objects import JSON, with_query
from .proxies import Proxy

#: Seconds to reach the server, and seconds of silence after which a request fails.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
#: Seconds between two requests for readiness. An API server that is down offers nothing to watch.
_POLL_INTERVAL = 0.5
#: Seconds in which an API server that listens again loads its own roles and kinds.
_SETTLING = 15.0
#: Methods that are sent again if the connection broke before the answer. A POST may have been carried out.
_REPEATABLE = frozenset({"GET", "PUT", "PATCH", "DELETE"})
#: Statuses of a server that listens, but has not loaded its own roles and kinds yet.
_UNSETTLED = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE})
#: Refused connections are retried for about 1.5 s, and "too many requests" as the server asks. A request whose answer
#: timed out is not repeated.
_RETRIES = urllib3.Retry(
    total=3, connect=3, read=0, redirect=0, backoff_factor=0.2, allowed_methods=None, raise_on_status=False
)
_OTHER_CA = (
    "the kubeconfig does not have the CA of the server's certificate. Is the kubeconfig one of this cluster? Does a "
    "proxy on the way replace certificates?"
)
#: Faults of the server's certificate with a remedy, by OpenSSL's number.
_CERTIFICATE_FAULTS = {
    9: "the certificate of the API server is not valid yet. Compare the clocks of controller and control plane",
    10: (
        "the certificate of the API server has expired. Renew it on each control plane: kubeadm certs renew all, then "
        "restart its static pods (move the files out of /etc/kubernetes/manifests for 20 s). Check the clock of the "
        "controller, too"
    ),
    18: _OTHER_CA,
    19: _OTHER_CA,
    20: _OTHER_CA,
    62: "the certificate of the API server lacks the name in the kubeconfig. Add it to control_plane_cert_sans",
    64: "the certificate of the API server lacks the address in the kubeconfig. Add it to control_plane_cert_sans",
}


class ApiError(FleetError):
    """The API server refused a request or could not be reached.

    Attributes: status is the HTTP status (0 without an answer), reason the server's machine-readable reason
    (such as "NotFound", "Conflict", "Timeout"), causes the list of {reason, message, field} details.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "", causes: list[JSON] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.causes = causes or []


@dataclass(frozen=True)
class Request:
    """One HTTP request to an API server. `timeout` is in seconds of silence."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    timeout: float = READ_TIMEOUT
    accept: str = "application/json"
    stream: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Transport:
    """The connections to one API server, safe to use from several threads."""

    def __init__(
        self,
        configuration: Configuration,
        pool: urllib3.PoolManager,
        patience: float = 0.0,
        proxy: Proxy | None = None,
    ) -> None:
        self.server: str = configuration.host.rstrip("/")
        #: Seconds for which a request waits for a server that refuses or drops connections, as during a restart.
        self.patience = patience
        self._configuration = configuration
        self._pool = pool
        self._proxy = proxy

    def send(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Send a request, and send it again once a restarting server is ready. Raise ApiError without an answer."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                response = self.send_once(request)
                break
            except ApiError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not _may_be_restarting(error, request.method):
                    raise
                self.wait_ready(left)
        if self.patience and response.status in _UNSETTLED and request.method in _REPEATABLE:
            try:
                self.wait_ready(_SETTLING)
            except ApiError:
                return response  # the refusal has another cause than a restart
            response.close()
            return self.send_once(request)
        return response

    def send_once(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Send a request without waiting for a restart. Raise ApiError without an answer."""
        headers = {"Accept": request.accept, "User-Agent": "kubescale.fleet"}
        settings: Mapping[str, Any] = self._configuration.auth_settings()
        headers |= {setting["key"]: setting["value"] for setting in settings.values()}
        data = None
        if request.body is not None:
            headers["Content-Type"] = request.content_type
            data = json.dumps(request.body).encode()
        started = time.monotonic()
        try:
            return self._pool.request(
                request.method,
                self.server + with_query(request.path, request.query),
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=request.timeout),
                retries=_RETRIES,
                preload_content=not request.stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(self._explain(error, time.monotonic() - started), reason="Unreachable") from error

    def wait_ready(self, seconds: float) -> None:
        """Wait until the server reports that it is ready. Raise the last ApiError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.send_once(Request("GET", "/readyz")).status == HTTPStatus.OK:
                    return
                problem = ApiError(f"{self.server} answers, but is not ready", reason="NotReady")
            except ApiError as error:
                problem = error
            if time.monotonic() + _POLL_INTERVAL > deadline:
                raise problem
            threading.Event().wait(_POLL_INTERVAL)

    def _explain(self, error: Exception, waited: float) -> str:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, urllib3.exceptions.SSLError):
            return f"{self.server}: {explain_tls(cause)}"
        server, advice = self.server, ""
        if self._proxy:
            server = f"{self.server}, by the proxy {self._proxy},"
            if "environment" in self._proxy.setting:
                advice = f". If the API is reached without a proxy, add {urlsplit(self.server).hostname} to NO_PROXY"
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            return f"{server} gave no answer within {waited:.1f} s{advice}"
        if isinstance(cause, urllib3.exceptions.ProxyError):
            cause = cause.original_error
        if isinstance(cause, urllib3.exceptions.NewConnectionError):  # a ConnectTimeoutError, too
            system = cause.__cause__
            return f"{server} cannot be reached: {getattr(system, 'strerror', None) or system or cause}{advice}"
        if isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
            return f"{server} cannot be reached: no connection within {CONNECT_TIMEOUT:g} s{advice}"
        return f"{server} cannot be reached: {cause}{advice}"


def explain_tls(error: urllib3.exceptions.SSLError) -> str:
    """Return why TLS failed, and the remedy."""
    cause = error.args[0] if error.args else error
    reason = _CERTIFICATE_FAULTS.get(getattr(cause, "verify_code", 0))
    return f"TLS failed: {reason or f'{error}; is the kubeconfig one of this cluster?'}"


def _may_be_restarting(error: ApiError, method: str) -> bool:
    """Return whether a restarting server explains the error, and the request may be sent again.

    A restarting server refuses the connection, or ends it without an answer. An unreachable machine, a wrong
    certificate or a server that hangs is no restart.
    """
    cause = error.__cause__
    cause = getattr(cause, "reason", None) or cause
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return isinstance(cause.__cause__, ConnectionRefusedError)
    return isinstance(cause, urllib3.exceptions.ProtocolError) and method in _REPEATABLE


def refusal(request: object, status: int, data: bytes) -> ApiError:
    """Return the error of a refused request: the server's message, or the HTTP status without one."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        causes = (body.get("details") or {}).get("causes") or []
        return ApiError(body.get("message") or responses.get(status, ""), status, body.get("reason", ""), causes)
    text = data.decode(errors="replace").strip()[:300]
    return ApiError(f"{request}: HTTP {status} {responses.get(status, '')}: {text}", status, responses.get(status, ""))
