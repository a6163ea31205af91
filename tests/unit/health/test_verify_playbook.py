"""The verify role as a person runs it: ansible-playbook against a server that answers from the recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.health import test_checks as recorded

REPOSITORY = Path(__file__).resolve().parents[3]


def with_pods_and_nodes(answers: dict[str, Any]) -> dict[str, Any]:
    """The recording, with what only the report reads."""
    for pod in answers[recorded.verify.PODS]["items"]:
        pod["spec"] = {"containers": [{"image": "localhost/kubescale/demo-app:0.1.0"}]}
    info = {
        "kubeletVersion": "v1.37.0",
        "containerRuntimeVersion": "containerd://2.3.4",
        "osImage": "Debian",
        "kernelVersion": "6.18",
    }
    for node in answers[recorded.verify.NODES]["items"]:
        node["metadata"]["labels"] = (
            {"node-role.kubernetes.io/control-plane": ""} if "cp" in node["metadata"]["name"] else {}
        )
        node["status"]["nodeInfo"] = info
    answers["/api/v1/namespaces/kube-system"] = {"metadata": {"uid": "one"}}
    return answers


@pytest.fixture
def served(tmp_path):
    """Serves a recording; gives its answers, to be changed, and a function that runs the playbook."""
    answers = with_pods_and_nodes(recorded.healthy())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            found = answers.get(self.path)
            body = json.dumps(
                found if found is not None else {"kind": "Status", "message": f"{self.path} not found"}
            ).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = {"cluster": "demo", "user": "demo"}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "demo", "user": {}}],
        "contexts": [{"name": "demo", "context": context}],
        "current-context": "demo",
    }
    state = tmp_path / "state" / "demo"
    state.mkdir(parents=True)
    (state / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    machines = {"control_plane": ["demo-cp1"], "workers": ["demo-w1", "demo-w2"]}
    inventory = tmp_path / "clusters.yml"
    inventory.write_text(yaml.safe_dump({"plugin": "kubescale.fleet.clusters", "clusters": {"demo": machines}}))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBESCALE_STATE_DIR": str(tmp_path / "state"), "ANSIBLE_NOCOLOR": "1"}
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "playbooks/verify.yml",
            "-i",
            str(inventory),
            *arguments,
        ]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    yield answers, run, state
    server.shutdown()


def test_converged_cluster_is_verified_without_a_change(served):
    _, run, state = served
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    report = json.loads((state / "report.json").read_text())
    assert len(report["verify"]["checks"]) > 10
    assert all(check["ok"] for check in report["verify"]["checks"])
    assert report["verify"]["seconds"] < 1.5
    assert [node["roles"] for node in report["nodes"]] == [["control-plane"], ["worker"], ["worker"]]
    assert "Healthy" in (state / "report.html").read_text()


def test_failing_run_lists_every_failed_check_with_reason_and_next_step(served):
    answers, run, state = served
    answers[recorded.verify.AUTOSCALERS]["items"][0]["status"] = recorded.conditions(
        AbleToScale="True", ScalingActive="False"
    )
    answers[recorded.VALUES] = {"items": []}
    done = run("-e", "verify_timeout=1")
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert "2 of 17 checks of demo do not hold" in said
    assert "seen: demo/demo-app: no value for demo-app-1" in said
    assert "why it matters: A pod without a value" in said
    assert f"next: kubectl --kubeconfig {state}/kubeconfig get hpa -A" in said
    assert "Not healthy" in (state / "report.html").read_text()


def test_check_mode_looks_once_warns_and_writes_nothing(served):
    answers, run, state = served
    answers[recorded.VALUES] = {"items": []}
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 17 checks of demo do not hold" in done.stdout + done.stderr
    assert not (state / "report.json").exists()


def test_absent_component_is_not_checked(served):
    answers, run, state = served
    answers[recorded.service_path("monitoring/grafana:3000", "/api/health")] = None
    assert run("-e", "grafana_state=absent").returncode == 0
    checks = json.loads((state / "report.json").read_text())["verify"]["checks"]
    assert "grafana" not in {check["id"] for check in checks}
