"""Large files are parsed once, and a copy never says anything else than the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.parsed_files import LARGE, parsed

TEXT = yaml.safe_dump([{"name": f"object {number}", "value": number} for number in range(LARGE // 20)])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBESCALE_CACHE", str(tmp_path))
    return tmp_path


class Parser:
    """Counts how often it parses."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, text: str) -> Any:
        self.times += 1
        return yaml.safe_load(text)


def test_large_text_is_parsed_once() -> None:
    parser = Parser()
    assert parsed(TEXT, parser) == parsed(TEXT, parser) == yaml.safe_load(TEXT)
    assert parser.times == 1


def test_changed_text_is_parsed_again() -> None:
    parser = Parser()
    assert parsed(TEXT, parser) != parsed(TEXT + "- name: one more\n", parser)


def test_small_text_leaves_no_copy(cache: Path) -> None:
    assert parsed("a: 1", yaml.safe_load) == {"a": 1}
    assert not list(cache.iterdir())


def test_what_json_cannot_say_is_never_kept(cache: Path) -> None:
    text = TEXT + "- {1: number as key}\n"
    parser = Parser()
    assert parsed(text, parser) == parsed(text, parser) == yaml.safe_load(text)
    assert parser.times == 2


def test_broken_copy_is_replaced(cache: Path) -> None:
    parsed(TEXT, yaml.safe_load)
    (copy,) = (cache / "parsed").iterdir()
    copy.write_text("{half", encoding="utf-8")
    assert parsed(TEXT, yaml.safe_load) == yaml.safe_load(TEXT)
    assert json.loads(copy.read_text(encoding="utf-8")) == yaml.safe_load(TEXT)


def test_without_a_place_for_copies(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("KUBESCALE_CACHE", str(cache / "file"))
    assert parsed(TEXT, yaml.safe_load) == yaml.safe_load(TEXT)
