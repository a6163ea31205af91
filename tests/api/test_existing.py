# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Roles on a cluster whose metrics somebody else serves, without nodes; the scenario of that name has nodes, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import conftest

from .cluster import control_plane, find_binary

THEIRS = conftest.REPOSITORY / "molecule" / "existing" / "files"
ROLES = ["metrics_server", "prometheus_adapter"]
ADOPT = {"adopt": list(ROLES)}
APIS = {"v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io"}
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane that carries the objects of others."""
    with control_plane(tmp_path_factory.mktemp("existing")) as path:
        for file in sorted(THEIRS.glob("*.yml")):
            command = [str(find_binary("kubectl")), f"--kubeconfig={path}", "apply", f"--filename={file}"]
            subprocess.run(command, check=True, capture_output=True)
        yield path


@pytest.fixture(scope="module")
def run(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Function that runs plays on the control plane; gives the results of all tasks."""
    folder = tmp_path_factory.mktemp("play")
    inventory = {"plugin": "kubescale.fleet.clusters", "clusters": {"existing": {"kubeconfig": str(kubeconfig)}}}
    (folder / "clusters.yml").write_text(yaml.safe_dump(inventory))
    play = {
        "hosts": "clusters",
        "gather_facts": False,
        "module_defaults": {"kubescale.fleet.apply_set": {"wait": False}},
        "roles": [{"role": f"kubescale.fleet.{role}", "tags": [role]} for role in ROLES],
    }
    preflight = {"import_playbook": str(conftest.REPOSITORY / "playbooks" / "preflight.yml")}
    (folder / "roles.yml").write_text(json.dumps([play]))
    (folder / "site.yml").write_text(json.dumps([preflight, play]))

    def run(*arguments: str, playbook: str = "site", **variables: Any) -> list[dict[str, Any]]:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), f"--inventory={folder}/clusters.yml"]
        # Nobody serves the kinds of a Prometheus operator here.
        everywhere = {"prometheus_state": "absent", **variables}
        command += [*arguments, f"--extra-vars={json.dumps(everywhere)}", str(folder / f"{playbook}.yml")]
        environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        ended = subprocess.run(
            command, cwd=conftest.REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        output, _ = json.JSONDecoder().raw_decode(ended.stdout, ended.stdout.index("{\n"))
        return [result for play in output["plays"] for task in play["tasks"] for result in task["hosts"].values()]

    return run


def foreign(results: list[dict[str, Any]]) -> set[str]:
    """Names of the objects of others that stood in the way."""
    return {entry["name"] for result in results for entry in result.get("foreign", [])}


def changes(results: list[dict[str, Any]]) -> dict[str, str]:
    """What was done, or would be, by kind and name."""
    return {
        f"{entry['kind']} {entry['name']}": entry["action"]
        for result in results
        for entry in result.get("objects", [])
        if entry["action"] != "unchanged"
    }


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_the_apis_of_others_stop_a_run_in_preflight(run: Run, arguments: list[str]) -> None:
    results = run(*arguments)
    assert foreign(results) == APIS
    assert [result for result in results if result.get("changed")] == []
    assert "adopt=metrics_server" in results[-1]["msg"]
    assert "prometheus_adapter_state" in results[-1]["msg"]


def test_only_the_roles_of_the_run_count(run: Run) -> None:
    assert foreign(run("--tags", "metrics_server")) == {"v1beta1.metrics.k8s.io"}
    results = run("--tags", "metrics_server", metrics_server_state="absent")
    assert (foreign(results), changes(results)) == (set(), {})


def test_without_preflight_the_role_refuses(run: Run) -> None:
    results = run(playbook="roles")
    assert {"v1beta1.metrics.k8s.io", "metrics-server", "system:metrics-server"} <= foreign(results)
    assert changes(results) == {}


def test_adoption_is_predicted_and_happens_once(run: Run) -> None:
    predicted = run("--check", **ADOPT)
    results = run(**ADOPT)
    assert [result["msg"] for result in [*predicted, *results] if result.get("failed")] == []
    assert changes(predicted) == changes(results)
    done = changes(results)
    assert {name for name, action in done.items() if action == "adopted"} == {
        *(f"APIService {name}" for name in APIS),
        "ClusterRole system:metrics-server",
        "ClusterRoleBinding metrics-server:system:auth-delegator",
        "ClusterRoleBinding system:metrics-server",
        "Deployment metrics-server",
        "RoleBinding metrics-server-auth-reader",
        "Service metrics-server",
        "ServiceAccount metrics-server",
    }
    unused = [(entry["kind"], entry["name"]) for result in results for entry in result.get("unused", [])]
    assert sorted(unused) == [("Deployment", "their-adapter"), ("Service", "their-adapter")]
    for variables in (ADOPT, {}):
        results = run(**variables)
        assert [result for result in results if result.get("failed")] == []
        assert changes(results) == {}
