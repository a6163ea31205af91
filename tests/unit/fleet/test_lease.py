"""The lease of a cluster without a cluster: whether the process that holds it has ended, and who takes it."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import lease
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.lease import Holder, LeaseError, LostError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError, Resource


class FakeApi:
    """Keeps one Lease like the API server does."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.time = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
        self.version = 0

    def clock(self) -> datetime.datetime:
        return self.time

    def get(self, *_unused: str) -> dict[str, Any] | None:
        return self.lease

    def resource(self, api_version: str, kind: str) -> Resource:
        return Resource(api_version, kind, "leases", True)

    def request(self, method: str, _path: str, _query: Any, body: dict[str, Any]) -> None:
        expected = str(self.version) if self.lease else None
        if (method == "POST") != (self.lease is None) or body["metadata"].get("resourceVersion") != expected:
            raise ApiError("the object has been modified", 409, "Conflict")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}


ONE, OTHER = Holder("ann (process 1)", "x/1/1/1"), Holder("bob (process 2)", "x/1/2/2")


@pytest.fixture
def api() -> Any:
    return FakeApi()


def test_one_run_at_a_time(api: Any) -> None:
    held = lease.take(api, "demo", ONE)
    with pytest.raises(LeaseError, match=r"ann \(process 1\) works on this cluster"):
        lease.take(api, "demo", OTHER)
    assert lease.check(api, "demo") == ONE.identity
    lease.take(api, "demo", ONE)
    lease.release(api, held)
    assert lease.check(api, "demo") == ""
    lease.take(api, "demo", OTHER)
    with pytest.raises(LostError, match="bob"):
        lease.renew(api, held)


def test_a_lease_ends_with_its_duration_and_lasts_with_renewal(api: Any) -> None:
    held = lease.take(api, "demo", ONE, duration=30)
    api.time += datetime.timedelta(seconds=29)
    with pytest.raises(LeaseError):
        lease.take(api, "demo", OTHER)
    api.time += datetime.timedelta(seconds=2)
    lease.take(api, "demo", OTHER)
    with pytest.raises(LostError):
        lease.renew(api, held)


def test_another_cluster_is_refused(api: Any) -> None:
    lease.release(api, lease.take(api, "demo", ONE))
    with pytest.raises(LeaseError, match="leads to cluster demo, not to test"):
        lease.take(api, "test", ONE)
    assert lease.take(api, "test", ONE, renamed_from="demo").cluster == "test"


def test_a_run_that_is_faster_keeps_the_lease(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lease.release(api, lease.take(api, "demo", ONE))
    before = api.lease
    lease.take(api, "demo", OTHER)
    monkeypatch.setattr(api, "get", lambda *_: before)
    with pytest.raises(LeaseError, match="has just taken"):
        lease.take(api, "demo", ONE)


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
