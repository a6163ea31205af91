"""Where things are: what a person is told at the end."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kubescale.fleet.plugins.action import where

SERVICES = [
    {"metadata": {"name": "prometheus-k8s"}, "spec": {"ports": [{"port": 9090, "nodePort": 30090}]}},
    {
        "metadata": {"name": "demo-app"},
        "spec": {"ports": [{"port": 8080, "nodePort": 30080}, {"port": 1, "nodePort": 30081}]},
    },
    {"metadata": {"name": "internal"}, "spec": {"ports": [{"port": 80}]}},
]
NODES = [
    {"status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}]}}
]


def test_published_ports_are_local_others_on_a_node():
    found = where.addresses(SERVICES, NODES, [30080])
    assert found == {"demo-app": "http://127.0.0.1:30080", "prometheus-k8s": "http://10.0.0.1:30090"}


def test_nothing_reachable_is_nothing_told():
    assert where.addresses(SERVICES, [], []) == {}


def test_block_is_aligned_and_paths_are_as_short_as_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert where.shorten(tmp_path / ".state" / "demo" / "report.html") == ".state/demo/report.html"
    assert where.shorten(Path("/etc/hosts")) == "/etc/hosts"
    lines = where.block("demo", "It scales.", {"app": "http://x", "report": "r.html"})
    assert lines == ["", "demo: It scales.", "  app     http://x", "  report  r.html", ""]
