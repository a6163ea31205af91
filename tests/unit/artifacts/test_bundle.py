"""Bundles: same cache, same bytes; what is read is checked to its last byte; what is unpacked counts as made."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import bundle, bundle_reader, sources
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache, Step, file_digest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.images import archive_member
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import ArtifactError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.scheduler import execute

PINS: dict[str, Any] = {"components": {"tool": {"version": "1.2.3"}}, "images": [], "layers": {}}
# Several blocks of a tar, and nothing that compresses to nothing.
CONTENT = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(256)) * 40


def cache_of(directory: Path) -> Cache:
    return Cache(directory, PINS, "amd64")


def steps_of(cache: Cache, version: str = "1.2.3") -> list[Step]:
    """A component of two files and an image, as the engine makes them."""
    folder = cache.directory / "artifacts" / "tool" / f"{version}-amd64"
    archive = cache.directory / "images" / f"tool_{version}_amd64.tar"

    def make_component() -> dict[str, Any]:
        (folder / "data").mkdir(parents=True)
        for name, content, mode in (("tool", CONTENT, 0o755), ("data/list.json", b"{}", 0o600)):
            (folder / name).write_bytes(content)
            (folder / name).chmod(mode)
        names = ("tool", "data/list.json")
        files = {name: {"sha256": file_digest(folder / name), "size": (folder / name).stat().st_size} for name in names}
        return {"files": files, "size": len(CONTENT)}

    def make_image() -> dict[str, Any]:
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(CONTENT[::-1])
        return {"sha256": file_digest(archive), "size": len(CONTENT)}

    return [
        Step(f"tool {version}", folder, folder / "manifest.json", f"digest {version}", make_component),
        Step("image tool", archive, archive.with_suffix(".json"), "digest of image", make_image),
    ]


def made_bundle(directory: Path, version: str = "1.2.3") -> Path:
    """A cache, filled, and its bundle."""
    cache = cache_of(directory / "cache")
    steps = steps_of(cache, version)
    execute(steps, lambda *_: None)
    licences = {"index.json": b"[]", "golang/example.org/module@v1/LICENSE": b"Permission is granted"}
    bundle.write_bundle(
        bundle.bundle_entries(cache, steps, '{"bomFormat": "CycloneDX"}', licences, bundle.about(cache, steps)),
        directory / "bundle.tar.zst",
    )
    return directory / "bundle.tar.zst"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_bundle(tmp_path_factory.mktemp("made"))


def rewritten(source: Path, target: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """The same archive after ``change`` of its members."""
    with zstandard.open(source) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        members = [(member, (archive.extractfile(member) or io.BytesIO()).read()) for member in archive]
    change(members)
    with zstandard.open(target, "wb") as plain, tarfile.open(fileobj=plain, mode="w|") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return target


def verified(path: Path, directory: Path) -> bundle_reader.Bundle:
    cache = cache_of(directory)
    return bundle_reader.verify_bundle(path, cache, steps_of(cache))


def test_the_same_pins_give_the_same_bytes_wherever_and_whenever(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1, 2})
    assert made_bundle(tmp_path).read_bytes() == original.read_bytes()


def test_a_bundle_is_unpacked_as_what_was_built(original: Path, tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    steps = steps_of(cache)
    assert bundle_reader.unpack_bundle(original, cache, steps) == ["tool 1.2.3", "image tool"]
    assert all(step.is_made() for step in steps)
    built = original.parent / "cache"
    files = {str(path.relative_to(built)) for path in built.rglob("[!.]*") if path.is_file()}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*") if path.is_file()} == files
    for name in files - {str(step.record.relative_to(tmp_path)) for step in steps}:
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()
    assert (steps[0].product / "tool").stat().st_mode & 0o777 == 0o755
    assert bundle_reader.unpack_bundle(original, cache, steps) == []


def test_only_what_is_missing_is_unpacked(original: Path, tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    steps = steps_of(cache)
    execute(steps[:1], lambda *_: None)
    before = steps[0].record.stat().st_mtime_ns
    assert bundle_reader.unpack_bundle(original, cache, steps) == ["image tool"]
    assert steps[0].record.stat().st_mtime_ns == before


def test_what_a_killed_run_left_is_no_hindrance(original: Path, tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    steps = steps_of(cache)
    left = tmp_path / ".unpack/cache/artifacts/tool/1.2.3-amd64"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half of a file")
    steps[0].product.mkdir(parents=True)
    assert len(bundle_reader.unpack_bundle(original, cache, steps)) == 2
    assert all(step.is_made() for step in steps)
    assert not (steps[0].product / "half").exists()
    assert not (tmp_path / ".unpack").exists()


def test_verifying_tells_the_checksum_of_the_whole(original: Path, tmp_path: Path) -> None:
    found = verified(original, tmp_path)
    assert found.sha256 == file_digest(original)
    assert found.size == original.stat().st_size
    assert list(tmp_path.iterdir()) == []


def test_plain_tools_can_verify_it(original: Path, tmp_path: Path) -> None:
    with zstandard.open(original) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / bundle.FOLDER
    subprocess.run(["sha256sum", "--check", "--strict", bundle.SUMS], cwd=folder, check=True, capture_output=True)
    listed = {line.split("  ")[1] for line in (folder / bundle.SUMS).read_text().splitlines()}
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {*listed, bundle.SUMS}


def test_a_bundle_that_is_there_is_known(original: Path, tmp_path: Path) -> None:
    cache = cache_of(original.parent / "cache")
    steps = steps_of(cache)
    entries = bundle.bundle_entries(cache, steps, "{}", {}, bundle.about(cache, steps))
    target = tmp_path / "bundle.tar.zst"
    assert not bundle_reader.holds(target, entries)
    bundle.write_bundle(entries, target)
    assert bundle_reader.holds(target, entries)
    other = bundle.bundle_entries(cache, steps, "{}", {"more": b""}, bundle.about(cache, steps))
    assert not bundle_reader.holds(target, other)
    target.write_bytes(target.read_bytes()[:-1])
    assert not bundle_reader.holds(target, entries)


def test_every_truncation_is_noticed(original: Path, tmp_path: Path) -> None:
    whole = original.read_bytes()
    cut = tmp_path / "cut.tar.zst"
    for length in (0, 3, 17, 500, len(whole) // 2, len(whole) - 30, len(whole) - 4, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match=r"cut\.tar\.zst (is truncated|is no bundle)"):
            verified(cut, tmp_path / "cache")


def test_every_flipped_byte_is_noticed(original: Path, tmp_path: Path) -> None:
    whole = bytearray(original.read_bytes())
    bad = tmp_path / "bad.tar.zst"
    for place in range(0, len(whole), len(whole) // 40):
        damaged = whole.copy()
        damaged[place] ^= 0x55
        bad.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"bad\.tar\.zst"):
            verified(bad, tmp_path / "cache")


@pytest.mark.parametrize("more", [b"more", zstandard.compress(b"more"), zstandard.compress(bytes(10240))])
def test_nothing_may_follow(original: Path, tmp_path: Path, more: bytes) -> None:
    long = tmp_path / "long.tar.zst"
    long.write_bytes(original.read_bytes() + more)
    with pytest.raises(ArtifactError, match="something follows the end"):
        verified(long, tmp_path / "cache")


def test_nothing_may_follow_inside(original: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.tar.zst"
    long.write_bytes(zstandard.compress(zstandard.open(original).read() + b"hidden"))
    with pytest.raises(ArtifactError, match="something follows the end"):
        verified(long, tmp_path / "cache")


def a_file(name: str, content: bytes = b"x", **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = archive_member(name, len(content))
    for key, value in facts.items():
        setattr(member, key, value)
    return member, content


def change_content(members: list[tuple[tarfile.TarInfo, bytes]], path: str, content: bytes) -> None:
    """Change a file, and its line in SHA256SUMS, too, as somebody would who means it."""
    for number, (member, old) in enumerate(members):
        if member.name == f"{bundle.FOLDER}/{path}":
            members[number] = a_file(member.name, content)
            sums = members[0][1].replace(
                hashlib.sha256(old).hexdigest().encode(), hashlib.sha256(content).hexdigest().encode()
            )
            members[0] = a_file(members[0][0].name, sums)


FOREIGN = {
    "absolute": (a_file("/etc/passwd"), "'/etc/passwd' lies outside"),
    "traversal": (a_file(f"{bundle.FOLDER}/cache/../../../evil"), "lies outside"),
    "elsewhere": (a_file("other/file"), "'other/file' lies outside"),
    "spelled_otherwise": (a_file(f"{bundle.FOLDER}//cache/x"), "lies outside"),
    "symbolic_link": (a_file(f"{bundle.FOLDER}/cache/x", b"", type=tarfile.SYMTYPE, linkname="/etc"), "no regular"),
    "hard_link": (a_file(f"{bundle.FOLDER}/cache/x", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "no regular"),
    "device": (a_file(f"{bundle.FOLDER}/cache/x", b"", type=tarfile.CHRTYPE), "no regular"),
    "not_listed": (a_file(f"{bundle.FOLDER}/cache/images/more.tar"), r"cache/images/more\.tar is not in SHA256SUMS"),
    "twice": (a_file(f"{bundle.FOLDER}/bundle.json"), "bundle.json is in it twice"),
}


@pytest.mark.parametrize(("member", "said"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_refused(
    original: Path, tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], said: str
) -> None:
    path = rewritten(original, tmp_path / "foreign.tar.zst", lambda members: members.append(member))
    cache = cache_of(tmp_path / "cache")
    with pytest.raises(ArtifactError, match=said):
        bundle_reader.unpack_bundle(path, cache, steps_of(cache))
    assert list((tmp_path / "cache").rglob("*")) == []


@pytest.mark.parametrize("path", ["cache/artifacts/tool/1.2.3-amd64/tool", "sbom.cdx.json", "bundle.json"])
def test_files_that_were_changed_are_named(original: Path, tmp_path: Path, path: str) -> None:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[:] = [
            (member, content[::-1] if member.name == f"{bundle.FOLDER}/{path}" else content)
            for member, content in members
        ]

    changed = rewritten(original, tmp_path / "changed.tar.zst", change)
    cache = cache_of(tmp_path / "cache")
    with pytest.raises(ArtifactError, match=f"{path} does not have the checksum in SHA256SUMS"):
        bundle_reader.unpack_bundle(changed, cache, steps_of(cache))
    assert list((tmp_path / "cache").rglob("*")) == []


@pytest.mark.parametrize(
    "path", ["cache/images/tool_1.2.3_amd64.tar", "cache/images/tool_1.2.3_amd64.json", "bundle.json"]
)
def test_missing_files_are_named(original: Path, tmp_path: Path, path: str) -> None:
    def remove(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[:] = [item for item in members if item[0].name != f"{bundle.FOLDER}/{path}"]

    with pytest.raises(ArtifactError, match=f"lacks {path}"):
        verified(rewritten(original, tmp_path / "less.tar.zst", remove), tmp_path)


def test_a_product_that_its_record_does_not_know_is_refused(original: Path, tmp_path: Path) -> None:
    changed = rewritten(
        original,
        tmp_path / "changed.tar.zst",
        lambda members: change_content(members, "cache/images/tool_1.2.3_amd64.tar", b"another image"),
    )
    with pytest.raises(ArtifactError, match=r"the records do not match cache/images/tool_1\.2\.3_amd64\.tar"):
        verified(changed, tmp_path)


def test_other_pins_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = made_bundle(tmp_path, version="1.2.2")
    cache = cache_of(tmp_path / "other")
    with pytest.raises(
        ArtifactError,
        match=r"only this collection has tool 1\.2\.3; only the bundle has tool 1\.2\.2.*same version",
    ):
        bundle_reader.unpack_bundle(path, cache, steps_of(cache))
    assert list((tmp_path / "other").rglob("*")) == []


def test_another_architecture_or_format_is_refused(original: Path, tmp_path: Path) -> None:
    machines = Cache(tmp_path, PINS, "arm64")
    with pytest.raises(ArtifactError, match="is for amd64, but the machines are arm64"):
        bundle_reader.verify_bundle(original, machines, steps_of(machines))
    newer = rewritten(
        original, tmp_path / "newer.tar.zst", lambda members: change_content(members, "bundle.json", b'{"format": 2}')
    )
    with pytest.raises(ArtifactError, match="has format 2; this version of the collection reads 1"):
        verified(newer, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", zstandard.compress(b"no tar"), b"PK\3\4"])
def test_what_is_no_bundle_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"some\.file is (no bundle|truncated)"):
        verified(path, tmp_path)


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.tar\.zst: No such file"):
        verified(tmp_path / "gone.tar.zst", tmp_path)


def test_a_damaged_cache_gives_no_bundle(tmp_path: Path) -> None:
    cache = cache_of(tmp_path / "cache")
    steps = steps_of(cache)
    execute(steps, lambda *_: None)
    (steps[0].product / "tool").write_bytes(CONTENT[1:])
    with pytest.raises(ArtifactError, match=r"tool 1\.2\.3 is damaged in the cache"):
        bundle.bundle_entries(cache, steps, "{}", {}, bundle.about(cache, steps))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    steps[0].record.unlink()
    with pytest.raises(ArtifactError, match=r"tool 1\.2\.3 is not in the cache"):
        bundle.cache_entries(cache, steps)


def test_progress_is_said_only_when_it_takes_long() -> None:
    said: list[str] = []
    times = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    report = bundle.every_few_seconds(said.append, "writing x:", lambda: next(times))
    for done in (0, 10, 50, 60):
        report(done * bundle.MEBIBYTE, 100 * bundle.MEBIBYTE)
    assert said == ["writing x: 50 % of 100.0 MiB"]


def test_records_say_nothing_of_the_time(original: Path) -> None:
    with zstandard.open(original) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        members = {member.name: (archive.extractfile(member) or io.BytesIO()).read() for member in archive}
    records = [json.loads(text) for name, text in members.items() if name.endswith(("manifest.json", "_amd64.json"))]
    assert [sorted(record) for record in records] == [["digest", "files", "size"], ["digest", "sha256", "size"]]


class FakeBuilder:
    """As much of a builder as a source asks for."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def steps(self) -> list[Step]:
        return steps_of(self.cache)


