# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The collection as a user gets it: built, and installed where no file of the repository is in reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.api.cluster import control_plane

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
Command = Callable[..., subprocess.CompletedProcess[str]]


def content(folder: Path) -> dict[str, int]:
    """All files below a folder, and when they were changed (nanoseconds).

    Without Python's bytecode, which Python keeps where it may and does without elsewhere.
    """
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that `ansible-galaxy collection build` makes of the repository."""
    folder = tmp_path_factory.mktemp("archive")
    command = [str(PROGRAMS / "ansible-galaxy"), "collection", "build", "--output-path", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def collections(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of collections with ours alone in it. Nothing may write there: it may be read-only."""
    folder = tmp_path_factory.mktemp("collections")
    command = [str(PROGRAMS / "ansible-galaxy"), "collection", "install", "--offline", "--no-deps"]
    # Not beside the repository's ansible.cfg, and nowhere near its collections.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path_factory.mktemp("home"))}
    command += [str(archive), "--collections-path", str(folder)]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    before = content(folder)
    yield folder
    assert content(folder) == before, "a run wrote into the installed collection"


@pytest.fixture(scope="session")
def installed(collections: Path) -> Path:
    """Folder of the installed collection."""
    return collections / "ansible_collections/kubescale/fleet"


@pytest.fixture
def command(collections: Path, installed: Path, tmp_path: Path) -> Command:
    """Function that runs one of Ansible's programs as a user does: own folder, the example's settings."""
    settings = (installed / "inventory/example/ansible.cfg").read_text(encoding="utf-8")
    (tmp_path / "ansible.cfg").write_text(settings, encoding="utf-8")

    def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "1000",
            # The collections that ours depends on come with the PyPI package `ansible`, where Python finds them itself.
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            **variables,
        }
        return subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def write_inventory(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes clusters.yml and group_vars/all.yml into the user's folder."""

    def write(clusters: dict[str, object], **variables: object) -> Path:
        text = yaml.safe_dump({"plugin": "kubescale.fleet.clusters", "clusters": clusters})
        (tmp_path / "clusters.yml").write_text(text, encoding="utf-8")
        (tmp_path / "group_vars").mkdir()
        (tmp_path / "group_vars/all.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
        return tmp_path / "clusters.yml"

    return write


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Path of the kubeconfig of a running control plane."""
    with control_plane(tmp_path_factory.mktemp("control-plane")) as path:
        yield path
