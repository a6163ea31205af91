"""Programs that the collection installs are called by their absolute paths.

With sudo on the Red Hat family, PATH (sudo's secure_path) lacks /usr/local/bin.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.modules import kubeadm, machine_artifacts
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import load_pins

REPOSITORY = Path(__file__).resolve().parents[3]
PINS = load_pins()
INSTALLED = {
    f"{recipe['folder']}/{binary}" for recipe in PINS["machine_files"].values() for binary in recipe["binaries"]
}
IN_IMAGES = {path for image in PINS["images"] for path in image.get("binaries", {}).values()}
NAMES = {Path(path).name for path in INSTALLED | IN_IMAGES}
CODE = sorted(
    file for room in ("action", "modules", "module_utils") for file in (REPOSITORY / "plugins" / room).glob("*.py")
)
TASKS = sorted([*REPOSITORY.glob("roles/*/tasks/*.yml"), *REPOSITORY.glob("playbooks/**/*.yml")])

TEXT_COMMANDS = ("cmd", "ansible.builtin.command", "ansible.builtin.shell")


def bare_commands(source: str) -> list[str]:
    """Return the commands in Python code that begin with a bare name: lists, and texts with arguments."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.List, ast.Tuple)) and node.elts and isinstance(node.elts[0], ast.Constant):
            if node.elts[0].value in NAMES:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if name in ("run_command", "_low_level_execute_command", "get_bin_path", "which"):
                found += [text for text in texts if text.split()[:1] and text.split()[0] in NAMES]
    return found


def commands(value: Any) -> Iterator[str]:
    """Yield the first words of the commands of tasks."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "argv":
                yield str(child[0])
            elif key in TEXT_COMMANDS and isinstance(child, str) and child.split():
                yield child.split()[0]
            yield from commands(child)
    elif isinstance(value, list):
        for child in value:
            yield from commands(child)


def test_the_scan_finds_bare_names():
    assert bare_commands('run_command(["kubeadm", *rest])') == ["['kubeadm', *rest]"]
    assert bare_commands('module.get_bin_path("ctr")') == ["ctr"]
    assert bare_commands('module.run_command("crictl ps")') == ["crictl ps"]
    assert bare_commands('run(["/usr/local/bin/kubeadm", "init"])') == []
    assert list(commands([{"block": [{"ansible.builtin.command": {"argv": ["kubeadm", "init"]}}]}])) == ["kubeadm"]
    assert list(commands({"ansible.builtin.command": "kubectl get nodes"})) == ["kubectl"]


@pytest.mark.parametrize("file", CODE, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_code_calls_installed_programs_by_their_paths(file):
    assert bare_commands(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", TASKS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_tasks_call_installed_programs_by_their_paths(file):
    assert NAMES.isdisjoint(commands(yaml.safe_load(file.read_text(encoding="utf-8"))))


def test_the_paths_are_those_where_programs_are_installed():
    assert {str(kubeadm.KUBEADM), machine_artifacts.CTR[0]} <= INSTALLED
