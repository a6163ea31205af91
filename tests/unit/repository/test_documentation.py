# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""ansible-doc shows the options that the code takes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import KEPT
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.scrape_jobs import PLACES
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import ARCHITECTURES
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.sources import SOURCES
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import SERVICES
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.machine_image import SUITES

PLUGINS = "ansible_collections.kubescale.fleet.plugins"
REPOSITORY = Path(__file__).resolve().parents[3]
TYPES = ("callback", "connection", "filter", "inventory", "lookup", "module")
#: Where the files of a type lie, if not in a folder of its name.
FOLDERS = {"module": "modules"}
#: What Ansible's check of arguments knows about an option.
FACTS = ("type", "elements", "choices", "default", "required")
#: Values that the code knows, by module and option.
CHOICES = {
    ("apply_set", "revisions"): KEPT,
    ("artifacts", "source"): [*SOURCES],
    ("node_artifacts", "architecture"): [*ARCHITECTURES],
    ("sandbox", "suite"): [*SUITES],
    ("scrape_jobs_loaded", "prometheus_flavor"): [*PLACES],
    **{(name, "prometheus_flavor"): [*SERVICES] for name in ("doctor", "observe_scaling", "report", "verify")},
    ("gate", "prometheus"): [*SERVICES, "none"],
}
ACTIONS = sorted(file.stem for file in (REPOSITORY / "plugins/action").glob("*.py"))


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
def test_actions_take_what_is_documented(name: str, documented: dict[str, dict[str, Any]]) -> None:
    action = importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule
    options = documented["module"][name]["doc"].get("options") or {}
    taken = {key: option for key, option in options.items() if key not in action.MODULE_OPTIONS}
    assert set(action.MODULE_OPTIONS) <= options.keys()
    assert plain(taken, "suboptions") == plain(action.OPTIONS, "options")
    assert {bound.option for bound in action.BOUNDS} <= taken.keys()


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_choices_are_what_the_code_knows(name: str, option: str) -> None:
    documented = importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule.OPTIONS[option]
    assert documented.get("choices", documented.get("default")) == CHOICES[name, option]


@pytest.mark.parametrize("kind", [*TYPES, "role"])
def test_documentation_can_be_shown(kind: str, documented: dict[str, dict[str, Any]]) -> None:
    names = [f"kubescale.fleet.{name}" for name in documented[kind]]
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--type", kind, *names]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
