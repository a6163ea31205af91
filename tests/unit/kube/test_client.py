# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The API client without a cluster: kubeconfig, unreachable and silent servers, answers that are not JSON."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import yaml_io
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import transport
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import (
    ApiError,
    Resource,
    connect,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.kubeconfig import KubeconfigError


def config(server: str = "http://127.0.0.1:1", **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "geheim"}}],
    } | changes


def write(folder: Path, content: Any) -> Path:
    path = folder / "kubeconfig"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds nothing, not a mapping"),
        ("hello", "holds a str, not a mapping"),
        ("a: [1", "not valid YAML"),
        ("[1]", "holds a list"),
        (config(kind="Secret"), "its kind is 'Secret', not 'Config'"),
        ({"kind": "Config"}, "'clusters' must be a list of named entries"),
        (config(users=[{"user": {}}]), "'users' must be a list of named entries"),
        (config(**{"current-context": ""}), "no 'current-context'"),
        (config(**{"current-context": "two"}), "context 'two' is not in it; it has: one"),
        (config(clusters=[]), "names cluster 'c', which is not in it"),
        (config(server="demo:6443"), "has server 'demo:6443'; it must be a URL"),
        (config(clusters=[{"name": "c", "cluster": None}]), "has server None"),
        (config(server="https://a:1", users=[{"name": "u", "user": {"client-certificate": "/no"}}]), "/no"),
        (
            config(clusters=[{"name": "c", "cluster": {"server": "https://a:1", "certificate-authority-data": "x"}}]),
            "certificate-authority-data of cluster 'c' is not base64",
        ),
    ],
)
def test_a_kubeconfig_that_is_not_one_is_named_with_what_is_wrong(tmp_path: Path, content: Any, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(KubeconfigError) as caught:
        connect(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_kubeconfig_and_context(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="does not exist: the cluster was not made yet"):
        connect(tmp_path / "nothing")
    with pytest.raises(KubeconfigError, match="context 'two' is not in it"):
        connect(write(tmp_path, config()), "two")


def test_keys_leave_no_files_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    user = {"client-certificate-data": "eA==", "client-key-data": "eA=="}
    with pytest.raises(KubeconfigError):
        connect(write(tmp_path, config("https://127.0.0.1:1", users=[{"name": "u", "user": user}])))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_paths_of_kinds() -> None:
    pod = Resource("v1", "Pod", "pods", True)
    assert pod.path("a") == "/api/v1/namespaces/a/pods"
    assert pod.path("a", "b") == "/api/v1/namespaces/a/pods/b"
    assert pod.path() == "/api/v1/pods"
    role = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False)
    assert role.path("ignored", "system:node") == "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"
    assert (pod.group_kind, role.group_kind) == ("Pod", "ClusterRole.rbac.authorization.k8s.io")


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ApiError, match=r"cannot be reached: .*refused") as caught:
            connect(write(tmp_path, config(server))).raw("/version")
    assert caught.value.status == 0


