# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Talk to a Kubernetes API server from the controller's own process.

A thin layer, safe for threads: kubernetes.config reads the kubeconfig (certificates, tokens, exec plugins), urllib3
keeps a pool of connections, and objects stay plain dicts. Generated models would lose fields that a newer server or a
custom resource has.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import urllib3

from .kubeconfig import KubeconfigError, load_kubeconfig
from .objects import JSON, Value
from .proxies import ProxyError, proxy_of
from .transport import READ_TIMEOUT, ApiError, Request, Transport, refusal

#: Requests that may run at the same time over one connection pool.
CONNECTIONS = 8
#: Seconds in which a restarted API server usually answers again.
RESTART = 60.0
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@dataclass(frozen=True)
class Resource:
    """How the server serves one kind: `api_version` "apps/v1", `kind` "Deployment", `plural` "deployments"."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def group_kind(self) -> str:
        """Kind and group as kubectl writes them: "Deployment.apps", "ConfigMap"."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the URL path of one object, or of the collection if `name` is None."""
        root = "/apis/" if self.group else "/api/"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace and self.namespaced else ""
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"{root}{self.api_version}{scope}/{self.plural}{tail}"


class Listing(NamedTuple):
    """The objects of one list request, and the resource version from which a watch continues."""

    items: list[JSON]
    resource_version: str


class Event(NamedTuple):
    """One event of a watch: type is ADDED, MODIFIED or DELETED."""

    type: str
    object: JSON


