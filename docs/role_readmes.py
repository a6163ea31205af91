#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write roles/*/README.md from the roles' argument specs and from the playbooks that run them.

docs/role_readmes.py           write what is out of date
docs/role_readmes.py --check   write nothing; name what is out of date and fail if there is any
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pages import REPOSITORY, keep

sys.path.insert(0, str(REPOSITORY))

from plugins.plugin_utils.common.components import COMPONENTS

COLLECTION = "kubescale.fleet"
# Longer defaults get a block of their own.
INLINE = 60
HEADER = "<!-- Made from meta/argument_specs.yml by `make docs`; edit that file instead. -->"
HOSTS = {
    "clusters": "the host of each cluster's API, that is, on the controller",
    "nodes": "all machines",
    "control_plane": "the control plane machines",
    "workers": "the worker machines",
}


def plain(text: str) -> str:
    """Turn Ansible's markup into Markdown: C(x), V(x) and their like become `x`."""
    return re.sub(r"\b[BCEIOPV]\(([^)]*)\)", r"`\1`", text)


def sentences(description: str | Sequence[str]) -> list[str]:
    """Return a description, which may be one string or a list, as a list."""
    return [plain(text) for text in ([description] if isinstance(description, str) else description)]


def variable(name: str, option: Mapping[str, Any]) -> str:
    """Describe one variable as an item of a list."""
    kind = str(option.get("type", "str"))
    if "elements" in option:
        kind += f" of {option['elements']}"
    facts = [kind]
    if option.get("required"):
        facts.append("required")
    if "choices" in option:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
    block = ""
    if "default" in option:
        default = yaml.safe_dump(option["default"], default_flow_style=True, width=10**6).removesuffix("...\n").strip()
        if len(default) <= INLINE:
            facts.append(f"default `{default}`")
        else:
            facts.append("default:")
            lines = yaml.safe_dump({name: option["default"]}, sort_keys=False, width=100).rstrip().splitlines()
            block = "\n\n  ```yaml\n" + "\n".join(f"  {line}" for line in lines) + "\n  ```"
    text = " ".join(sentences(option.get("description", "")))
    return f"- **`{name}`**: {text} ({', '.join(facts)}){block}"


def runs_of(role: str, playbooks: Path = REPOSITORY / "playbooks") -> list[tuple[str, str]]:
    """Find the plays that run a role: pairs of playbook file name and hosts."""
    parts = [component.part for component in COMPONENTS if component.role == role]
    found = [(f"{part}.yml", "clusters") for part in parts if part != "last"]
    for file in sorted(playbooks.glob("*.yml")):
        for play in yaml.safe_load(file.read_text(encoding="utf-8")):
            roles = [entry["role"] for entry in play.get("roles", [])]
            imports = [task.get("ansible.builtin.import_role", {}) for task in play.get("tasks", [])]
            # A task that imports one file of a role does not run the role.
            roles += [entry["name"] for entry in imports if entry and "tasks_from" not in entry]
            if f"{COLLECTION}.{role}" in roles and (file.name, play["hosts"]) not in found:
                found.append((file.name, play["hosts"]))
    return found


def readme(role: Path) -> str:
    """Make the text of one role's README.md."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    parts = [f"# {COLLECTION}.{role.name}", HEADER, plain(specs["short_description"]) + "."]
    parts += ["\n".join(f"- {text}" for text in sentences(specs.get("description", [])))]
    for playbook, hosts in runs_of(role.name):
        parts.append(
            f"`playbooks/{playbook}` runs it on `{hosts}`, {HOSTS[hosts]}. "
            f"Alone: `ansible-playbook playbooks/{playbook} --tags {role.name}`."
        )
    options = specs.get("options", {})
    parts.append("## Variables")
    parts.append("\n".join(variable(name, option) for name, option in options.items()) if options else "None.")
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    roles = sorted((REPOSITORY / "roles").iterdir())
    sys.exit(keep({role / "README.md": readme(role) for role in roles}, sys.argv[1:]))
