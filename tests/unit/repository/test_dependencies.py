"""The collections and packages that the metadata names are those that the code uses."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
NAME = re.compile(
    r"(?:ansible_collections\.)?\b([a-z]+\.[a-z]+)\.(?:plugins|[a-z0-9_]+:)|connection: ([a-z]+\.[a-z]+)\."
)


def collections_used(*patterns: str) -> set[str]:
    """Return the collections of others that tasks and imports in these files name."""
    texts = (file.read_text(encoding="utf-8") for pattern in patterns for file in REPOSITORY.glob(pattern))
    found = {name for text in texts for match in NAME.findall(text) for name in match if name}
    return found & {"kubernetes.core", "community.crypto", "containers.podman", "ansible.posix", "ansible.utils"}


def test_the_collection_depends_on_what_it_uses():
    needed = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"]
    assert set(needed) == collections_used("plugins/**/*.py", "roles/**/*.yml", "playbooks/*.yml")


def test_the_repository_names_what_its_tests_use():
    named = yaml.safe_load((REPOSITORY / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    used = collections_used("plugins/**/*.py", "roles/**/*.yml", "playbooks/*.yml", "molecule/**/*.yml")
    # The callback of tests is named in their environment.
    assert {entry["name"] for entry in named} == used | {"ansible.posix"}
