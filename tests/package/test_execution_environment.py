# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""ansible-builder understands execution-environment.yml, and finds what the collection needs in its archive."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from .conftest import PROGRAMS, REPOSITORY

BUILDER = str(PROGRAMS / "ansible-builder")


def test_context_has_the_archive_that_gets_installed(archive: Path, tmp_path: Path) -> None:
    for file in (archive, REPOSITORY / "execution-environment.yml"):
        shutil.copy(file, tmp_path)
    subprocess.run([BUILDER, "create"], cwd=tmp_path, check=True, capture_output=True)
    build = tmp_path / "context/_build"
    wanted: dict[str, Any] = yaml.safe_load((build / "requirements.yml").read_text(encoding="utf-8"))
    (ours,) = wanted["collections"]
    assert ours["type"] == "file"
    assert (build / ours["name"]).read_bytes() == archive.read_bytes()


def test_core_is_the_one_of_the_tests() -> None:
    environment = yaml.safe_load((REPOSITORY / "execution-environment.yml").read_text(encoding="utf-8"))
    core = environment["dependencies"]["ansible_core"]["package_pip"]
    assert f"{core} \\" in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()


def test_builder_finds_what_a_run_needs(collections: Path, installed: Path) -> None:
    run = subprocess.run([BUILDER, "introspect", str(collections)], check=True, capture_output=True, text=True)
    found = yaml.safe_load(run.stdout.partition("---")[2])
    for kind, file in (("python", "requirements.txt"), ("system", "bindep.txt")):
        text = (installed / "meta" / file).read_text(encoding="utf-8")
        wanted = [line for line in text.splitlines() if not line.startswith("#")]
        assert found[kind] == [f"{line}  # from collection kubescale.fleet" for line in wanted]
