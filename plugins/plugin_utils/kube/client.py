# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Talk to a Kubernetes API server from the controller's own process.

A thin, thread-safe layer: kubernetes.config reads the kubeconfig (certificates, tokens, exec plugins), urllib3 keeps a
pool of connections, and objects stay plain dicts. Generated models are left out because they would lose fields that
a newer server or a custom resource has.
"""

from __future__ import annotations

import base64
import datetime
import email.utils
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import urllib3
import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import KubeConfigLoader

from .objects import with_query

#: Requests that may run at the same time over one connection pool.
CONNECTIONS = 8
#: Seconds to reach the server, and seconds of silence after which an answer is given up.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
#: Seconds in which an API server that was restarted is expected back, and between two looks at whether it is: there is
#: nothing to watch while nobody serves.
RESTART = 60.0
_LOOK_AGAIN = 0.5
#: Seconds in which one that listens again knows its own roles and kinds.
_SETTLING = 15.0
#: Methods whose request may be sent again when the connection broke before its answer came. POST is none: what it
#: makes may have been made.
_REPEATABLE = frozenset({"GET", "PUT", "PATCH", "DELETE"})
#: What a server answers that has begun to listen and does not know its own roles and kinds yet.
_UNSETTLED = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE})
#: libyaml reads and writes large manifests ten times faster; without it the pure Python classes do.
YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
YAML_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Refused connections are tried again for about 1.5 s, and "too many requests" as the server asks. An answer that fails
#: to come is not asked for twice.
_RETRIES = urllib3.Retry(
    total=3, connect=3, read=0, redirect=0, backoff_factor=0.2, allowed_methods=None, raise_on_status=False
)
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)

#: A JSON object, and any JSON value.
JSON = dict[str, Any]
Value = Any


class KubeconfigError(Exception):
    """The kubeconfig cannot be used; the message names the file and what is wrong with it."""


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes: status is the HTTP status (0 when there was no answer), reason the machine-readable reason of the
    server (such as "NotFound", "Conflict", "Timeout"), causes the list of {reason, message, field} details.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "", causes: list[JSON] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.causes = causes or []


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
        """API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def group_kind(self) -> str:
        """Kind and group in one word, as kubectl writes it: "Deployment.apps", "ConfigMap"."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """URL path of one object, or of the collection when `name` is None."""
        root = "/apis/" if self.group else "/api/"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace and self.namespaced else ""
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"{root}{self.api_version}{scope}/{self.plural}{tail}"


class Listing(NamedTuple):
    """Objects of one list request, and the resource version from which a watch goes on."""

    items: list[JSON]
    resource_version: str


class Event(NamedTuple):
    """One event of a watch: type is ADDED, MODIFIED or DELETED."""

    type: str
    object: JSON


class Api:
    """One API server, safe to use from several threads. Make it with `connect`."""

    def __init__(self, configuration: Configuration, pool: urllib3.PoolManager, patience: float = 0.0) -> None:
        self.server: str = configuration.host.rstrip("/")
        #: Seconds for which a request waits for a server that refuses or drops connections, as a restarted one does.
        self.patience = patience
        self._configuration = configuration
        self._pool = pool
        #: What the server warned of, in its words (deprecated versions, pods that PodSecurity will refuse, ...).
        self.warnings: list[str] = []
        self._resources: dict[tuple[str, str], Resource] | None = None
        self._lock = threading.Lock()

    # -- kinds ---------------------------------------------------------------------------------------------------

    def resources(self) -> dict[tuple[str, str], Resource]:
        """All kinds that the server serves, by (apiVersion, kind). Asked once (two requests), then remembered."""
        with self._lock:
            if self._resources is None:
                found: dict[tuple[str, str], Resource] = {}
                for root in ("/api", "/apis"):
                    found.update(_parse_discovery(self.raw(root, accept=_DISCOVERY)))
                self._resources = found
            return self._resources

    def add_resource(self, resource: Resource) -> None:
        """Make a kind known that the server has just begun to serve."""
        known = self.resources()
        with self._lock:
            known[resource.api_version, resource.kind] = resource

    def resource(self, api_version: str, kind: str) -> Resource:
        """The kind as the server serves it. Raises ApiError (status 404) if it does not."""
        resource = self.resources().get((api_version, kind))
        if resource is None:
            raise ApiError(f"{self.server} does not serve kind {kind} of {api_version}", 404, "NotFound")
        return resource

    # -- objects -------------------------------------------------------------------------------------------------

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> JSON | None:
        """One object, or None if there is none (nor its kind)."""
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
        """Objects of one kind, of all namespaces if `namespace` is None. Each has its apiVersion and kind filled in."""
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
        """Server-side apply. Returns the object as the server has it now, and whether it was created.

        A field that another manager owns is an ApiError of status 409 unless `force`. Unknown fields are errors.
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
        """Delete one object. Returns it if it still has to be finalized, None when it is gone (or never was there).

        With `uid`, another object of the same name is left alone (ApiError of status 409).
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
        """Events of one kind for at most `timeout` seconds; ends quietly when the time is over.

        Without `resource_version` the existing objects come first, as ADDED. Raises ApiError (status 410) when the
        resource version is too old to go on from.
        """
        query = _selectors(label_selector, field_selector)
        query |= {"watch": "true", "timeoutSeconds": str(max(1, int(timeout)))}
        if resource_version:
            query["resourceVersion"] = resource_version
        path = self.resource(api_version, kind).path(namespace)
        response = self._send("GET", path, query, timeout=timeout, stream=True)
        try:
            if response.status >= 400:
                raise _refusal("GET", response.status, response.read())
            yield from _events(response)
        except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError):
            return  # no event within the time, or the server closed the stream: the caller asks again if it has time
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
        """GET any path of the API server: parsed if it is JSON, else the text."""
        response = self._send("GET", path, query, timeout=timeout, accept=accept)
        if response.status >= 400:
            raise _refusal("GET " + path, response.status, response.data)
        if "json" in response.headers.get("Content-Type", ""):
            return json.loads(response.data)
        return response.data.decode(errors="replace")

    def clock(self) -> datetime.datetime | None:
        """What time the server has, in whole seconds; None if its answer does not say."""
        date = self._send("GET", "/version").headers.get("Date")
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
        """GET a path of a service in the cluster, through the API server's proxy. `scheme`: "" (http) or "https"."""
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
        """Send JSON and return (HTTP status, parsed answer). Raises ApiError for a status of 400 or more."""
        response = self._send(method, path, query, body, content_type, timeout, accept)
        if response.status >= 400:
            raise _refusal(f"{method} {path}", response.status, response.data)
        for warning in response.headers.getlist("Warning"):  # 299 - "text"
            self.warnings.append(warning.partition('"')[2].removesuffix('"') or warning)
        try:
            return response.status, json.loads(response.data)
        except ValueError as error:
            raise ApiError(f"{self.server}: the answer to {method} {path} is not JSON: {error}") from error

    def _object(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> JSON:
        return self.request(method, path, query, body, content_type)[1]

    def wait_ready(self, seconds: float) -> None:
        """Wait until the server says that it is ready, as it is not right after a start.

        Raises the last ApiError if that is not so within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._send_once("GET", "/readyz").status == HTTPStatus.OK:
                    return
                problem = ApiError(f"{self.server} answers, but is not ready", reason="NotReady")
            except ApiError as error:
                problem = error
            if time.monotonic() + _LOOK_AGAIN > deadline:
                raise problem
            threading.Event().wait(_LOOK_AGAIN)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
        accept: str = "application/json",
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; one that met a server in the middle of a restart is sent again when that is ready."""
        request = (method, path, query, body, content_type, timeout, accept, stream)
        deadline = time.monotonic() + self.patience
        while True:
            try:
                response = self._send_once(*request)
                break
            except ApiError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not _may_be_restarting(error, method):
                    raise
                self.wait_ready(left)
        if self.patience and response.status in _UNSETTLED and method in _REPEATABLE:
            try:
                self.wait_ready(_SETTLING)
            except ApiError:
                return response  # not ready for other reasons, or not a matter for this user
            response.close()
            return self._send_once(*request)
        return response

    def _send_once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
        accept: str = "application/json",
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": accept, "User-Agent": "kubescale.fleet"}
        settings: Mapping[str, Any] = self._configuration.auth_settings()
        headers |= {setting["key"]: setting["value"] for setting in settings.values()}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        started = time.monotonic()
        url = self.server + with_query(path, query)
        try:
            return self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=timeout),
                retries=_RETRIES,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(self._explain_transport(error, time.monotonic() - started), reason="Unreachable") from error

    def _explain_transport(self, error: Exception, waited: float) -> str:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            return f"{self.server} gave no answer within {waited:.1f} s"
        if isinstance(cause, urllib3.exceptions.NewConnectionError):  # a ConnectTimeoutError, too
            system = cause.__cause__
            return f"{self.server} cannot be reached: {getattr(system, 'strerror', None) or system or cause}"
        if isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
            return f"{self.server} cannot be reached: no connection within {CONNECT_TIMEOUT:g} s"
        if isinstance(cause, urllib3.exceptions.SSLError):
            return f"{self.server}: TLS failed: {cause}; is the kubeconfig one of this cluster?"
        return f"{self.server} cannot be reached: {cause}"


