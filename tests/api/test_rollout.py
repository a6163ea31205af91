# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""A rollout over three clusters of which one is ill: the others finish, the report is true, the next run repairs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import connect

import conftest

from .cluster import Authority, control_plane
from .fault_proxy import FaultProxy, fault_proxy

RINGS = {"near": 0, "far": 0, "next": 1}
# What a rollout does on a cluster, with one small set in place of site.yml.
CHILD = """
- import_playbook: kubescale.fleet.preflight
- hosts: clusters
  gather_facts: false
  module_defaults:
    kubescale.fleet.gate: &cluster
      kubeconfig: "{{ cluster_kubeconfig }}"
      prometheus: none
      state_dir: "{{ cluster_state_dir }}"
  tasks:
    - kubescale.fleet.gate: {state: before}
    - kubescale.fleet.apply_set:
        kubeconfig: "{{ cluster_kubeconfig }}"
        name: rolled-out
        definition:
          - {apiVersion: v1, kind: Namespace, metadata: {name: rolled-out}}
          - apiVersion: v1
            kind: ConfigMap
            metadata: {name: settings, namespace: rolled-out}
            data: {value: "{{ value }}"}
    - kubescale.fleet.gate: {timeout: 10, soak: "{{ rollout_soak }}"}
"""
PARENT = """
- import_playbook: kubescale.fleet.inputs
- hosts: clusters
  gather_facts: false
  tasks:
    - kubescale.fleet.rollout:
        playbook: "{{ playbook_dir }}/child.yml"
      run_once: true
"""


class Servers(NamedTuple):
    """Three clusters. ``authority`` signs for the second, before which the proxy stands."""

    kubeconfigs: dict[str, Path]
    authority: Authority
    proxy: FaultProxy


class Fleet:
    """The clusters as an inventory of its own for each test, and the playbook that rolls out to them."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.folder = folder
        self.servers = servers
        self.consist_of(RINGS)
        (folder / "rollout.yml").write_text(PARENT)
        (folder / "child.yml").write_text(CHILD)
        for name in ("near", "next"):
            self.lead(name, yaml.safe_load(servers.kubeconfigs[name].read_text()))
        self.lead("far", servers.proxy.kubeconfig())
        (folder / "group_vars").mkdir()
        # What this cluster shall be differs from test to test.
        variables = {"value": folder.name, "rollout_soak": 0, "prometheus_state": "absent", "demo_app_state": "absent"}
        (folder / "group_vars/all.yml").write_text(yaml.safe_dump(variables))

    def consist_of(self, names: Iterable[str]) -> None:
        """Write the inventory of some of the clusters."""
        clusters = {name: {"ring": RINGS[name], "kubeconfig": f"{name}.kubeconfig"} for name in names}
        content = {"plugin": "kubescale.fleet.clusters", "clusters": clusters}
        (self.folder / "clusters.yml").write_text(yaml.safe_dump(content))

    def lead(self, name: str, kubeconfig: dict[str, Any]) -> None:
        """Have a cluster's kubeconfig lead somewhere."""
        (self.folder / f"{name}.kubeconfig").write_text(yaml.safe_dump(kubeconfig))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"KUBESCALE_STATE_DIR": str(self.folder / "state"), "ANSIBLE_NOCOLOR": "1"}
        command = [str(Path(sys.executable).with_name("ansible-playbook")), str(self.folder / "rollout.yml")]
        return subprocess.Popen(
            [*command, "-i", str(self.folder / "clusters.yml"), *arguments],
            cwd=conftest.REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _unused = process.communicate(timeout=300)
        return process.returncode, " ".join(said.split())

    @property
    def clusters(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.folder / "state/fleet.d/rollout.json").read_text())["clusters"]  # type: ignore[no-any-return]

    @property
    def states(self) -> dict[str, str]:
        return {name: entry["state"] for name, entry in self.clusters.items()}

    @property
    def values(self) -> set[str]:
        """Clusters that are as this test wants them."""
        found = set()
        for name, kubeconfig in self.servers.kubeconfigs.items():
            live = connect(kubeconfig).get("v1", "ConfigMap", "settings", "rolled-out")
            if live and live["data"]["value"] == self.folder.name:
                found.add(name)
        return found

    def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                if what():
                    return
            time.sleep(0.1)
        raise AssertionError("it did not come to pass")

    def repair(self) -> str:
        """Run again with everything well; the cluster that was ill is the one that is worked on."""
        self.servers.proxy.heal()
        status, said = self.run()
        assert status == 0, said
        assert set(self.states.values()) == {"passed"}
        assert self.values == set(RINGS)
        return said


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        folders = {name: tmp_path_factory.mktemp(name) for name in RINGS}
        authority = Authority(folders["far"])
        kubeconfigs = {
            name: stack.enter_context(control_plane(folder, authority if name == "far" else None))
            for name, folder in folders.items()
        }
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        for kubeconfig in kubeconfigs.values():
            api = connect(kubeconfig)
            api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"}}, "test")
            api.patch("v1", "Node", "w1", ready, None, "status")
        yield Servers(kubeconfigs, authority, stack.enter_context(fault_proxy(kubeconfigs["far"])))


