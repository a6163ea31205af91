# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What `ansible-doc` shows is what the code takes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

REPOSITORY = Path(__file__).resolve().parents[3]
TYPES = ("callback", "connection", "filter", "inventory", "lookup", "module")
#: Where the files of a type lie, if not in a folder of its name.
FOLDERS = {"module": "modules"}
#: What Ansible's check of arguments knows about an option.
FACTS = ("type", "elements", "choices", "default", "required")
#: Options that an action fills in itself, before the module of its name gets them on the machine, and those that it
#: requires for its own part. (The documentation has to be the module's.)
FILLED_IN = {"kubeadm": ("ca_hash", "endpoint", "token")}
REQUIRED = {"kubeadm": ("kubeconfig",)}
ACTIONS = sorted(file.stem for file in (REPOSITORY / "plugins/action").glob("*.py"))


class AskedError(Exception):
    """Ends an action when it asks for its arguments; carries what it allows."""


@pytest.fixture(scope="session")
def documented() -> dict[str, dict[str, Any]]:
    """All that ansible-doc knows of the collection, by type and short name."""
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--metadata-dump", "--no-fail-on-errors"]
    ended = subprocess.run(
        [*command, "kubescale.fleet"], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, dict[str, Any]] = json.loads(ended.stdout)["all"]
    return {
        kind: {name.removeprefix("kubescale.fleet."): entry for name, entry in entries.items()}
        for kind, entries in found.items()
    }


def plain(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """What options say about values, without descriptions, defaults that are none, and what is false anyway."""
    return {
        name: {key: option[key] for key in FACTS if option.get(key) not in (None, False)}
        | {"default": option.get("default"), "options": plain(option.get(nested) or {}, nested)}
        for name, option in options.items()
    }


@pytest.mark.parametrize("kind", TYPES)
def test_every_plugin_is_documented(kind: str, documented: dict[str, dict[str, Any]]) -> None:
    files = {file.stem for file in (REPOSITORY / "plugins" / FOLDERS.get(kind, kind)).glob("*.py")}
    assert documented[kind].keys() == files
    for name, entry in documented[kind].items():
        assert "error" not in entry, f"{kind} {name}: {entry}"
        assert entry["doc"]["description"], name
        assert entry["examples"], f"{kind} {name} has no EXAMPLES"
        if kind in ("filter", "lookup", "module"):
            assert entry["return"], f"{kind} {name} has no RETURN"


def test_every_role_is_documented(documented: dict[str, dict[str, Any]]) -> None:
    assert documented["role"].keys() == {folder.name for folder in (REPOSITORY / "roles").iterdir()}
    for name, entry in documented["role"].items():
        assert entry["entry_points"]["main"]["short_description"], name


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_take_what_is_documented(
    name: str, documented: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(_self: ActionBase, argument_spec: dict[str, Any] | None = None, **_others: Any) -> None:
        raise AskedError(argument_spec)

    monkeypatch.setattr(ActionBase, "run", lambda *_arguments, **_others: {})
    monkeypatch.setattr(ActionBase, "validate_argument_spec", arguments)
    module = importlib.import_module(f"ansible_collections.kubescale.fleet.plugins.action.{name}")
    action = object.__new__(module.ActionModule)
    action._task = SimpleNamespace(args={}, check_mode=False)
    with pytest.raises(AskedError) as asked:
        action.run(task_vars={})
    options = documented["module"][name]["doc"].get("options") or {}
    known, allowed = plain(options, "suboptions"), plain(asked.value.args[0], "options")
    for filled_in in FILLED_IN.get(name, ()):
        del known[filled_in]
    for required in REQUIRED.get(name, ()):
        known[required]["required"] = True
    assert known == allowed


@pytest.mark.parametrize("kind", [*TYPES, "role"])
def test_documentation_can_be_shown(kind: str, documented: dict[str, dict[str, Any]]) -> None:
    names = [f"kubescale.fleet.{name}" for name in documented[kind]]
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--type", kind, *names]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