class Api:
    """One API server, safe to use from several threads. `connect` makes it."""

    def __init__(self, transport: Transport) -> None:
        self.server = transport.server
        #: Warnings that the server sent, in its own words: deprecated versions, pods that PodSecurity will refuse.
        self.warnings: list[str] = []
        self._transport = transport
        self._resources: dict[tuple[str, str], Resource] | None = None
        self._lock = threading.Lock()

    # -- kinds ---------------------------------------------------------------------------------------------------

    def resources(self) -> dict[tuple[str, str], Resource]:
        """Return all kinds that the server serves, by (apiVersion, kind). The first call sends two requests."""
        with self._lock:
            if self._resources is None:
                found: dict[tuple[str, str], Resource] = {}
                for root in ("/api", "/apis"):
                    found.update(_parse_discovery(self.raw(root, accept=_DISCOVERY)))
                self._resources = found
            return self._resources

    def add_resource(self, resource: Resource) -> None:
        """Add a kind that the server serves since the first call of `resources`."""
        known = self.resources()
        with self._lock:
            known[resource.api_version, resource.kind] = resource

    def resource(self, api_version: str, kind: str) -> Resource:
        """Return the kind as the server serves it. Raise ApiError (status 404) if the server does not serve it."""
        resource = self.resources().get((api_version, kind))
        if resource is None:
            raise ApiError(f"{self.server} does not serve kind {kind} of {api_version}", 404, "NotFound")
        return resource

    # -- objects -------------------------------------------------------------------------------------------------

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> JSON | None:
        """Return one object, or None if the object or its kind does not exist."""
        try:
            return self._object("GET", self.resource(api_version, kind).path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
    ) -> Listing:
        """Return the objects of one kind with apiVersion and kind; of all namespaces if `namespace` is None."""
        query = _selectors(label_selector, field_selector)
        accept = _METADATA_ONLY if metadata_only else "application/json"
        path = self.resource(api_version, kind).path(namespace)
        body = self.request("GET", path, query, accept=accept)[1]
        items = [{**item, "apiVersion": api_version, "kind": kind} for item in body.get("items") or []]
        return Listing(items, body.get("metadata", {}).get("resourceVersion", ""))

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        body: Mapping[str, Any],
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> JSON:
        """Merge `body` into an object (JSON merge patch) and return the result."""
        path = self.resource(api_version, kind).path(namespace, name) + (f"/{subresource}" if subresource else "")
        return self._object("PATCH", path, body=body, content_type="application/merge-patch+json")

    def apply(
        self, body: Mapping[str, Any], manager: str, force: bool = False, dry_run: bool = False
    ) -> tuple[JSON, bool]:
        """Apply server-side. Return the object as the server has it now, and whether it was created.

        Raise ApiError: status 409 for a field of another field manager unless `force`, 400 for an unknown field.
        """
        resource = self.resource(body["apiVersion"], body["kind"])
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = resource.path(body["metadata"].get("namespace"), body["metadata"]["name"])
        status, result = self.request("PATCH", path, query, body, "application/apply-patch+yaml")
        return result, status == 201

    def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None = None,
        uid: str | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> JSON | None:
        """Delete one object. Return it if finalizers keep it, None if it is gone or never existed.

        With `uid`, raise ApiError (status 409) instead of deleting another object of the same name.
        """
        options: JSON = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if dry_run:
            options["dryRun"] = ["All"]
        try:
            result = self._object("DELETE", self.resource(api_version, kind).path(namespace, name), body=options)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return result if "deletionTimestamp" in (result.get("metadata") or {}) else None

    def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Iterator[Event]:
        """Yield the events of one kind for at most `timeout` seconds.

        Without `resource_version` the existing objects come first, as ADDED. Raise ApiError (status 410) if the
        resource version is too old.
        """
        query = _selectors(label_selector, field_selector)
        query |= {"watch": "true", "timeoutSeconds": str(max(1, int(timeout)))}
        if resource_version:
            query["resourceVersion"] = resource_version
        path = self.resource(api_version, kind).path(namespace)
        request = Request("GET", path, query, timeout=timeout, stream=True)
        response = self._transport.send(request)
        try:
            if response.status >= 400:
                raise refusal(request, response.status, response.read())
            yield from _events(response)
        except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError):
            return  # the time is over, or the server closed the stream; the caller may watch again
        finally:
            response.close()

    # -- anything else -------------------------------------------------------------------------------------------

    def raw(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
        accept: str = "application/json, */*",
    ) -> Value:
        """GET any path of the API server. Return parsed JSON, or the text of another content type."""
        response = self._answer(Request("GET", path, query or {}, timeout=timeout, accept=accept))
        if "json" in response.headers.get("Content-Type", ""):
            return json.loads(response.data)
        return response.data.decode(errors="replace")

    def clock(self) -> datetime.datetime | None:
        """Return the server's time in whole seconds, or None if its answer has no date."""
        date = self._transport.send(Request("GET", "/version")).headers.get("Date")
        return email.utils.parsedate_to_datetime(date) if date else None

    def service(
        self,
        namespace: str,
        service: str,
        port: str | int,
        path: str = "/",
        query: Mapping[str, str] | None = None,
        scheme: str = "",
        timeout: float = READ_TIMEOUT,
    ) -> Value:
        """GET a path of a Service through the API server's proxy. `scheme` is "" (http) or "https"."""
        target = f"{scheme}:{service}:{port}" if scheme else f"{service}:{port}"
        root = f"/api/v1/namespaces/{quote(namespace, safe='')}/services/{target}/proxy"
        return self.raw(f"{root}/{path.lstrip('/')}", query, timeout)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
        accept: str = "application/json",
    ) -> tuple[int, JSON]:
        """Send JSON. Return the HTTP status and the parsed answer. Raise ApiError for a status of 400 or more."""
        request = Request(method, path, query or {}, body, content_type, timeout, accept)
        response = self._answer(request)
        for warning in response.headers.getlist("Warning"):  # 299 - "text"
            self.warnings.append(warning.partition('"')[2].removesuffix('"') or warning)
        try:
            return response.status, json.loads(response.data)
        except ValueError as error:
            raise ApiError(f"{self.server}: the answer to {request} is not JSON: {error}") from error

    def wait_ready(self, seconds: float) -> None:
        """Wait until the server reports that it is ready. Raise the last ApiError after `seconds`."""
        self._transport.wait_ready(seconds)

    def _answer(self, request: Request) -> urllib3.BaseHTTPResponse:
        response = self._transport.send(request)
        if response.status >= 400:
            raise refusal(request, response.status, response.data)
        return response

    def _object(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> JSON:
        return self.request(method, path, query, body, content_type)[1]


def connect(kubeconfig: str | Path, context: str | None = None, patience: float = 0.0) -> Api:
    """Return a client for the cluster of a kubeconfig's context; the current context if None. Send nothing yet.

    Each request waits up to `patience` seconds for a server that restarts. Raise KubeconfigError, with the file's
    name and the mistake, if the file cannot be used.
    """
    path = Path(kubeconfig).expanduser()
    configuration, tls, proxy_url = load_kubeconfig(path, context)
    options: dict[str, Any] = {"maxsize": CONNECTIONS, "ssl_context": tls}
    if configuration.tls_server_name:
        options |= {"server_hostname": configuration.tls_server_name, "assert_hostname": configuration.tls_server_name}
    try:
        proxy = proxy_of(configuration.host, proxy_url, os.environ)
        pool = proxy.pool(options) if proxy else urllib3.PoolManager(**options)
    except ProxyError as error:
        raise KubeconfigError(f"kubeconfig {path}: {error}") from None
    return Api(Transport(configuration, pool, patience, proxy))


def _parse_discovery(document: Value) -> Iterator[tuple[tuple[str, str], Resource]]:
    if not isinstance(document, dict) or document.get("kind") != "APIGroupDiscoveryList":
        raise ApiError("the API server has no aggregated discovery; Kubernetes 1.27 or newer is needed")
    for group in document.get("items") or []:
        name = group.get("metadata", {}).get("name", "")
        for version in group.get("versions") or []:
            api_version = f"{name}/{version['version']}" if name else version["version"]
            for entry in version.get("resources") or []:
                kind = (entry.get("responseKind") or {}).get("kind")
                if not kind:
                    continue
                namespaced, verbs = entry.get("scope") == "Namespaced", frozenset(entry.get("verbs") or [])
                yield (api_version, kind), Resource(api_version, kind, entry["resource"], namespaced, verbs)


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    pairs = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in pairs.items() if value}


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[Event]:
    rest = b""
    for chunk in response.stream(amt=None):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not line.strip():
                continue
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise ApiError(status.get("message", "watch failed"), status.get("code", 0), status.get("reason", ""))
            if event["type"] != "BOOKMARK":
                yield Event(event["type"], event["object"])