@pytest.fixture
def fleet(tmp_path: Path, servers: Servers) -> Iterator[Fleet]:
    servers.proxy.heal()
    made = Fleet(tmp_path, servers)
    yield made
    servers.proxy.heal()
    listing = subprocess.run(["ps", "-Aww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    assert [line for line in listing.splitlines() if str(tmp_path) in line] == []


def ill(fleet: Fleet, fault: str) -> None:
    """Make the second cluster ill."""
    proxy = fleet.servers.proxy
    if fault == "refuses":
        proxy.stop()
    elif fault == "expired credentials" or fault == "wrong credentials":
        kubeconfig = yaml.safe_load(fleet.servers.kubeconfigs["far"].read_text())
        if fault == "wrong credentials":
            kubeconfig["users"][0]["user"] = {"token": "no-such-token"}
        else:
            certificate, key = fleet.servers.authority.issue("old-admin", "system:masters", expired=True)
            kubeconfig["users"][0]["user"] = {"client-certificate": str(certificate), "client-key": str(key)}
        fleet.lead("far", kubeconfig)
    else:
        proxy.fault = fault


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refuses", "cannot be reached: Connection refused"),
        ("hangs", "gave no answer within"),
        ("500", "ill on purpose (500)"),
        ("429", "ill on purpose (429)"),
        ("500 on writes", "ill on purpose (500)"),
        ("expired credentials", "its client certificate expired on"),
        ("wrong credentials", "Unauthorized"),
    ],
)
def test_one_ill_cluster_is_told_halts_before_the_next_ring_and_is_repaired(
    fleet: Fleet, fault: str, words: str
) -> None:
    ill(fleet, fault)
    begin = time.monotonic()
    status, said = fleet.run()
    assert status == 2, said
    assert time.monotonic() - begin < 240
    assert fleet.states == {"near": "passed", "far": "failed", "next": "waiting"}, said
    assert words in fleet.clusters["far"]["reason"]
    assert words in said
    assert fleet.values == {"near"}
    if "credentials" in fault:
        fleet.lead("far", fleet.servers.proxy.kubeconfig())
    said = fleet.repair()
    assert "continues; clusters that already passed: near" in said


def test_a_slow_cluster_holds_up_its_ring_and_nothing_overtakes_it(fleet: Fleet) -> None:
    ill(fleet, "slow")
    status, said = fleet.run("-e", "rollout_parallel=1")
    assert status == 0, said
    near, far, after = (fleet.clusters[name] for name in RINGS)
    # One at a time was asked for, in the order of the inventory.
    assert far["ended"] <= near["started"]
    assert near["ended"] <= after["started"]
    assert far["seconds"] > near["seconds"] + 5 * FaultProxy.SLOW
    assert fleet.values == set(RINGS)


def test_a_second_rollout_changes_nothing(fleet: Fleet) -> None:
    assert fleet.run()[0] == 0
    status, said = fleet.run("-e", "rollout_soak=600")  # which a cluster that was not changed need not hold
    assert status == 0, said
    assert [entry["changed"] for entry in fleet.clusters.values()] == [0, 0, 0]


def test_a_rollout_killed_in_the_middle_of_a_ring_goes_on(fleet: Fleet) -> None:
    ill(fleet, "slow")
    process = fleet.start()
    fleet.until(lambda: fleet.states["near"] == "passed" and fleet.states["far"] == "running")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    fleet.until(lambda: fleet.states["far"] == "interrupted")
    before = fleet.servers.proxy.requests
    said = fleet.repair()
    assert before > 0
    assert "continues; clusters that already passed: near" in said


def test_a_cluster_that_leaves_the_inventory_is_left_alone_and_can_come_back(fleet: Fleet) -> None:
    ill(fleet, "refuses")
    assert fleet.run()[0] == 2
    fleet.servers.proxy.heal()
    before = fleet.servers.proxy.requests
    fleet.consist_of(name for name in RINGS if name != "far")
    status, said = fleet.run()
    assert status == 0, said
    assert "Not in this rollout, so they stay as the last one left them: far (failed)" in said
    assert fleet.states == {"near": "passed", "next": "passed"}
    assert fleet.values == {"near", "next"}
    assert fleet.servers.proxy.requests == before
    fleet.consist_of(RINGS)
    fleet.repair()
