# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What a run says about autoscaled apps before its first change, after a look at their workloads in the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api

import conftest

Preflight = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def preflight(kubeconfig: Path, name: str, tmp_path: Path) -> Preflight:
    """Function that runs playbooks/preflight.yml with an app of the test's own name and namespace."""
    inventory = {"plugin": "kubescale.fleet.clusters", "clusters": {"existing": {"kubeconfig": str(kubeconfig)}}}
    (tmp_path / "clusters.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "group_vars").mkdir()

    def run(*arguments: str, **entry: Any) -> subprocess.CompletedProcess[str]:
        app = {"name": name, "namespace": name, "workload": f"deployment/{name}", **entry}
        (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump({"autoscaled_apps": [app]}))
        program = Path(sys.executable).parent / "ansible-playbook"
        command = [str(program), f"--inventory={tmp_path}/clusters.yml", *arguments, "playbooks/preflight.yml"]
        environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "COLUMNS": "1000"}
        return subprocess.run(
            command, cwd=conftest.REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def workload(api: Api, name: str) -> None:
    """A Deployment of two containers, of which one requests no CPU."""
    containers: list[dict[str, Any]] = [
        {"name": "web", "image": "web", "resources": {"requests": {"cpu": "100m"}}},
        {"name": "side", "image": "side"},
    ]
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    api.request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    body = {"metadata": {"name": name}, "spec": spec}
    api.request("POST", f"/apis/apps/v1/namespaces/{name}/deployments", body=body)


SHARE = {"resource": "cpu", "target": "60%"}


@pytest.mark.usefixtures("workload")
@pytest.mark.parametrize("arguments", [(), ("--check",), ("--tags", "hpa")], ids=["run", "check", "tag"])
def test_a_share_of_a_request_that_is_not_made_stops_the_run(
    preflight: Preflight, name: str, arguments: tuple[str, ...]
) -> None:
    ended = preflight(*arguments, scale_on=SHARE)
    assert ended.returncode != 0
    assert f"all.yml:6): Deployment {name}/{name}: container side requests no cpu" in ended.stdout
    assert "Nothing was changed" in ended.stdout


@pytest.mark.usefixtures("workload")
@pytest.mark.parametrize(
    ("arguments", "scale_on"),
    [
        ((), {"resource": "cpu", "target": "60%", "container": "web"}),
        ((), {"resource": "cpu", "target": "100m"}),
        (("--tags", "prometheus_adapter"), SHARE),
        (("--extra-vars", "hpa_state=absent"), SHARE),
    ],
)
def test_other_runs_go_on(preflight: Preflight, arguments: tuple[str, ...], scale_on: dict[str, Any]) -> None:
    ended = preflight(*arguments, scale_on=scale_on)
    assert ended.returncode == 0, ended.stdout
    assert "Mind:" not in ended.stdout


def test_a_workload_that_may_come_later_is_told(preflight: Preflight, name: str) -> None:
    ended = preflight(scale_on=SHARE)
    assert ended.returncode == 0, ended.stdout
    said = " ".join(ended.stdout.split())
    assert f"Deployment {name}/{name} does not exist yet; the autoscaler waits for it [existing]" in said
