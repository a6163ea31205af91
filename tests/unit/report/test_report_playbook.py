"""playbooks/report.yml against an API server whose Prometheus answers every query."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.unit.report.test_panels import FakePrometheus

REPOSITORY = Path(__file__).parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run the playbook on a cluster named demo, whose state folder is below ``tmp_path``."""
    prometheus = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/proxy/" in self.path:
                answer = prometheus.raw(self.path)
            elif self.path.endswith("/kube-system"):
                answer = {"metadata": {"uid": "one"}}
            else:
                answer = {"items": []}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "demo", "user": {}}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
        "current-context": "demo",
    }
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    inventory = tmp_path / "clusters.yml"
    clusters = {"demo": {"control_plane": ["demo-cp1"], "workers": ["demo-w1"]}}
    inventory.write_text(yaml.safe_dump({"plugin": "kubescale.fleet.clusters", "clusters": clusters}))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBESCALE_STATE_DIR": str(tmp_path), "ANSIBLE_NOCOLOR": "1"}
        program = str(Path(sys.executable).parent / "ansible-playbook")
        command = [program, "playbooks/report.yml", "-i", str(inventory), *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    yield run
    server.shutdown()
    server.server_close()


def test_panels_are_drawn_and_nothing_changed(run: Run, tmp_path: Path) -> None:
    done = run("-e", "report_minutes=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    panels = json.loads((tmp_path / "demo" / "report.json").read_text())["panels"]
    assert 290 <= panels["end"] - panels["start"] <= 300
    assert "Load against target" in (tmp_path / "demo" / "report.html").read_text()


def test_check_mode_draws_nothing(run: Run, tmp_path: Path) -> None:
    assert run("--check").returncode == 0
    assert not (tmp_path / "demo" / "report.json").exists()


@pytest.mark.parametrize(("minutes", "allowed"), [("0", "1 or more"), ("91", "90 or less")])
def test_minutes_out_of_bounds_are_an_error_that_says_what_is_allowed(run: Run, minutes: str, allowed: str) -> None:
    done = run("-e", f"report_minutes={minutes}")
    assert done.returncode == 2
    assert f"minutes is {minutes}; it must be {allowed}" in done.stdout + done.stderr