def connect(kubeconfig: str | Path, context: str | None = None, patience: float = 0.0) -> Api:
    """Client for the cluster of a kubeconfig file (and context; the current one if None). Sends nothing yet.

    A server that refuses connections is waited for up to ``patience`` seconds by each request. Raises KubeconfigError,
    with the file's name and what is wrong, if the file cannot be used.
    """
    path = Path(kubeconfig).expanduser()
    content = read_kubeconfig(path)
    check_kubeconfig(content, str(path), context)
    configuration = Configuration()
    # The loader writes keys and certificates to files because OpenSSL wants files. They go away as soon as the TLS
    # context has read them: forked Ansible workers end without clean-up handlers and would leave keys in /tmp.
    with tempfile.TemporaryDirectory(prefix="kubescale-") as scratch:
        try:
            loader = KubeConfigLoader(content, context, config_base_path=str(path.parent), temp_file_path=scratch)
            loader.load_and_set(configuration)
            tls = _tls(configuration)
        except ssl.SSLError as error:
            raise KubeconfigError(f"kubeconfig {path}: its certificates or key cannot be used: {error}") from error
        except (ConfigException, ValueError, KeyError, TypeError, OSError) as error:
            raise KubeconfigError(f"kubeconfig {path}: {error}") from error
    options: dict[str, Any] = {"maxsize": CONNECTIONS, "ssl_context": tls}
    if configuration.tls_server_name:
        options |= {"server_hostname": configuration.tls_server_name, "assert_hostname": configuration.tls_server_name}
    if configuration.proxy:
        return Api(configuration, urllib3.ProxyManager(configuration.proxy, **options), patience)
    return Api(configuration, urllib3.PoolManager(**options), patience)


