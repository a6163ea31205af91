"""Machines: what is found out about them, what keeps them from being nodes, what their services need."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.filter.machine_problems import machine_problems
from ansible_collections.kubescale.fleet.plugins.module_utils.node import (
    admin_certificate,
    certificate_digest,
    node_state,
)
from ansible_collections.kubescale.fleet.plugins.modules import machine_config, machine_facts

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folders(tmp_path):
    kubernetes, state = tmp_path / "kubernetes", tmp_path / "kubescale"
    (kubernetes / "pki").mkdir(parents=True)
    state.mkdir()
    return kubernetes, state


def test_a_bare_machine_is_no_node(folders):
    assert node_state(*folders)["state"] == "none"


def test_a_cluster_that_is_not_ours_is_foreign(folders):
    (folders[0] / "kubelet.conf").write_text("x")
    found = node_state(*folders)
    assert found["state"] == "foreign"
    assert found["foreign"] == [str(folders[0] / "kubelet.conf")]


def test_an_interrupted_attempt_is_told_from_a_finished_one(folders):
    kubernetes, state = folders
    (kubernetes / "kubelet.conf").write_text("x")
    (state / "unfinished.json").write_text(json.dumps({"cluster": "a", "action": "join"}))
    assert (node_state(*folders)["state"], node_state(*folders)["cluster"]) == ("unfinished", "a")
    # Killed between writing the one mark and removing the other: the work was done.
    (state / "node.json").write_text(json.dumps({"cluster": "a", "version": "1.2.3"}))
    assert (node_state(*folders)["state"], node_state(*folders)["version"]) == ("ours", "1.2.3")


def test_a_node_that_was_reset_by_hand_is_bare_again(folders):
    (folders[1] / "node.json").write_text(json.dumps({"cluster": "a", "version": "1.2.3"}))
    assert node_state(*folders)["state"] == "none"


def test_the_administrators_certificate_is_found_in_a_kubeconfig():
    data = base64.b64encode(b"PEM\n").decode()
    text = yaml.safe_dump({"users": [{"name": "a", "user": {"client-certificate-data": data}}]})
    assert admin_certificate(text) == "PEM\n"
    assert certificate_digest("PEM\n") == certificate_digest("PEM")
    assert certificate_digest("") == ""


MACHINE = {
    "architecture": "x86_64",
    "systemd": True,
    "kernel": [6, 1],
    "family": "debian",
    "missing_packages": [],
    "memory_mib": 2000,
    "free_mib": 9000,
    "swap": [],
    "node": {"state": "none", "cluster": "", "foreign": []},
}


def problems(**changes):
    return machine_problems({**MACHINE, **changes}, "demo", memory=1700, disk=4096, tolerate_swap=False)


def test_a_good_machine_has_no_problems():
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "s390x"}, "s390x; supported are x86_64, aarch64"),
        ({"systemd": False}, "systemd"),
        ({"kernel": [3, 10]}, "3.10"),
        ({"family": "", "missing_packages": ["socat"]}, "Debian, Red Hat"),
        ({"memory_mib": 900}, "900 MiB of memory; its part in the cluster needs 1700"),
        ({"free_mib": 10}, "10 MiB are free"),
        ({"swap": ["/dev/sda2"]}, "node_prep_tolerate_swap"),
        ({"node": {"state": "foreign", "cluster": "", "foreign": ["/x"]}}, "/x"),
        ({"node": {"state": "ours", "cluster": "other", "foreign": []}}, "node of cluster other"),
    ],
)
def test_what_keeps_a_machine_from_being_a_node_is_named(changes, said):
    found = problems(**changes)
    assert len(found) == 1
    assert said in found[0]


def test_a_node_may_have_a_full_disk():
    assert problems(free_mib=10, node={"state": "ours", "cluster": "demo", "foreign": []}) == []


def test_swap_may_be_tolerated():
    swapping = {**MACHINE, "swap": ["/dev/sda2"]}
    assert machine_problems(swapping, "demo", memory=1700, disk=4096, tolerate_swap=True) == []


def test_package_families():
    assert machine_facts.package_family(machine_facts.os_release('ID=ubuntu\nID_LIKE="debian"\n')) == "debian"
    assert (
        machine_facts.package_family(machine_facts.os_release('ID="rocky"\nID_LIKE="rhel centos fedora"\n')) == "redhat"
    )
    assert machine_facts.package_family(machine_facts.os_release("ID=arch\n")) == ""


def test_what_the_kernel_says():
    assert machine_facts.meminfo("MemTotal:        2048000 kB\nMemFree: 1 kB\n") == 2000
    assert machine_facts.swap_devices("Filename\tType\tSize\n/dev/sda2 partition 1 0 -2\n") == ["/dev/sda2"]
    assert machine_facts.has_capability("Name:\tinit\nCapBnd:\t000001ffffffffff\n", 24)
    assert not machine_facts.has_capability("Name:\tinit\nCapBnd:\t000001fffeffffff\n", 24)


def unit(active="active", enabled="enabled", started=100.0):
    return {
        "ActiveState": active,
        "UnitFileState": enabled,
        "ExecMainStartTimestampMonotonic": str(int(started * 1e6)),
    }


# The machine booted at 1000 and it is 1200 now, so a start at 100 s of uptime was at 1100.
@pytest.mark.parametrize(
    ("state", "changed_at", "startable", "verbs"),
    [
        (unit(), 1099, True, []),
        (unit(), 1101, True, ["restart"]),
        (unit(active="inactive", enabled="disabled"), 0, True, ["enable", "start"]),
        (unit(active="activating"), 0, True, ["restart"]),
        (unit(active="failed"), 0, True, ["start"]),
        (unit(active="inactive", enabled="disabled"), 0, False, ["enable"]),
        (unit(enabled="static"), 0, True, []),
    ],
)
def test_what_a_service_needs(state, changed_at, startable, verbs):
    assert machine_config.service_action(state, changed_at, now=1200, uptime=200, startable=startable) == verbs


def test_the_newest_file_counts_also_in_folders(tmp_path):
    assert machine_config.newest([str(tmp_path / "missing")]) == 0
    (tmp_path / "a").write_text("x")
    assert machine_config.newest([str(tmp_path)]) >= (tmp_path / "a").stat().st_mtime


def test_the_pause_image_is_the_pinned_one():
    pins = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text())
    variables = yaml.safe_load((REPOSITORY / "roles/node_prep/vars/main.yml").read_text())
    pinned = next(image for image in pins["images"] if image["component"] == "pause")
    tag = pinned["tag"].format(version=pins["components"]["pause"]["version"])
    assert variables["__node_prep_pause_image"] == f"{pinned['repository']}:{tag}"
