"""Every role keeps the contract: defaults equal specs, README is made from them, one play runs it by its tag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import role_readmes
import yaml
from ansible_collections.kubescale.fleet.plugins.action import preflight, reach
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import preflight as module_utils

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
PINS = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text())["components"]
# Versions that are named after the role, not after the component.
COMPONENTS = {"control_plane_version": "kubernetes", "cni_version": "flannel", "load_version": "vegeta"}

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    return load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}


def tasks(role: Path) -> list[dict[str, Any]]:
    return [task for file in sorted((role / "tasks").glob("*.yml")) for task in load(file)]


def plays() -> list[tuple[str, dict[str, Any]]]:
    return [(file.name, play) for file in sorted((REPOSITORY / "playbooks").glob("*.yml")) for play in load(file)]


@each_role
def test_defaults_are_those_of_the_argument_specs(role: Path) -> None:
    specified = {name: option["default"] for name, option in options_of(role).items() if "default" in option}
    assert (load(role / "defaults/main.yml") or {}) == specified


@each_role
def test_variables_without_default_are_required(role: Path) -> None:
    assert [
        name for name, option in options_of(role).items() if "default" not in option and not option.get("required")
    ] == []


@each_role
def test_variables_have_a_type_and_are_explained_in_both_places(role: Path) -> None:
    lines = (role / "defaults/main.yml").read_text(encoding="utf-8").splitlines()
    for name, option in options_of(role).items():
        assert option["type"], name
        assert option["description"], name
        if "default" in option:
            at = next(number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
            assert lines[at - 1].startswith("# "), f"{name} has no comment above it"


@each_role
def test_names_begin_with_the_role(role: Path) -> None:
    assert [name for name in options_of(role) if not name.startswith(f"{role.name}_")] == []
    private = [load(file) or {} for file in role.glob("vars/*.yml")]
    assert [name for content in private for name in content if not name.startswith(f"__{role.name}_")] == []


@each_role
def test_versions_are_the_pinned_ones(role: Path) -> None:
    for name, option in options_of(role).items():
        component = COMPONENTS.get(name, name.removesuffix("_version"))
        if component in PINS and component != name:
            looked_up = f"{{{{ lookup('kubescale.fleet.artifact_version', '{component}') }}}}"
            assert option["default"] in (looked_up, PINS[component]["version"]), name


@each_role
def test_meta(role: Path) -> None:
    info = load(role / "meta/main.yml")["galaxy_info"]
    assert info["author"] == "kubescale founders"
    assert info["license"] == "Apache-2.0"
    assert info["min_ansible_version"] == "2.18"
    assert info["description"]
    assert info["platforms"]


@each_role
def test_readme_is_the_generated_one(role: Path) -> None:
    assert (role / "README.md").read_text(encoding="utf-8") == role_readmes.readme(role), "run: make docs"


def roles_of(play: dict[str, Any]) -> list[dict[str, Any]]:
    """Whole roles that a play runs: in its list of roles, or by a task."""
    imports = [task for task in play.get("tasks", []) if "ansible.builtin.import_role" in task]
    whole = [task for task in imports if "tasks_from" not in task["ansible.builtin.import_role"]]
    return play.get("roles", []) + [{**task, "role": task["ansible.builtin.import_role"]["name"]} for task in whole]


@each_role
def test_one_play_runs_it_by_its_tag(role: Path) -> None:
    entries = [
        (number, entry)
        for number, (file, play) in enumerate(plays())
        for entry in roles_of(play)
        # It ends what others have begun.
        if entry["role"] == f"kubescale.fleet.{role.name}" and file != "ready.yml"
    ]
    # One whose place depends on a variable is named at each of its places.
    assert len({number for number, _entry in entries}) == 1
    tags = [role.name, *reach.MORE_TAGS.get(role.name, [])]
    assert [entry["tags"] for _number, entry in entries] == [tags] * len(entries)
    assert len(entries) == 1 or all("when" in entry for _number, entry in entries)


@pytest.mark.parametrize(
    ("file", "play"), plays(), ids=lambda value: value if isinstance(value, str) else value["name"]
)
def test_waiting_tasks_have_the_tags_of_all_roles_of_their_play(file: str, play: dict[str, Any]) -> None:
    if file == "ready.yml":
        return  # another test has it
    waits = [task for task in play.get("tasks", []) if "kubescale.fleet.apply_set_ready" in task]
    defers = "kubescale.fleet.apply_set" in play.get("module_defaults", {})
    assert len(waits) == int(defers), f"{file}: a play whose roles do not wait must wait at its end"
    for task in waits:
        assert sorted(task["tags"]) == sorted({tag for entry in roles_of(play) for tag in entry["tags"]})


@each_role
def test_roles_that_apply_a_set_can_adopt(role: Path) -> None:
    sets = [task["kubescale.fleet.apply_set"] for task in tasks(role) if "kubescale.fleet.apply_set" in task]
    sets = [arguments for arguments in sets if arguments.get("state") != "absent"]
    assert [arguments["adopt"] for arguments in sets] == [f"{{{{ {role.name}_adopt }}}}"] * len(sets)
    assert (f"{role.name}_adopt" in options_of(role)) == bool(sets)


def test_preflight_knows_the_sets_of_roles_that_serve_apis() -> None:
    for role in {role for roles in reach.API_GROUPS.values() for role in roles}:
        names = [
            task["kubescale.fleet.apply_set"]["name"]
            for task in tasks(REPOSITORY / "roles" / role)
            if "kubescale.fleet.apply_set" in task
        ]
        assert role.replace("_", "-") in names


def test_site_waits_at_its_end_for_every_role_that_did_not_wait() -> None:
    deferring = [
        play
        for file, play in plays()
        if "kubescale.fleet.apply_set" in play.get("module_defaults", {}) and file != "ready.yml"
    ]
    # What is applied last is waited for, too.
    *applied, task = load(REPOSITORY / "playbooks/ready.yml")[-1]["tasks"]
    tags = {tag for play in deferring for entry in roles_of(play) for tag in entry["tags"]}
    assert sorted(task["tags"]) == sorted(tags)
    assert {tag for earlier in applied for tag in earlier["tags"]} <= tags
    assert "kubescale.fleet.apply_set_ready" in task
    for play in deferring:
        leaving, waiting = play["tasks"][-2:]
        assert leaving["ansible.builtin.meta"] == "end_play"
        assert leaving["when"] == "site_waits_later | default(false) | bool"
        assert leaving["tags"] == waiting["tags"]


def test_preflight_checks_variables_that_exist() -> None:
    known = {name for role in ROLES for name in options_of(role)}
    assert preflight.CHECKED - known - set(module_utils.SHARED_VARIABLES) == set()
    assert set(preflight.MACHINE_ROLES) <= {role.name for role in ROLES}


@pytest.mark.parametrize("role", preflight.MACHINE_ROLES)
def test_preflight_knows_where_machine_roles_run(role: str) -> None:
    assert [hosts for _, hosts in role_readmes.runs_of(role)] == [preflight.MACHINE_ROLES[role]]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"type": "int", "default": 5, "description": "Seconds."}, "- **`x`**: Seconds. (int, default `5`)"),
        ({"required": True, "description": ["A C(b).", "C."]}, "- **`x`**: A `b`. C. (str, required)"),
        ({"default": "a", "choices": ["a", "b"]}, "- **`x`**:  (str, one of `a`, `b`, default `a`)"),
        ({"type": "list", "elements": "str", "default": []}, "- **`x`**:  (list of str, default `[]`)"),
    ],
)
def test_variables_in_readmes(option: dict[str, Any], text: str) -> None:
    assert role_readmes.variable("x", option) == text


def test_long_defaults_get_a_block() -> None:
    text = role_readmes.variable("x", {"default": ["y" * 70]})
    assert re.search(r"default:\)\n\n  ```yaml\n  x:\n  - y+\n  ```$", text)