def read_kubeconfig(path: Path) -> Value:
    """Parsed content of a kubeconfig file. Raises KubeconfigError if it cannot be read or is not YAML."""
    try:
        return YAML_LOADER(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        raise KubeconfigError(
            f"kubeconfig {path} does not exist: the cluster was not made yet, or was made elsewhere. "
            "Run site.yml without --tags first; it makes the control plane and brings its kubeconfig home"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"kubeconfig {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise KubeconfigError(f"kubeconfig {path} is not a kubeconfig: it is not valid YAML: {where}") from error


def check_kubeconfig(content: Value, name: str, context: str | None = None) -> None:
    """Raise KubeconfigError, saying what is missing, unless `content` has a usable context. `name` is the file's."""

    def wrong(what: str) -> KubeconfigError:
        return KubeconfigError(f"kubeconfig {name} is not a kubeconfig: {what}")

    if not isinstance(content, dict):
        raise wrong(f"it holds {'nothing' if content is None else 'a ' + type(content).__name__}, not a mapping")
    if content.get("kind", "Config") != "Config":
        raise wrong(f"its kind is {content['kind']!r}, not 'Config'")
    named: dict[str, dict[str, Any]] = {}
    for key in ("clusters", "contexts", "users"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
            raise wrong(f"'{key}' must be a list of named entries")
        named[key] = {entry["name"]: entry.get(key[:-1]) for entry in entries}
    chosen = context or content.get("current-context")
    if not chosen:
        raise wrong("it has no 'current-context'")
    known = named["contexts"].get(chosen)
    if not isinstance(known, dict):
        raise wrong(f"context {chosen!r} is not in it; it has: {', '.join(sorted(named['contexts'])) or 'none'}")
    for key in ("cluster", "user"):
        if known.get(key) not in named[key + "s"]:
            raise wrong(f"context {chosen!r} names {key} {known.get(key)!r}, which is not in it")
        if bad := _undecodable(named[key + "s"][known[key]]):
            raise wrong(f"{bad} of {key} {known[key]!r} is not base64")
    cluster = named["clusters"][known["cluster"]]
    server = cluster.get("server") if isinstance(cluster, dict) else None
    if not isinstance(server, str) or urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
        raise wrong(f"cluster {known['cluster']!r} has server {server!r}; it must be a URL such as https://host:6443")


def _undecodable(entry: Value) -> str:
    """Key of a kubeconfig entry whose value ought to be base64 and is not; "" if there is none."""
    for key in ("certificate-authority-data", "client-certificate-data", "client-key-data"):
        if isinstance(entry, dict) and key in entry:
            try:
                base64.b64decode(entry[key], validate=True)
            except (ValueError, TypeError):
                return key
    return ""


def _may_be_restarting(error: ApiError, method: str) -> bool:
    """Whether a request failed in the way in which a restarting server fails it, and may be sent again.

    The machine is there and says that nobody listens, or the connection ended without an answer. A machine that is out
    of reach, a wrong certificate or a server that hangs is no restart.
    """
    cause = error.__cause__
    cause = getattr(cause, "reason", None) or cause
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return isinstance(cause.__cause__, ConnectionRefusedError)
    return isinstance(cause, urllib3.exceptions.ProtocolError) and method in _REPEATABLE


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


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


def _refusal(request: str, status: int, data: bytes) -> ApiError:
    """The server's own words, or the HTTP status if it gave none."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        causes = (body.get("details") or {}).get("causes") or []
        return ApiError(body.get("message") or responses.get(status, ""), status, body.get("reason", ""), causes)
    text = data.decode(errors="replace").strip()[:300]
    return ApiError(f"{request}: HTTP {status} {responses.get(status, '')}: {text}", status, responses.get(status, ""))
