"""The real cache: everything in it is described, and every package comes with its licence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import contents, sbom
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.build import Builder
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import paths
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


@pytest.fixture(scope="module")
def inside() -> contents.Contents:
    cache = Cache(paths.cache_directory(), versioned_pins(None), machine_architecture())
    return contents.Inspector(Builder(cache)).contents()


def test_every_package_comes_with_a_licence_text(inside: contents.Contents) -> None:
    assert [purl for purl, part in inside.parts.items() if not part.texts] == []
    assert {part.purl.type for part in inside.parts.values()} == {"golang", "deb", "pypi", "npm"}


def test_every_artifact_holds_something_that_is_described(inside: contents.Contents) -> None:
    known = {artifact.place for artifact in inside.artifacts} | inside.parts.keys()
    assert {item for artifact in inside.artifacts for item in artifact.holds} <= known
    assert [item.name for item in inside.artifacts if not item.holds] == []


def test_the_document_is_valid(inside: contents.Contents) -> None:
    # The validator takes a minute for all of it: every tenth package stands for the others.
    parts = dict(sorted(inside.parts.items())[::10])
    known = {artifact.place for artifact in inside.artifacts} | parts.keys()
    some = contents.Contents(
        [replace(item, holds=tuple(held for held in item.holds if held in known)) for item in inside.artifacts], parts
    )
    text = sbom.document(some, "bundle", "1", "licences", "cache")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert len(json.loads(text)["components"]) == len(inside.artifacts) + len(parts)
