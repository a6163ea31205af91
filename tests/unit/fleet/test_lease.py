# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The lease of a cluster, with a small API server in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import lease
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.lease import Holder, LeaseError, LostError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api

from ..kube.api_server import ApiServer, client, served

PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kubescale-fleet"
ONE, OTHER = Holder("ann@one (process 1)", "boot/1/1/1"), Holder("ben@two (process 2)", "boot/1/2/2")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[ApiServer, Api]]:
    with served() as (server, url):
        yield server, client(tmp_path, url)


def test_one_run_at_a_time(cluster: tuple[ApiServer, Api]) -> None:
    server, api = cluster
    assert lease.check(api, "berlin") == ""
    held = lease.take(api, "berlin", ONE)
    with pytest.raises(LeaseError, match="ann@one"):
        lease.take(api, "berlin", OTHER)
    assert lease.check(api, "berlin") == ONE.identity
    acquired = server.objects[PATH]["spec"]["acquireTime"]
    lease.renew(api, held)
    assert server.objects[PATH]["spec"]["acquireTime"] == acquired
    lease.release(api, held)
    assert lease.check(api, "berlin") == ""
    lease.take(api, "berlin", OTHER)
    with pytest.raises(LostError, match="ben@two"):
        lease.renew(api, held)


def test_a_process_of_the_same_name_is_another_run(cluster: tuple[ApiServer, Api]) -> None:
    lease.take(cluster[1], "berlin", ONE)
    with pytest.raises(LeaseError, match="ann@one"):
        lease.take(cluster[1], "berlin", Holder(ONE.identity, OTHER.process))
    lease.take(cluster[1], "berlin", ONE)  # its own lease


def test_a_lease_that_was_not_renewed_is_free(cluster: tuple[ApiServer, Api]) -> None:
    server, api = cluster
    lease.take(api, "berlin", ONE)
    server.objects[PATH]["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    lease.take(api, "berlin", OTHER)
    assert server.objects[PATH]["spec"]["holderIdentity"] == OTHER.identity


def test_the_lease_of_a_process_of_this_machine_that_has_ended_is_free(cluster: tuple[ApiServer, Api]) -> None:
    alive = lease.this_run(os.getpid())
    lease.take(cluster[1], "berlin", alive)
    with pytest.raises(LeaseError):
        lease.take(cluster[1], "berlin", OTHER)
    server, api = cluster
    boot, space, pid, started = alive.process.split("/")
    mark = f"{boot}/{space}/{pid}/{int(started) + 1}"  # another process had this number
    server.objects[PATH]["metadata"]["annotations"][lease.PROCESS_ANNOTATION] = mark
    lease.take(api, "berlin", OTHER)


def test_a_kubeconfig_of_another_cluster_is_refused(cluster: tuple[ApiServer, Api]) -> None:
    server, api = cluster
    lease.release(api, lease.take(api, "berlin", ONE))
    with pytest.raises(LeaseError, match="leads to cluster berlin, not to paris"):
        lease.take(api, "paris", ONE)
    with pytest.raises(LeaseError, match="leads to cluster berlin"):
        lease.check(api, "paris")
    lease.take(api, "paris", ONE, renamed_from="berlin")
    assert server.objects[PATH]["metadata"]["annotations"][lease.CLUSTER_ANNOTATION] == "paris"


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_runs_at_the_same_moment_one_is_refused(
    cluster: tuple[ApiServer, Api], monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    server, api = cluster
    if exists:
        lease.release(api, lease.take(api, "berlin", ONE))
    before = api.get("coordination.k8s.io/v1", "Lease", "kubescale-fleet", "kube-system")
    lease.take(api, "berlin", OTHER)
    monkeypatch.setattr(api, "get", lambda *_: before)
    with pytest.raises(LeaseError, match="another run has just taken"):
        lease.take(api, "berlin", ONE)
    assert server.objects[PATH]["spec"]["holderIdentity"] == OTHER.identity


def test_a_process_that_has_ended_is_dead_and_a_hidden_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = lease.process_mark(os.getpid())
    assert not lease.is_dead(mine)
    assert lease.is_dead(mine.rpartition("/")[0] + "/1")  # another process with its number
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = lease.process_mark(process.pid)
    assert not lease.is_dead(mark)
    with monkeypatch.context() as hidden:
        hidden.setattr(lease, "process_mark", lambda _pid: "")
        assert not lease.is_dead(mark)
    process.communicate(b"\n")
    assert lease.is_dead(mark)
    boot, _space, *rest = mine.split("/")
    assert not lease.is_dead("/".join([boot, "1", *rest]))
    assert not lease.is_dead("")
    monkeypatch.setattr(lease, "BOOT", Path("/does/not/exist"))
    assert not lease.is_dead(mark)
