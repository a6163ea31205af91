"""Imports among the rooms of plugins/ go down only."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
ROOMS = PLUGINS / "plugin_utils"
#: The floor of each room. A room imports rooms on lower floors only, and files of its own.
FLOORS = {
    "common": 0,
    "kube": 1,
    "artifacts": 1,
    "machines": 2,
    "apps": 2,
    "applyset": 2,
    "health": 3,
    "fleet": 4,
    "report": 5,
}
#: Files that describe an app entry. They are usable without a cluster.
MODEL = ("model", "parse", "scale_on", "objects", "rules", "scraping", "alerts", "promql")


def imports_of(file: Path) -> set[str]:
    """Return the names of the plugin files that a file imports, for example `plugin_utils.kube.client`."""
    found = set()
    place = file.relative_to(PLUGINS).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(place[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from ..kube import client` imports a file, `from ..kube.client import Api` a name in one.
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            relative = name.removeprefix("ansible_collections.kubescale.fleet.plugins.")
            if (PLUGINS / relative.replace(".", "/")).with_suffix(".py").is_file():
                found.add(relative)
    return found


FILES = {
    ".".join(file.relative_to(PLUGINS).with_suffix("").parts): file
    for file in sorted(PLUGINS.rglob("*.py"))
    if file.name != "__init__.py"
}
UTILS = [name for name in FILES if name.startswith("plugin_utils.")]


@pytest.mark.parametrize("name", UTILS)
def test_imports_go_down(name):
    floor, room = FLOORS[name.split(".")[1]], name.split(".")[1]
    for other in imports_of(FILES[name]):
        kind, *rest = other.split(".")
        assert kind in ("plugin_utils", "module_utils"), f"{name} imports a plugin: {other}"
        if kind == "plugin_utils" and rest[0] != room:
            assert FLOORS[rest[0]] < floor, f"{name} imports {other}, which is not on a lower floor"


def test_no_circle_within_a_room():
    # Raises CycleError, which names the files of the circle.
    TopologicalSorter({name: imports_of(FILES[name]) for name in FILES}).prepare()


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("modules.", "module_utils."))])
def test_what_runs_on_machines_imports_nothing_of_the_controller(name):
    assert {other.split(".")[0] for other in imports_of(FILES[name])} <= {"module_utils"}


def test_plugins_are_not_libraries():
    for name, file in FILES.items():
        libraries = {other for other in imports_of(file) if other.split(".")[0] not in ("plugin_utils", "module_utils")}
        assert libraries == set(), name


def test_the_model_of_an_app_needs_no_cluster():
    names = [f"plugin_utils.apps.{name}" for name in MODEL if f"plugin_utils.apps.{name}" in FILES]
    seen: set[str] = set()
    while names:
        name = names.pop()
        seen.add(name)
        names += imports_of(FILES[name]) - seen
    assert {name for name in seen if name.startswith("plugin_utils.kube.")} <= {
        "plugin_utils.kube.objects",
        "plugin_utils.kube.quantity",
    }


@pytest.mark.parametrize("room", [*FLOORS])
def test_every_room_says_what_lives_there(room):
    text = ast.get_docstring(ast.parse((ROOMS / room / "__init__.py").read_text(encoding="utf-8")))
    assert text and len(text.splitlines()) <= 4


def test_every_folder_is_a_room():
    assert {folder.name for folder in ROOMS.iterdir() if folder.is_dir() and folder.name != "__pycache__"} == {*FLOORS}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("modules.", "module_utils."))])
def test_imports_within_the_collection_are_relative(name):
    source = FILES[name].read_text(encoding="utf-8")
    assert "from ansible_collections.kubescale" not in source
