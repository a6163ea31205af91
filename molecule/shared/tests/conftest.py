"""What the verifier's tests share: the cluster as data."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import testinfra
from independent import Cluster
from playbook_runs import INVENTORY, REPOSITORY
from testinfra.host import Host


@pytest.fixture(scope="session")
def inventory() -> dict[str, Any]:
    """The scenario's inventory as ansible-inventory sees it."""
    command = ["ansible-inventory", f"--inventory={INVENTORY}", "--list"]
    return json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="session")
def cluster(inventory: dict[str, Any]) -> dict[str, Any]:
    """The variables of the scenario's (first) cluster."""
    return inventory["_meta"]["hostvars"][inventory["clusters"]["hosts"][0]]


@pytest.fixture(scope="session")
def api(cluster: dict[str, Any]) -> Cluster:
    """The cluster's API."""
    return Cluster(cluster["cluster_kubeconfig"])


@pytest.fixture(scope="session")
def machines(cluster: dict[str, Any]) -> dict[str, Host]:
    """Each machine of the cluster, by name."""
    names = [*cluster["cluster_control_plane"], *cluster["cluster_workers"]]
    return {name: testinfra.get_host(f"podman://{name}") for name in names}