def test_a_server_that_hangs_does_not_hang_us(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        api = connect(write(tmp_path, config(f"http://127.0.0.1:{silent.getsockname()[1]}")))
        with pytest.raises(ApiError, match=r"gave no answer within 0\.2 s"):
            api.raw("/version", timeout=0.2)


class Handler(BaseHTTPRequestHandler):
    """Answers by path; remembers the headers it got."""

    answers: ClassVar[dict[str, tuple[int, str, bytes]]] = {}
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        status, content_type, body = self.answers[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    Handler.seen = []
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_answers(tmp_path: Path, server: str) -> None:
    refusal = {"kind": "Status", "message": "no, you may not", "reason": "Forbidden", "details": {"causes": [{"a": 1}]}}
    Handler.answers = {
        "/json": (200, "application/json", b'{"a": 1}'),
        "/text": (200, "text/plain", b'{"a": 1}'),
        "/refused": (403, "application/json", json.dumps(refusal).encode()),
        "/broken": (502, "text/html", b"<h1>proxy</h1>"),
        "/html": (200, "text/html", b"<h1>login</h1>"),
        "/api": (200, "application/json", b'{"kind": "APIVersions"}'),
        "/api/v1/namespaces/demo/services/https:app:web/proxy/health": (200, "text/plain", b"ok"),
    }
    api = connect(write(tmp_path, config(server)))
    assert api.raw("/json") == {"a": 1}
    assert api.raw("/text") == '{"a": 1}'
    assert api.service("demo", "app", "web", "/health", scheme="https") == "ok"
    with pytest.raises(ApiError, match=r"^no, you may not$") as caught:
        api.raw("/refused")
    assert (caught.value.status, caught.value.reason, caught.value.causes) == (403, "Forbidden", [{"a": 1}])
    with pytest.raises(ApiError, match="GET /broken: HTTP 502 Bad Gateway: <h1>proxy</h1>"):
        api.raw("/broken")
    with pytest.raises(ApiError, match="the answer to GET /html is not JSON"):
        api.request("GET", "/html")
    with pytest.raises(ApiError, match="no aggregated discovery"):
        api.resources()
    assert {headers["authorization"] for headers in Handler.seen} == {"Bearer geheim"}


class Restarting(Handler):
    """A server that drops the first connection, then is not ready, then is."""

    drops: ClassVar[int] = 0
    unready: ClassVar[int] = 0

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        if self.path == "/readyz":
            type(self).unready -= 1
            self.send_response(200 if self.unready < 0 else 500)
        elif type(self).drops > 0:
            type(self).drops -= 1
            self.connection.close()
            return
        else:
            self.send_response(503 if self.unready >= 0 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def restarting(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(transport, "_POLL_INTERVAL", 0.01)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Restarting)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_a_restarting_server_is_waited_for_and_asked_again(tmp_path: Path, restarting: str) -> None:
    api = connect(write(tmp_path, config(restarting)), patience=5)
    Restarting.drops, Restarting.unready = 1, 2
    assert api.raw("/version") == ""
    Restarting.drops, Restarting.unready = 0, 2  # it listens again, but refuses what it does not know yet
    assert api.raw("/version") == ""
    # What a POST made may be there: it is not sent twice.
    Restarting.drops, Restarting.unready = 1, 0
    with pytest.raises(ApiError, match="Connection aborted"):
        api.request("POST", "/x", body={})


def test_only_the_patient_wait_and_not_for_ever(tmp_path: Path, restarting: str) -> None:
    path = write(tmp_path, config(restarting))
    Restarting.drops, Restarting.unready = 1, 0
    with pytest.raises(ApiError, match="Connection aborted"):
        connect(path).raw("/version")
    Restarting.drops, Restarting.unready = 1, 10**6
    with pytest.raises(ApiError, match="answers, but is not ready"):
        connect(path, patience=2).raw("/version")


def test_a_server_that_comes_back_is_found(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    Restarting.drops, Restarting.unready = 0, 0
    listeners: list[ThreadingHTTPServer] = []

    def start() -> None:
        listeners.append(ThreadingHTTPServer(("127.0.0.1", port), Restarting))
        listeners[0].serve_forever(0.01)

    later = threading.Timer(2.0, start)  # after the client's own attempts to connect
    later.start()
    assert connect(write(tmp_path, config(f"http://127.0.0.1:{port}")), patience=20).raw("/version") == ""
    listeners[0].shutdown()
    later.join()
    listeners[0].server_close()


def test_discovery_and_watch(tmp_path: Path, server: str) -> None:
    def resource(name: str, kind: str, scope: str = "Namespaced") -> dict[str, Any]:
        return {"resource": name, "responseKind": {"kind": kind}, "scope": scope, "verbs": ["get", "list"]}

    def document(*groups: Any) -> bytes:
        items = [
            {"metadata": {"name": name} if name else {}, "versions": [{"version": "v1", "resources": resources}]}
            for name, resources in groups
        ]
        return json.dumps({"kind": "APIGroupDiscoveryList", "items": items}).encode()

    events = [
        {"type": "ADDED", "object": {"metadata": {"name": "a"}}},
        {"type": "BOOKMARK", "object": {}},
        {"type": "ERROR", "object": {"message": "too old resource version", "code": 410, "reason": "Expired"}},
    ]
    Handler.answers = {
        "/api": (200, "application/json", document(("", [resource("pods", "Pod"), {"resource": "odd"}]))),
        "/apis": (200, "application/json", document(("apps", [resource("deployments", "Deployment")]))),
        "/api/v1/pods": (200, "application/json", "\n".join(map(json.dumps, events)).encode() + b"\n"),
    }
    api = connect(write(tmp_path, config(server)))
    assert set(api.resources()) == {("v1", "Pod"), ("apps/v1", "Deployment")}
    assert api.resources() is api.resources()
    assert len(Handler.seen) == 2
    seen = []
    with pytest.raises(ApiError, match="too old") as caught:
        seen.extend(event.type for event in api.watch("v1", "Pod", timeout=2))
    assert caught.value.status == 410
    with pytest.raises(ApiError, match="does not serve kind Typo of v1"):
        api.list("v1", "Typo")


def test_a_kind_that_was_just_made_can_be_added(tmp_path: Path, server: str) -> None:
    empty = json.dumps({"kind": "APIGroupDiscoveryList", "items": []}).encode()
    Handler.answers = dict.fromkeys(("/api", "/apis"), (200, "application/json", empty))
    api = connect(write(tmp_path, config(server)))
    api.add_resource(Resource("example.com/v1", "Thing", "things", True))
    assert api.resource("example.com/v1", "Thing").plural == "things"
    assert api.get("example.com/v1", "Other", "a") is None


def test_yaml_is_read_by_libyaml() -> None:
    assert yaml_io.YAML_LOADER.__name__ == "CSafeLoader"
