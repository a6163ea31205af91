"""A recording behind a server, with the files that playbooks need to run against it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError

from tests.unit.health.recording import Stub

REPOSITORY = Path(__file__).resolve().parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def served(folder: Path, playbook: str) -> Iterator[tuple[Stub, Run, Path]]:
    """Serve a recording. Yield it, a function that runs the playbook, and the cluster's state folder."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                status, answer = 200, {} if self.path == "/version" else stub.raw(self.path)
            except ApiError as error:
                status, answer = error.status, {"kind": "Status", "message": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "berlin", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "berlin", "user": {}}],
        "contexts": [{"name": "berlin", "context": {"cluster": "berlin", "user": "berlin"}}],
        "current-context": "berlin",
    }
    state = folder / "state" / "berlin"
    state.mkdir(parents=True)
    (state / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    inventory = folder / "clusters.yml"
    clusters = {"berlin": {"control_plane": ["w1"]}}
    inventory.write_text(yaml.safe_dump({"plugin": "kubescale.fleet.clusters", "clusters": clusters}))
    variables = folder / "group_vars"
    variables.mkdir()
    given = {"demo_app_state": "absent", "external_metrics_owner": "none", "autoscaled_apps": [stub.entry]}
    (variables / "all.yml").write_text(yaml.safe_dump(given))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBESCALE_STATE_DIR": str(folder / "state"), "ANSIBLE_NOCOLOR": "1"}
        program = str(Path(sys.executable).parent / "ansible-playbook")
        command = [program, f"playbooks/{playbook}.yml", "-i", str(inventory), *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    try:
        yield stub, run, state
    finally:
        server.shutdown()
