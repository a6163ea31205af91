# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""One control plane for all tests of a run; every test takes names of its own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import Options
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, connect

import conftest

from .cluster import BINARIES, control_plane, find_binary

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Path of the kubeconfig of a running control plane."""
    if missing := [name for name in BINARIES if find_binary(name) is None]:
        pytest.fail(
            f"{', '.join(missing)} not found: run `ansible-playbook playbooks/artifacts.yml`, or set KUBESCALE_BIN to "
            "a folder that has them",
            pytrace=False,
        )
    with control_plane(tmp_path_factory.mktemp("control-plane")) as path:
        yield path


@pytest.fixture
def api(kubeconfig: Path) -> Api:
    """A fresh client: what the server serves is asked again."""
    return connect(kubeconfig)


@pytest.fixture
def sets_go(kubeconfig: Path) -> Iterator[None]:
    """Removes all sets of the control plane after a test, for tests that look at all of them."""
    yield
    api = connect(kubeconfig)
    for parent in api.list("v1", "ConfigMap", "kube-system", "applyset.kubernetes.io/id").items:
        ApplySet(api, parent["metadata"]["name"], Options(timeout=30.0)).remove()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t{next(_NUMBERS)}"


@pytest.fixture
def make_set(kubeconfig: Path, name: str) -> Callable[..., ApplySet]:
    """Function that gives the test's set, as a new run would see it; arguments go to Options."""

    def make(set_name: str = name, **arguments: Any) -> ApplySet:
        return ApplySet(connect(kubeconfig), set_name, Options(**({"timeout": 30.0, "diff": True} | arguments)))

    return make


@pytest.fixture
def run_playbook(tmp_path: Path, kubeconfig: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs a playbook of the repository against the control plane, as a cluster that is called berlin."""
    inventory = tmp_path / "clusters.yml"
    clusters = {"berlin": {"kubeconfig": str(kubeconfig)}}
    inventory.write_text(yaml.safe_dump({"plugin": "kubescale.fleet.clusters", "clusters": clusters}))
    environment = os.environ | {
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": "1000",
        "KUBESCALE_STATE_DIR": str(tmp_path / "state"),
    }

    def run(playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).parent / "ansible-playbook")
        command = [program, f"playbooks/{playbook}.yml", f"--inventory={inventory}", *arguments]
        return subprocess.run(
            command, cwd=conftest.REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )

    return run
