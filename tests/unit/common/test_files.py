"""A file is replaced in one step, and a secret is readable to nobody else at any time."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.kubescale.fleet.plugins.module_utils import files as on_machines
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import files as on_controller
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.files import replace_file, replacing

PLACES = [on_controller, on_machines]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("content", ["text: ä\n", b"\0\xff"])
def test_a_file_gets_its_content_and_mode(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("longer than the new content")
    path.chmod(0o600)
    replace_file(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert mode_of(path) == 0o644


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_never_readable_to_others(
    place: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, modes = tmp_path / "secret", []
    path.write_text("old")
    path.chmod(0o644)

    def look(function):
        """Note the mode of the file that has the secret, before and after a call."""

        def wrapped(*arguments, **options):
            def note() -> None:
                modes.extend(mode_of(file) for file in tmp_path.iterdir() if file.read_text() == "new")

            note()
            result = function(*arguments, **options)
            note()
            return result

        return wrapped

    for name in ("open", "chmod", "replace", "rename"):
        monkeypatch.setattr(os, name, look(getattr(os, name)))
    umask = os.umask(0)
    try:
        place.replace_file(path, "new", mode=0o600)
    finally:
        os.umask(umask)
    assert modes and set(modes) == {0o600}
    assert path.read_text() == "new"


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    place: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        place.replace_file(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        replace_file(pipe, "text")
        assert os.read(reader, 10) == b"text"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]


def test_the_file_of_a_killed_writer_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as temporary:
        temporary.write_text("first")
    temporary.write_text("left by a killed process")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "new")]
