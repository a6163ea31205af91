"""Damaged products of the cache are found, and undamaged ones are read once only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import damage
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Step, fill


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """A component of two files that is in the cache."""
    folder = tmp_path / "tool" / "1.0-amd64"

    def make(target: Path) -> None:
        (target / "tool").write_bytes(b"program")
        (target / "crds").mkdir()
        (target / "crds" / "a.yaml").write_bytes(b"kind: A")

    made = Step("tool", folder, folder / "manifest.json", "digest", lambda: fill(folder, make))
    made.record.parent.mkdir(parents=True, exist_ok=True)
    record = made.make()
    made.record.write_text(json.dumps({"digest": "digest", **record}))
    assert made.is_made()
    return made


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize(
    "harm",
    [flip, lambda file: file.write_bytes(file.read_bytes()[:3]), Path.unlink],
    ids=["a flipped bit", "a cut file", "a missing file"],
)
@pytest.mark.parametrize("name", ["tool", "crds/a.yaml"])
def test_a_damaged_file_is_named_and_the_product_counts_as_missing(step: Step, harm: Any, name: str) -> None:
    harm(step.product / name)
    assert step.damage() == [step.product / name]
    assert not step.is_made()


def test_an_archive_is_compared_too(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"layers")
    record = tmp_path / "image.json"
    record.write_text(json.dumps({"digest": "d", "sha256": damage.file_digest(archive), "size": 6}))
    image = Step("image", archive, record, "d", dict)
    assert image.is_made()
    flip(archive)
    assert not image.is_made()


def test_files_that_did_not_change_are_read_once(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "file_digest", lambda _file: pytest.fail("it was read again"))
    assert step.is_made()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}'])
def test_a_damaged_record_counts_as_missing(step: Step, text: str) -> None:
    step.record.write_text(text)
    assert not step.is_made()
    assert step.damage() == []
