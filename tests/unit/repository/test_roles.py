"""Every role keeps the contract: defaults equal specs, README is made from them, one play runs it by its tag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import components
import pytest
import role_readmes
import yaml
from ansible_collections.kubescale.fleet.plugins.action import preflight, reach
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import COMPONENTS
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import ROLES as IN_ORDER
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import preflight as module_utils

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
PINS = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text())["components"]
# Versions that are named after the role, not after the component.
VERSIONS_OF = {"control_plane_version": "kubernetes"}

PLAYBOOKS = REPOSITORY / "playbooks"

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    return load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}


def tasks(role: Path) -> list[dict[str, Any]]:
    return [task for file in sorted((role / "tasks").glob("*.yml")) for task in load(file)]


def plays() -> list[tuple[str, dict[str, Any]]]:
    return [(file.name, play) for file in sorted(PLAYBOOKS.glob("*.yml")) for play in load(file)]


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
        component = VERSIONS_OF.get(name, name.removesuffix("_version"))
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


PARTS = {"cluster": ["cluster"], "metrics": ["metrics", "last"], "apps": ["apps"]}


@pytest.mark.parametrize("role", [role for role in ROLES if role.name not in IN_ORDER], ids=lambda role: role.name)
def test_one_play_runs_it_by_its_tag(role: Path) -> None:
    entries = [
        entry for _file, play in plays() for entry in roles_of(play) if entry["role"] == f"kubescale.fleet.{role.name}"
    ]
    assert [entry["tags"] for entry in entries] == [[role.name]]


def test_components_are_the_roles_that_apply_a_set() -> None:
    applying = {role.name for role in ROLES if any("kubescale.fleet.apply_set" in task for task in tasks(role))}
    assert set(IN_ORDER) == applying - {"load"}


def test_tasks_of_the_parts_are_the_generated_ones() -> None:
    for file, text in components.pages().items():
        assert file.read_text(encoding="utf-8") == text, "run: make docs"
    assert {file.name for file in components.tasks()} == {file.name for file in (PLAYBOOKS / "tasks").iterdir()}


def test_a_run_of_all_parts_applies_the_components_in_their_order() -> None:
    [play] = load(PLAYBOOKS / "components.yml")
    imported = [
        task["ansible.builtin.import_role"]["name"].removeprefix("kubescale.fleet.")
        for entry in play["tasks"]
        for task in load(PLAYBOOKS / entry["ansible.builtin.import_tasks"])
    ]
    assert imported == [component.role for component in COMPONENTS]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone_checks_inputs_before_and_waits_after(part: str) -> None:
    inputs, leases, play, wait = load(PLAYBOOKS / f"{part}.yml")
    assert inputs["ansible.builtin.import_playbook"] == "inputs.yml"
    assert leases["ansible.builtin.import_playbook"] == "lease.yml"
    assert [task["ansible.builtin.import_tasks"] for task in play["tasks"]] == [f"tasks/{n}.yml" for n in PARTS[part]]
    assert wait["ansible.builtin.import_playbook"] == "wait.yml"


def test_plays_of_components_wait_for_none_of_them() -> None:
    for name in (*PARTS, "components"):
        [play] = [play for play in load(PLAYBOOKS / f"{name}.yml") if "hosts" in play]
        assert play["module_defaults"] == {"kubescale.fleet.apply_set": {"wait": False}}
    parts = [entry["ansible.builtin.import_playbook"] for entry in load(PLAYBOOKS / "site.yml")]
    assert parts.index("components.yml") < parts.index("ready.yml")
    assert load(PLAYBOOKS / "ready.yml")[-1]["ansible.builtin.import_playbook"] == "wait.yml"
    [wait] = load(PLAYBOOKS / "wait.yml")
    # Whatever the tags of the run.
    assert wait["tags"] == ["always"]
    assert "kubescale.fleet.apply_set_ready" in wait["tasks"][-1]


@each_role
def test_roles_that_apply_a_set_can_adopt(role: Path) -> None:
    sets = [task["kubescale.fleet.apply_set"] for task in tasks(role) if "kubescale.fleet.apply_set" in task]
    sets = [arguments for arguments in sets if arguments.get("state") != "absent"]
    adopt = f"{{{{ '{role.name}' in lookup('kubescale.fleet.cluster').adopt }}}}"
    assert {arguments["adopt"] for arguments in sets} <= {adopt}


def test_preflight_knows_the_sets_of_roles_that_serve_apis() -> None:
    for role in {role for roles in reach.API_GROUPS.values() for role in roles}:
        names = [
            task["kubescale.fleet.apply_set"]["name"]
            for task in tasks(REPOSITORY / "roles" / role)
            if "kubescale.fleet.apply_set" in task
        ]
        assert role.replace("_", "-") in names


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
