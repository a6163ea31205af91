# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""One run at a time on a cluster, and on the right one, against a real API server."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import lease
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.lease import Holder, LeaseError, LostError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, connect

REPOSITORY = Path(__file__).resolve().parents[2]
LEASE = ("coordination.k8s.io/v1", "Lease", lease.NAME, lease.NAMESPACE)
ONE, OTHER = Holder("ann@one (process 1)", "somewhere/1/1/1"), Holder("bob@two (process 1)", "elsewhere/1/1/1")


@pytest.fixture(autouse=True)
def no_lease(api: Api) -> Iterator[None]:
    """Every test begins and ends with a cluster that no run has seen."""
    api.delete(*LEASE)
    yield
    api.delete(*LEASE)


def age(api: Api, seconds: int) -> None:
    """Make the lease as old as if it had not been renewed for so long."""
    found = api.get(*LEASE)
    assert found is not None
    renewed = time.gmtime(time.time() - seconds)
    api.patch(*LEASE[:3], {"spec": {"renewTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", renewed)}}, LEASE[3])


def test_second_run_is_refused_with_the_holder_named(api: Api) -> None:
    lease.take(api, "berlin", ONE)
    with pytest.raises(
        LeaseError, match=r"ann@one \(process 1\) works on this cluster since .* its lease ends by itself in \d+ s"
    ):
        lease.take(api, "berlin", OTHER)
    assert lease.check(api, "berlin") == ONE.identity


def test_lease_is_free_after_its_end(api: Api) -> None:
    held = lease.take(api, "berlin", ONE)
    lease.renew(api, held)
    lease.release(api, held)
    assert lease.check(api, "berlin") == ""
    lease.take(api, "berlin", OTHER)


def test_stale_lease_expires(api: Api) -> None:
    held = lease.take(api, "berlin", ONE)
    age(api, lease.DURATION - 5)
    with pytest.raises(LeaseError):
        lease.take(api, "berlin", OTHER)
    age(api, lease.DURATION + 1)
    lease.take(api, "berlin", OTHER)
    with pytest.raises(LostError, match=r"bob@two \(process 1\) has it now"):
        lease.renew(api, held)
    with pytest.raises(LostError):
        lease.release(api, held)
    assert lease.check(api, "berlin") == OTHER.identity


def test_lease_of_a_dead_process_of_this_machine_is_free_at_once(api: Api) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        lease.take(api, "berlin", lease.this_run(process.pid))
        with pytest.raises(LeaseError):
            lease.take(api, "berlin", OTHER)
        process.kill()
    lease.take(api, "berlin", OTHER)


def test_same_names_in_another_container_are_another_run(api: Api) -> None:
    lease.take(api, "berlin", ONE)
    with pytest.raises(LeaseError):
        lease.take(api, "berlin", Holder(ONE.identity, "another/1/1/1"))


def test_other_cluster_is_refused_unless_renamed(api: Api) -> None:
    lease.release(api, lease.take(api, "berlin", ONE))
    for attempt in (lease.check, lambda *arguments: lease.take(arguments[0], arguments[1], OTHER)):
        with pytest.raises(LeaseError, match="leads to cluster berlin, not to munich"):
            attempt(api, "munich")
    lease.release(api, lease.take(api, "munich", OTHER, renamed_from="berlin"))
    with pytest.raises(LeaseError, match="leads to cluster munich, not to berlin"):
        lease.take(api, "berlin", ONE)


# -- whole runs ------------------------------------------------------------------------------------------------------


def write_inventory(folder: Path, kubeconfig: Path, cluster: str = "berlin") -> Path:
    content = {"plugin": "kubescale.fleet.clusters", "clusters": {cluster: {"kubeconfig": str(kubeconfig)}}}
    file = folder / "inventory" / "clusters.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file.parent


def start(inventory: Path, playbook: Path | str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(playbook)]
    settings = {**os.environ, "KUBESCALE_STATE_DIR": str(inventory.parent / "state"), **environment}
    with log.open("wb") as output:
        # Tests in the background of a shell ignore SIGINT, and so would what they start.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=settings, stdout=output, stderr=subprocess.STDOUT, preexec_fn=heed
        )