def request(directory: Path, path: Path | None) -> Any:
    return sources.Request(FakeBuilder(cache_of(directory)), {}, path)  # type: ignore[arg-type]


def test_the_source_fills_the_cache_and_tells_of_it(original: Path, tmp_path: Path) -> None:
    said: list[str] = []
    plan = sources.SOURCES["bundle"].plan(request(tmp_path, original))
    made = plan.fill(plan.steps, lambda name, state, _seconds, _size: said.append(f"{state} {name}"))
    assert made == ["tool 1.2.3", "image tool"]
    assert said == ["unpacking bundle.tar.zst", "unpacked bundle.tar.zst"]
    assert all(step.is_made() for step in plan.steps)


def test_the_source_refuses_before_anything_is_done(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="artifacts_source is bundle, and artifacts_bundle is not set"):
        sources.SOURCES["bundle"].plan(request(tmp_path, None))
    with pytest.raises(ArtifactError, match=r"artifacts_bundle is .*gone\.tar\.zst, which is no file"):
        sources.SOURCES["bundle"].plan(request(tmp_path, tmp_path / "gone.tar.zst"))
    with pytest.raises(ArtifactError, match="was made with other pins"):
        sources.SOURCES["bundle"].plan(request(tmp_path, made_bundle(tmp_path, version="1.2.2")))


def test_the_source_has_the_pinned_versions_only(original: Path, tmp_path: Path) -> None:
    asked = request(tmp_path, original)
    asked.builder.cache.pins = {"components": {"tool": {"version": "1.2.4", "given": True}}}
    with pytest.raises(ArtifactError, match=r"artifacts_source: bundle has only the versions of .* one of tool"):
        sources.SOURCES["bundle"].plan(asked)


def test_a_complete_cache_is_not_compared_again(original: Path, tmp_path: Path) -> None:
    other = made_bundle(tmp_path, version="1.2.2")
    plan = sources.SOURCES["bundle"].plan(request(original.parent / "cache", other))
    assert all(step.is_made() for step in plan.steps)
