"""Everything came from the bundle: the machines reach nothing else, and nothing tried to."""

from __future__ import annotations

import errno
import json

import pytest
import testinfra
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import bundle, bundle_reader
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from playbook_runs import REPOSITORY, run_playbook
from testinfra.host import Host

HOME = REPOSITORY / ".state" / "airgapped"
# An address for documentation: what has no way there has no way to anywhere else.
CONNECT = (
    """python3 -c "import socket; s = socket.socket(); s.settimeout(5); print(s.connect_ex(('192.0.2.1', 443)))" """
)


@pytest.fixture(params=["airgapped-cp1", "airgapped-w1"])
def machine(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host(f"podman://{request.param}")


@pytest.fixture(scope="module")
def cache() -> Cache:
    """The cache of the controller at the site without internet."""
    return Cache(HOME / "cache", versioned_pins(None), machine_architecture())


def test_machines_reach_nothing_else(machine: Host) -> None:
    assert json.loads(machine.check_output("ip -json route show default")) == []
    assert int(machine.check_output(CONNECT)) == errno.ENETUNREACH


def test_machines_do_not_see_the_cache(machine: Host) -> None:
    assert not machine.mount_point("/var/cache/kubescale").exists


def test_no_image_was_pulled() -> None:
    events = kube.connect(HOME / "kubeconfig").list("v1", "Event").items
    reasons = {event["reason"] for event in events}
    assert "Pulled" in reasons
    assert reasons & {"Pulling", "BackOff"} == set()


def test_the_cache_holds_what_the_bundle_held_and_nothing_else(cache: Cache) -> None:
    found = bundle_reader.read_bundle(HOME / "bundle.tar.zst")
    carried = {name.removeprefix(f"{bundle.CACHE}/") for name in found.sums if name.startswith(f"{bundle.CACHE}/")}
    folders = [cache.directory / name for name in ("artifacts", "images", "layers")]
    there = {
        str(path.relative_to(cache.directory)) for folder in folders for path in folder.rglob("*") if path.is_file()
    }
    assert there == carried


def test_nothing_is_left_to_unpack() -> None:
    run = run_playbook("artifacts")
    assert run.returncode == 0, run.messages()
    assert run.total("changed") == 0
