# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""One control plane for all tests of a run; every test takes names of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.module_utils.applyset import ApplySet
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import Api, connect

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
def name() -> str:
    """A name that no other test uses."""
    return f"t{next(_NUMBERS)}"


@pytest.fixture
def make_set(kubeconfig: Path, name: str) -> Callable[..., ApplySet]:
    """Function that gives the test's set, as a new run would see it; arguments go to ApplySet."""

    def make(set_name: str = name, **arguments: Any) -> ApplySet:
        return ApplySet(connect(kubeconfig), set_name, **({"timeout": 30.0, "diff": True} | arguments))

    return make
