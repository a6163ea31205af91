"""Machines that were set up by SSH are as those that were set up over podman, and keep no files of a run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import testinfra
import yaml
from independent import Cluster
from playbook_runs import REPOSITORY, run_playbook
from testinfra.host import Host

STATE = REPOSITORY / ".state" / "far"
BEHIND = "10.89.96.13"


@pytest.fixture(scope="session")
def machines() -> dict[str, Host]:
    """Each machine, by name."""
    return {name: testinfra.get_host(f"podman://{name}") for name in ("far-cp1", "far-w1", "far-w2")}


@pytest.fixture(scope="session")
def ssh() -> list[str]:
    """The command that reaches a machine without the jump host."""
    folder = STATE / "ssh"
    options = ["IdentitiesOnly=yes", "IdentityAgent=none", "BatchMode=yes", f"UserKnownHostsFile={folder}/known_hosts"]
    return ["ssh", "-F", "/dev/null", "-i", str(folder / "key"), *(part for item in options for part in ("-o", item))]


def test_the_last_worker_is_behind_the_jump_host(ssh: list[str]) -> None:
    assert subprocess.run([*ssh, "operator@10.89.96.12", "true"], check=False).returncode == 0
    assert subprocess.run([*ssh, f"operator@{BEHIND}", "true"], check=False).returncode == 255


def test_the_user_is_not_root_and_sudo_finds_none_of_our_programs(machines: dict[str, Host]) -> None:
    for host in machines.values():
        assert host.user("operator").uid != 0
        path = host.check_output("sudo --non-interactive env | grep ^PATH=")
        assert "/usr/local/bin" not in path


def test_the_same_roles_over_podman_find_nothing_to_change(tmp_path: Path) -> None:
    variables = {
        "ansible_connection": "kubescale.fleet.podman",
        "ansible_host": "{{ inventory_hostname }}",
        "ansible_user": "root",
        "ansible_become": False,
    }
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "nodes.yml").write_text(yaml.safe_dump(variables))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"nodes": {}}))
    run = run_playbook("nodes", f"--inventory={tmp_path}")
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}


def test_nothing_of_a_run_is_left_behind(machines: dict[str, Host]) -> None:
    for host in machines.values():
        left = host.check_output("find /tmp /var/tmp /home/operator /root -path '*ansible*' -type f")
        assert left == ""


def test_the_chain_works() -> None:
    (autoscaler,) = Cluster(str(STATE / "kubeconfig")).list("autoscaling/v2", "HorizontalPodAutoscaler", "demo")
    conditions = {item["type"]: item["status"] for item in autoscaler["status"]["conditions"]}
    assert conditions["ScalingActive"] == "True", json.dumps(autoscaler["status"])
