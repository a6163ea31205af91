# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Each benchmark on its smallest input: every figure is there, and every run changed what it should."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import connect

from conftest import REPOSITORY
from tests.benchmarks import apply_set, bench, fleet, rerun

from .cluster import control_plane, find_binary


def test_apply_set_and_its_peers_change_something_once() -> None:
    ways = apply_set.figures(apply_set.Size(maps=1, components=1, looped=2, tasks=1, rounds=1))
    assert {name: way.changes for name, way in ways.items()} == {
        "apply-set": [1, 0],
        "k8s": [1, 0],
        "k8s-loop": [1, 0],
    }
    table = bench.table({"apply_set": {name: asdict(way) for name, way in ways.items()}})
    assert sum(", k8s " in line for line in table) == 4


def test_a_fleet_of_one_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A short sample of an idle cluster would be a guess, a long one takes time.
    monkeypatch.setattr(fleet, "idle_requests", lambda _kubeconfig: 0.0)
    first, again = fleet.measure(1, tmp_path, converged_runs=1, forks=1)
    assert (first.run, again.run) == ("from scratch", "converged")
    assert first.changed > again.changed == 0
    for found in (first, again):
        figures = [found.seconds, found.controller, found.servers, found.memory, found.requests]
        assert all(figure > 0 for figure in figures), found
        assert len(found.slowest) == 6
    assert len(fleet.table([first, again]).splitlines()) == 3


def test_two_checkouts_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One playbook, which applies nothing to a cluster that exists already, but a ConfigMap in the other checkout.
    for names in ("PLAYBOOKS", "FORMER_PLAYBOOKS"):
        monkeypatch.setattr(fleet, names, ("cluster",))
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}}
    arguments = {"name": "other", "kubeconfig": "{{ cluster_kubeconfig }}", "definition": config_map}
    task = {"name": "Apply", "kubescale.fleet.apply_set": arguments}
    other = tmp_path / "other"
    (other / "playbooks").mkdir(parents=True)
    for name in ("ansible.cfg", "collections"):
        (other / name).symlink_to(REPOSITORY / name)
    (other / "playbooks/cluster.yml").write_text(
        json.dumps([{"name": "Other", "hosts": "clusters", "gather_facts": False, "tasks": [task]}])
    )
    ours, theirs = found = rerun.compare([REPOSITORY, other], tmp_path / "runs", runs=1)
    assert [each.run for each in ours] == [each.run for each in theirs] == ["from scratch", "converged"]
    assert [each.changed for each in ours] == [0, 0]
    assert [each.changed for each in theirs] == [1, 0]
    assert len(rerun.table(found).splitlines()) == 1 + 2 * len(rerun.FIGURES)
    with pytest.raises(RuntimeError):
        rerun.table([ours, theirs[::-1]])


def test_the_shell_script_gets_objects_that_a_cluster_accepts_and_the_observer_waits_for(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", tmp_path / "cluster"
    work.mkdir()
    folder.mkdir()
    objects = bench.write_work(work)
    assert all((work / f"images.{name}").read_text() for name in ("first", "later", "worker"))
    assert all(len(line.split()) == 3 for line in (work / "binaries").read_text().splitlines())
    with control_plane(folder) as kubeconfig:

        def kubectl(*arguments: str) -> None:
            command = [str(find_binary("kubectl")), f"--kubeconfig={kubeconfig}", f"--cache-dir={tmp_path}", *arguments]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
            assert ended.returncode == 0, ended.stderr

        for name in ("network", "crds", "objects", "resources"):
            kubectl("apply", "--server-side", f"--filename={work}/{name}.json")
            if name == "crds":
                kubectl("wait", "--for=condition=Established", f"--filename={work}/crds.json", "--timeout=60s")
        api = connect(kubeconfig)
        for item in objects:
            metadata = item["metadata"]
            assert api.get(item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace")), metadata
        observer = bench.Observer(bench.Observation("shell", 0.0), objects, kubeconfig)
        assert not observer.look(api)
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        for machine in bench.MACHINES:
            api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": machine}}, "test")
            api.patch("v1", "Node", machine, ready, None, "status")
        assert not observer.look(api)
    assert list(observer.observation.parts) == ["API server answers", "all nodes Ready"]
    assert {kind for kind, _namespace, _name in observer.workloads} == {"DaemonSet", "Deployment", "StatefulSet"}
    assert observer.services
    assert observer.autoscalers
