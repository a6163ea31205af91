#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Runs `ansible-test sanity` on what the collection's archive has; arguments are passed on (as in --test pylint).

ansible-test wants a folder ansible_collections/kubescale/fleet that git knows, and keeps its environments in the home
directory: here that is a folder of the user's cache, so nothing that other projects use is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml
from ansible.release import __version__ as core

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PROGRAMS = Path(sys.executable).parent
# The controller's Python, which is that of this process; modules are imported by it, too.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Version of pip that ansible-test asks for, in the name under which it looks for its script.
BOOTSTRAP = "get_pip_24_2.py"


def ignore_lines(rules: list[dict[str, Any]], collection: Path) -> list[str]:
    """Lines of an ignore file; raises ValueError for a pattern that no file of the collection fits."""
    lines = []
    for entry in rules:
        for pattern in entry["files"]:
            found = {file: str(file.relative_to(collection)) for file in collection.glob(pattern)}
            files = {f"{name}/" if file.is_dir() else name for file, name in found.items()}
            if not files:
                raise ValueError(f"tests/sanity/ignores.yml: no file is {pattern}")
            names = sorted(files - set(entry.get("except", [])))
            lines += [f"{name} {rule} # {entry['reason']}" for name in names for rule in entry["rules"]]
    return lines


def main(arguments: list[str]) -> int:
    """Run the tests; return ansible-test's exit status."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "kubescale-sanity"
    bootstrap = home / ".ansible/test/cache" / BOOTSTRAP
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "bootstrap_pip.py", bootstrap)
    with tempfile.TemporaryDirectory() as temporary:
        build = [str(PROGRAMS / "ansible-galaxy"), "collection", "build", "--output-path", temporary]
        subprocess.run(build, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        collection = Path(temporary) / "ansible_collections/kubescale/fleet"
        (archive,) = Path(temporary).glob("*.tar.gz")
        with tarfile.open(archive) as content:
            content.extractall(collection, filter="data")
        rules = yaml.safe_load((HERE / "ignores.yml").read_text(encoding="utf-8"))
        ignores = collection / f"tests/sanity/ignore-{'.'.join(core.split('.')[:2])}.txt"
        ignores.parent.mkdir(parents=True)
        ignores.write_text("\n".join([*ignore_lines(rules, collection), ""]), encoding="utf-8")
        for git in (["init", "--quiet"], ["add", "--all", "--force"]):
            subprocess.run(["git", *git], cwd=collection, check=True)
        command = [str(PROGRAMS / "ansible-test"), "sanity", "--local", "--python", PYTHON, *arguments]
        environment = os.environ | {"HOME": str(home)}
        return subprocess.run(command, cwd=collection, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
