# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The action that connects first: when it connects to machines, and which Python it runs there."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.kubescale.fleet.plugins.action import reach

FACTS = "uid", "python", "init", "time"


def run(
    command: Any, tags: tuple[str, ...] = ("all",), skip: tuple[str, ...] = (), **variables: Any
) -> tuple[dict[str, Any], list[str]]:
    """Run the action on a machine. Return its result and the commands on the machine."""
    action = object.__new__(reach.ActionModule)
    commands: list[str] = []
    action.variables = {
        "inventory_hostname": "w1",
        "group_names": ["nodes", "workers"],
        "ansible_run_tags": list(tags),
        "ansible_skip_tags": list(skip),
        **variables,
    }
    action.result = {}
    action._templar = SimpleNamespace(template=lambda value: value)
    action._connection = SimpleNamespace(transport="ssh", has_pipelining=True)
    action._discovery_warnings = []

    def execute(text: str, **_options: Any) -> dict[str, Any]:
        commands.append(text)
        return dict(command(text))

    action._low_level_execute_command = execute
    outcome = action.act({})
    return {**action.result, **outcome}, commands


def here(text: str) -> dict[str, Any]:
    """Run a command on this machine."""
    done = subprocess.run(text, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    return {
        "rc": done.returncode,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "stdout_lines": done.stdout.splitlines(),
    }


def dead(_text: str) -> dict[str, Any]:
    raise AnsibleConnectionFailure("No route to host")


@pytest.mark.parametrize(
    ("tags", "skip"),
    [(("hpa",), ()), (("verify", "grafana"), ()), (("all",), ("node_prep", "control_plane", "worker"))],
)
def test_a_run_that_needs_no_machine_connects_to_none(tags: tuple[str, ...], skip: tuple[str, ...]) -> None:
    result, commands = run(dead, tags, skip)
    assert not result.get("failed")
    assert result["skipped"]
    assert commands == []


@pytest.mark.parametrize("tags", [("all",), ("worker",), ("hpa", "node_prep"), ("tagged",)])
def test_a_dead_machine_is_named_when_a_role_needs_it(tags: tuple[str, ...]) -> None:
    result, _unused = run(dead, tags, ansible_host="192.0.2.21")
    assert result["failed"]
    assert "Machine w1 (192.0.2.21) does not answer by ssh: No route to host" in result["msg"]


@pytest.mark.parametrize("mode", ["auto", "auto_silent", "auto_legacy", "auto_legacy_silent"])
def test_the_interpreter_may_be_discovered(mode: str) -> None:
    result, commands = run(here, ansible_python_interpreter=mode, ansible_interpreter_python_fallback=[sys.executable])
    assert set(FACTS) == set(result["found"])
    assert sys.executable in commands[-1]
    dead_result, _unused = run(dead, ansible_python_interpreter=mode)
    assert "does not answer" in dead_result["msg"]


def test_an_interpreter_that_is_given_is_used_as_it_is() -> None:
    result, commands = run(here, ansible_python_interpreter="/does/not/exist")
    assert len(commands) == 1
    assert "/does/not/exist could not be run there" in result["msg"]