def words_of(log: Path) -> str:
    """What a run said, on one line: versions of Ansible break lines at other places."""
    return " ".join(log.read_text(encoding="utf-8").split())


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """A playbook that takes the lease, notes that it is at work, and waits for a file."""
    command = f"touch {tmp_path / 'working'}; until test -e {tmp_path / 'go'}; do sleep 0.1; done"
    tasks: list[dict[str, Any]] = [{"name": "Work", "ansible.builtin.shell": command}]
    plays = [
        {"name": "Lease", "ansible.builtin.import_playbook": str(REPOSITORY / "playbooks/lease.yml")},
        {"name": "Work", "hosts": "clusters", "gather_facts": False, "tasks": tasks},
    ]
    file = tmp_path / "busy.yml"
    file.write_text(yaml.safe_dump(plays), encoding="utf-8")
    yield file
    # Ends what runs that were interrupted have left waiting.
    (tmp_path / "go").touch()


def wait_until_held(api: Api) -> str:
    """Identity of the run that gets the lease."""
    for event in api.watch(*LEASE[:2], LEASE[3], timeout=60):
        if event.object["metadata"]["name"] == lease.NAME and (holder := event.object["spec"].get("holderIdentity")):
            return str(holder)
    pytest.fail("nobody took the lease")


def wait_until_working(folder: Path) -> None:
    """Past the results of tasks: Ansible can hang if it is interrupted while one of its workers reports."""
    end = time.monotonic() + 60
    while not (folder / "working").exists():
        assert time.monotonic() < end, words_of(folder / "first.log")
        time.sleep(0.1)


def test_two_runs_at_once(api: Api, kubeconfig: Path, busy: Path, tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, kubeconfig)
    first = start(inventory, busy, tmp_path / "first.log")
    holder = wait_until_held(api)
    assert f"(process {first.pid})" in holder
    second = start(inventory, busy, tmp_path / "second.log")
    assert second.wait(60) == 2
    assert holder in words_of(tmp_path / "second.log")
    (tmp_path / "go").touch()
    assert first.wait(60) == 0, words_of(tmp_path / "first.log")
    assert lease.check(api, "berlin") == ""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_run_after_an_interrupted_one(
    api: Api, kubeconfig: Path, busy: Path, tmp_path: Path, end: signal.Signals
) -> None:
    inventory = write_inventory(tmp_path, kubeconfig)
    first = start(inventory, busy, tmp_path / "first.log")
    wait_until_working(tmp_path)
    first.send_signal(end)
    first.wait(60)
    (tmp_path / "go").touch()
    assert start(inventory, busy, tmp_path / "second.log").wait(60) == 0


def test_run_renews_its_lease_and_stops_when_it_is_lost(api: Api, kubeconfig: Path, busy: Path, tmp_path: Path) -> None:
    run = start(write_inventory(tmp_path, kubeconfig), busy, tmp_path / "run.log")
    wait_until_held(api)
    age(api, lease.DURATION - 20)
    for event in api.watch(*LEASE[:2], LEASE[3], timeout=lease.RENEWAL + 10):
        renewed = time.mktime(time.strptime(event.object["spec"]["renewTime"][:19], "%Y-%m-%dT%H:%M:%S"))
        if renewed > time.mktime(time.gmtime()) - 15:
            break
    age(api, lease.DURATION + 20)
    lease.take(api, "berlin", OTHER)
    run.wait(lease.RENEWAL + 30)
    assert run.returncode != 0
    assert "has it now. This run stops" in words_of(tmp_path / "run.log")
    assert lease.check(api, "berlin") == OTHER.identity


def test_swapped_kubeconfig_is_refused_before_any_change(api: Api, kubeconfig: Path, tmp_path: Path) -> None:
    lease.release(api, lease.take(api, "munich", ONE))
    before = {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in api.list("v1", "ConfigMap").items
    }
    run = start(write_inventory(tmp_path, kubeconfig), "site.yml", tmp_path / "run.log")
    assert run.wait(120) == 2
    said = words_of(tmp_path / "run.log")
    assert re.search(r"this kubeconfig leads to cluster munich, not to berlin: nothing was changed", said)
    after = {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in connect(kubeconfig).list("v1", "ConfigMap").items
    }
    assert before == after
