# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""A small API server in this process: it stores objects, honours preconditions, and records the requests."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, connect

JSON = dict[str, Any]
#: Kinds by their path below the server, and whether they have namespaces.
KINDS = {
    "api/v1/configmaps": ("ConfigMap", True),
    "api/v1/namespaces": ("Namespace", False),
    "api/v1/secrets": ("Secret", True),
    "api/v1/services": ("Service", True),
    "apis/coordination.k8s.io/v1/leases": ("Lease", True),
}


@dataclass(frozen=True)
class Seen:
    """A request that the server got."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    accept: str


@dataclass
class ApiServer:
    """Objects by their URL path, and the requests so far."""

    objects: dict[str, JSON] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def requests(self, *methods: str) -> list[Seen]:
        """Return the requests with these methods."""
        return [request for request in self.seen if request.method in methods]

    def put(self, path: str, body: JSON) -> JSON:
        """Store an object as somebody else would, with a new uid."""
        root, kind = next((root, kind) for root, (kind, _) in KINDS.items() if root.endswith(f"/{path.split('/')[-2]}"))
        api_version = "/".join(root.split("/")[1:-1])
        metadata = {"name": path.split("/")[-1], **body.get("metadata", {}), "uid": f"uid-{next(self.numbers)}"}
        if "/namespaces/" in path and kind != "Namespace":
            metadata["namespace"] = path.split("/namespaces/")[1].split("/")[0]
        metadata["resourceVersion"] = str(next(self.numbers))
        self.objects[path] = {"apiVersion": api_version, "kind": kind, **body, "metadata": metadata}
        return self.objects[path]

    def answer(self, request: Seen) -> tuple[int, JSON]:
        """Return status and body."""
        with self.lock:
            self.seen.append(request)
            if request.path in ("/api", "/apis"):
                return 200, discovery(request.path)
            if request.path == "/version":
                return 200, {}
            return getattr(self, f"_{request.method.lower()}")(request)

    def _listed(self, request: Seen) -> list[str]:
        """Return the paths of the objects of a collection that a request selects."""
        plural = request.path.rpartition("/")[2]
        return [
            path
            for path, obj in self.objects.items()
            if path.split("/")[-2] == plural
            and (path.startswith(f"{request.path}/") or "/namespaces/" not in request.path)
            and selected(obj, request.query.get("labelSelector", ""))
        ]

    def _get(self, request: Seen) -> tuple[int, JSON]:
        if not is_collection(request.path):
            found = self.objects.get(request.path)
            return (200, found) if found else status(404, "NotFound")
        items = [self.objects[path] for path in self._listed(request)]
        if "PartialObjectMetadataList" in request.accept:
            items = [{"metadata": item["metadata"]} for item in items]
        return 200, {"metadata": {"resourceVersion": str(next(self.numbers))}, "items": items}

    def _post(self, request: Seen) -> tuple[int, JSON]:
        path = f"{request.path}/{request.body['metadata']['name']}"
        return status(409, "AlreadyExists") if path in self.objects else (201, self.put(path, request.body))

    def _put(self, request: Seen) -> tuple[int, JSON]:
        live = self.objects[request.path]["metadata"]
        if request.body["metadata"].get("resourceVersion") not in (None, live["resourceVersion"]):
            return status(409, "Conflict")
        return 200, self.put(request.path, request.body)

    def _patch(self, request: Seen) -> tuple[int, JSON]:
        """Apply as if all fields were one: the result has the fields of the body."""
        live = self.objects.get(request.path)
        manager = {"manager": request.query["fieldManager"], "operation": "Apply", "fieldsV1": {"f:data": {}}}
        metadata = {**request.body["metadata"], "managedFields": [manager]}
        known = (live or {}).get("metadata", {})
        uid, version = known.get("uid", f"uid-{next(self.numbers)}"), str(next(self.numbers))
        if live and {**live, "metadata": None} == {**request.body, "metadata": None}:
            version = known["resourceVersion"]
        after = {**request.body, "metadata": {**metadata, "uid": uid, "resourceVersion": version}}
        if "dryRun" not in request.query:
            self.objects[request.path] = after
        return (200 if live else 201), after

    def _delete(self, request: Seen) -> tuple[int, JSON]:
        if is_collection(request.path):
            for path in self._listed(request):
                del self.objects[path]
            return 200, {"kind": "Status", "status": "Success"}
        live = self.objects.get(request.path)
        if live is None:
            return status(404, "NotFound")
        if request.body.get("preconditions", {}).get("uid") not in (None, live["metadata"]["uid"]):
            return status(409, "Conflict")
        if "dryRun" not in request.body:
            del self.objects[request.path]
        return 200, {"kind": "Status", "status": "Success"}


def is_collection(path: str) -> bool:
    """Return whether a path is that of all objects of a kind."""
    return any(root.endswith(f"/{path.rpartition('/')[2]}") for root in KINDS)


def status(code: int, reason: str) -> tuple[int, JSON]:
    """Return a refusal."""
    return code, {"kind": "Status", "code": code, "reason": reason, "message": reason}


def selected(obj: JSON, selector: str) -> bool:
    """Return whether an object has all labels of a selector."""
    labels = obj["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        key, operator, value = term.partition("!=") if "!=" in term else term.partition("=")
        if operator == "!=":
            fits = labels.get(key) != value
        else:
            fits = key in labels and (not operator or labels[key] == value)
        if not fits:
            return False
    return True


def discovery(root: str) -> JSON:
    """Return the aggregated discovery of /api or /apis."""
    items = []
    for path, (kind, namespaced) in KINDS.items():
        where, *group, version, plural = path.split("/")
        if f"/{where}" == root:
            scope = "Namespaced" if namespaced else "Cluster"
            verbs = ["get", "list", "delete"]
            entry = {"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": verbs}
            items.append(
                {"metadata": {"name": "".join(group)}, "versions": [{"version": version, "resources": [entry]}]}
            )
    return {"kind": "APIGroupDiscoveryList", "items": items}


@contextmanager
def served(tls: ssl.SSLContext | None = None) -> Iterator[tuple[ApiServer, str]]:
    """Run a server. Yield it with its URL."""
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        """Hands each request to the server."""

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            code, answer = server.answer(Seen(self.command, parts.path, query, body, self.headers["Accept"]))
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of http.server

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, f"{'https' if tls else 'http'}://localhost:{listener.server_port}"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def client(folder: Path, url: str, **cluster: Any) -> Api:
    """Return a client for a server. `cluster` are more fields of the kubeconfig's cluster."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return connect(path)
