"""The build engine: same sources, same bytes; what is made is not made again; a failure loses nothing."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.build import Builder, run
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache, Step, file_digest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.images import (
    EPOCH,
    archive_references,
    full_reference,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import (
    ArtifactError,
    machine_architecture,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.scheduler import execute

PAUSE_PINS: dict[str, Any] = {
    "go": "1.26",
    "debian": "bookworm",
    "python": "3.11",
    "components": {"pause": {"version": "3.10.2", "go": "pause", "packages": {"pause": "."}}},
    "layers": {},
    "images": [
        {
            "repository": "registry.k8s.io/pause",
            "tag": "{version}",
            "component": "pause",
            "binaries": {"pause": "/pause"},
            "machines": ["worker"],
        }
    ],
    "machine_files": {"pause": {"component": "pause", "folder": "/usr/local/bin", "binaries": ["pause"]}},
}


def silent(_name: str, _state: str, _seconds: float, _size: int) -> None:
    """A report that nobody reads."""


def pause_cache(directory: Path) -> Cache:
    return Cache(directory, PAUSE_PINS, machine_architecture())


def step(directory: Path, name: str, needs: tuple[str, ...] = (), fails: bool = False) -> Step:
    product = directory / name

    def make() -> dict[str, Any]:
        if fails:
            raise ArtifactError("compiler says no")
        product.write_text(name, encoding="utf-8")
        return {"size": len(name)}

    return Step(name, product, directory / f"{name}.json", f"digest of {name}", make, needs)


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for place in ("one", "two"):
        cache = pause_cache(tmp_path / place)
        execute(Builder(cache).steps(), silent)
        record = cache.recorded(cache.images()[0].record)
        digests.append((record["manifest"], record["sha256"], file_digest(cache.component("pause") / "pause")))
    assert digests[0] == digests[1]


def test_a_complete_cache_is_left_alone_and_a_changed_recipe_is_built_again(tmp_path: Path) -> None:
    cache = pause_cache(tmp_path)
    assert execute(Builder(cache).steps(), silent) == [
        "pause 3.10.2",
        "image registry.k8s.io/pause:3.10.2",
    ]
    assert execute(Builder(cache).steps(), silent) == []
    stamped = {**PAUSE_PINS["components"]["pause"], "variables": {"main.version": "other"}}
    changed = Cache(tmp_path, {**PAUSE_PINS, "components": {"pause": stamped}}, cache.architecture)
    assert len(execute(Builder(changed).steps(), silent)) == 2


def test_a_product_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    cache = pause_cache(tmp_path)
    execute(Builder(cache).steps(), silent)
    cache.images()[0].archive.unlink()
    shutil.rmtree(cache.component("pause"))
    assert len(execute(Builder(cache).steps(), silent)) == 2


def test_an_image_archive_says_what_it_is_and_names_no_machine(tmp_path: Path) -> None:
    cache = pause_cache(tmp_path)
    execute(Builder(cache).steps(), silent)
    with tarfile.open(cache.images()[0].archive) as archive:
        members = archive.getmembers()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", EPOCH)}
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "registry.k8s.io/pause:3.10.2"


def test_machine_files_carry_checksum_and_place(tmp_path: Path) -> None:
    cache = pause_cache(tmp_path)
    with pytest.raises(ArtifactError, match="not in the cache"):
        cache.machine_files(["pause"])
    execute(Builder(cache).steps(), silent)
    (item,) = cache.machine_files(["pause"])
    assert item["destination"] == "/usr/local/bin/pause"
    assert item["sha256"] == file_digest(tmp_path / item["source"])
    with pytest.raises(ArtifactError, match="binaries: 'pausse' is none of pause"):
        cache.machine_files(["pausse"])


def test_steps_wait_for_what_they_need(tmp_path: Path) -> None:
    steps = [step(tmp_path, "image", needs=("binary", "layer")), step(tmp_path, "binary"), step(tmp_path, "layer")]
    assert execute(steps, silent)[-1] == "image"


def test_a_failure_names_its_step_and_keeps_what_was_made(tmp_path: Path) -> None:
    steps = [
        step(tmp_path, "good"),
        step(tmp_path, "bad", needs=("good",), fails=True),
        step(tmp_path, "later", needs=("bad",)),
    ]
    with pytest.raises(ArtifactError, match="bad: compiler says no"):
        execute(steps, silent)
    assert [item.name for item in steps if not item.is_made()] == ["bad", "later"]


def test_a_command_that_fails_is_quoted_with_the_end_of_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"exit status 3:\nno such module"):
        run(["sh", "-c", "echo no such module >&2; exit 3"], tmp_path)


def test_a_given_archive_is_known_by_the_name_in_it(tmp_path: Path) -> None:
    cache = pause_cache(tmp_path)
    execute(Builder(cache).steps(), silent)
    assert archive_references(cache.images()[0].archive) == ["registry.k8s.io/pause:3.10.2"]
    saved = tmp_path / "saved.tar"
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        '[{"Config": "c.json", "RepoTags": ["grafana/grafana:13.1.3"], "Layers": []}]', encoding="utf-8"
    )
    with tarfile.open(saved, "w") as archive:
        archive.add(manifest, "manifest.json")
    assert archive_references(saved) == ["docker.io/grafana/grafana:13.1.3"]


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "grafana.tar"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"grafana\.tar is no image archive"):
        archive_references(path)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("redis:7", "docker.io/library/redis:7"),
        ("grafana/grafana:13.1.3", "docker.io/grafana/grafana:13.1.3"),
        ("localhost/app:1", "localhost/app:1"),
        ("registry.example:5000/app:1", "registry.example:5000/app:1"),
    ],
)
def test_short_image_names_are_completed_as_containerd_does(short: str, full: str) -> None:
    assert full_reference(short) == full
