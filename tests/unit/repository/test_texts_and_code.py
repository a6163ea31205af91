# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Defaults, numbers, namespaces and annotations that texts name are those of the roles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import NAMESPACES
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.chain import CAUSES

REPOSITORY = Path(__file__).resolve().parents[3]
OPTIONS: dict[str, dict[str, Any]] = {
    name: option
    for file in REPOSITORY.glob("roles/*/meta/argument_specs.yml")
    for name, option in (yaml.safe_load(file.read_text())["argument_specs"]["main"].get("options") or {}).items()
}
TEMPLATES = "".join(file.read_text() for file in sorted(REPOSITORY.glob("roles/*/templates/*.j2")))
TEXTS = {
    str(file.relative_to(REPOSITORY)): file.read_text()
    for pattern in ("*.md", "docs/*.md", "docs/getting-started/*.md", "plugins/plugin_utils/health/checks/*.py")
    for file in sorted(REPOSITORY.glob(pattern))
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_default_in_a_text_is_that_of_the_role(name: str) -> None:
    """Texts write ``(`variable`, 10 seconds)`` or ``10 seconds (`variable`)``, where the variable is a number."""
    after = re.findall(r"\(`?(\w+)`?,\s+(\d+)\s+s(?:econds)?\b", TEXTS[name])
    before = [found[::-1] for found in re.findall(r"(\d+)(?:\s+s(?:econds)?)?\s+\(`(\w+)`\)", TEXTS[name])]
    numbers = {(option, int(number)) for option, number in after + before if option in OPTIONS}
    defaults = {(option, OPTIONS[option]["default"]) for option, _number in numbers}
    computed = {(option, default) for option, default in defaults if isinstance(default, str)}
    assert {pair for pair in numbers if pair[0] not in dict(computed)} == defaults - computed


def test_a_table_of_replicas_is_that_of_the_roles_in_every_flavour() -> None:
    rows = re.findall(r"\| (\d+) \(`(\w+_replicas)`\) \|", TEXTS["docs/high-availability.md"])
    assert rows
    for number, option in rows:
        assert (
            OPTIONS[option]["default"]
            == f"{{{{ {number} if lookup('kubescale.fleet.cluster').high_availability else 1 }}}}"
        )
    # Both flavours take the number from the variable, so no text may name another one for a flavour.
    for flavour in ("operator", "standalone"):
        template = (REPOSITORY / f"roles/prometheus/templates/prometheus_{flavour}.yml.j2").read_text()
        assert "replicas: {{ prometheus_replicas }}" in template
    assert not re.search(r"standalone`[^.]*\bone Prometheus\b", TEXTS["docs/high-availability.md"])


@pytest.mark.parametrize("name", CAUSES)
def test_the_doctor_sends_nobody_to_a_namespace_that_no_role_uses(name: str) -> None:
    assert set(re.findall(r"(?:--namespace|-n) ([a-z][a-z-]*)", CAUSES[name].advice)) <= set(NAMESPACES.values())


@pytest.mark.parametrize("name", TEXTS)
def test_an_annotation_in_a_text_is_one_that_a_template_sets(name: str) -> None:
    named = re.findall(r"annotations\[([^\]]+)\]", TEXTS[name])
    assert [annotation for annotation in named if f"{annotation}:" not in TEMPLATES] == []


def test_messages_on_the_page_of_troubles_are_messages_of_the_code() -> None:
    files = [file for pattern in ("plugins/**/*.py", "roles/*/tasks/*.yml") for file in REPOSITORY.glob(pattern)]
    # Python joins a message of several lines.
    code = re.sub(r'"\s*\n\s*f?"', "", "".join(file.read_text() for file in sorted(files)))
    symptoms = re.findall(r"^\| (.+?) \|", TEXTS["docs/troubleshooting.md"], re.MULTILINE)
    messages = [message for symptom in symptoms for message in re.findall(r"`([^`]+)`", symptom)]
    assert len(messages) > 5
    assert [message for message in messages if message.removesuffix(" go …") not in code] == []
