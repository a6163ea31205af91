"""What artifacts are made of: read where each kind of package keeps it, and told in a document that others can read."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.action import bundle as action
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import bundle, contents, sbom
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.build import Builder
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.images import archive_member
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import ArtifactError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.scheduler import execute
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.unit.artifacts.test_build import pause_cache, silent

STATUS = """Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14+b1
Description: a library
 in more than one line

Package: gcc-12-base
Status: install ok installed
Architecture: amd64
Source: gcc-12
Version: 12.2.0-14

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: bare
Status: install ok installed
Architecture: all
Version: 1:2~3
"""


def layer(path: Path) -> Path:
    """A Debian root file system, as little of it as counts."""
    files = {
        "var/lib/dpkg/status": STATUS,
        "usr/share/doc/base-files/copyright": "base",
        "usr/share/doc/gcc-12-base/copyright": "gcc",
        "usr/share/common-licenses/GPL-3": "the GPL",
    }
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            archive.addfile(archive_member(f"./{name}", len(text)), io.BytesIO(text.encode()))
        link = archive_member("./usr/share/common-licenses/GPL", kind=tarfile.SYMTYPE)
        link.linkname = "GPL-3"
        archive.addfile(link)
    return path


def test_debian_packages_come_with_their_copyright(tmp_path: Path) -> None:
    parts = {part.purl.name: part for part in contents.debian_parts(layer(tmp_path / "layer.tar"), "bookworm")}
    assert set(parts) == {"base-files", "libgcc-s1", "gcc-12-base", "bare"}
    assert str(parts["bare"].purl) == "pkg:deb/debian/bare@1:2~3?arch=all&distro=bookworm"
    assert parts["bare"].texts == {}
    # One source, one file.
    assert parts["libgcc-s1"].texts == parts["gcc-12-base"].texts == {"copyright": b"gcc"}
    assert parts["base-files"].texts == {
        "copyright": b"base",
        "common-licenses/GPL": b"the GPL",
        "common-licenses/GPL-3": b"the GPL",
    }


def python_package(folder: Path, name: str, about: str, **texts: str) -> None:
    metadata = folder / f"{name}-1.0.dist-info"
    (metadata / "licenses").mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{about}")
    for file, text in texts.items():
        (metadata / "licenses" / file).write_text(text)


def test_python_packages_name_their_licence_in_one_of_three_ways(tmp_path: Path) -> None:
    python_package(tmp_path, "new", "License-Expression: MIT\n", LICENSE="text", NOTICE="and this")
    python_package(tmp_path, "old", "License: BSD License\n", COPYING="text")
    python_package(tmp_path, "older", "Classifier: License :: OSI Approved :: Apache Software License\n")
    parts = {part.purl.name: part for part in contents.python_parts(tmp_path)}
    assert {name: part.licence for name, part in parts.items()} == {
        "new": "MIT",
        "old": "BSD License",
        "older": "Apache Software License",
    }
    assert parts["new"].texts == {"licenses/LICENSE": b"text", "licenses/NOTICE": b"and this"}
    assert parts["older"].texts == {}
    assert str(parts["new"].purl) == "pkg:pypi/new@1.0"


def test_licence_texts_are_found_also_of_what_a_package_took_over(tmp_path: Path) -> None:
    wanted = ["LICENSE", "LICENSE-APACHE-2.0.txt", "COPYING", "NOTICE.md", "third_party/fork/LICENCE", "UNLICENSE"]
    others = ["license.go", "licenses.json", "noticed.txt", "vendor/x/LICENSE", "testdata/LICENSE", "README.md"]
    for name in (*wanted, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sorted(contents.licence_texts(tmp_path)) == sorted(wanted)


@pytest.fixture
def module_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `go mod download` would say about two modules."""
    (tmp_path / "LICENSE").write_text("text")
    said = "".join(
        json.dumps({"Path": path, "Version": "v1.0.0", "Dir": str(tmp_path), "Sum": f"h1:{path}"}, indent=1) + "\n"
        for path in ("example.org/A/b", "single")
    )
    monkeypatch.setattr(contents, "run", lambda *_arguments, **_environment: said)
    return tmp_path


def test_go_modules_are_those_the_binaries_were_built_from(module_cache: Path) -> None:
    wanted = {("example.org/A/b", "v1.0.0"): "h1:example.org/A/b", ("single", "v1.0.0"): "h1:single"}
    parts = contents.go_parts(wanted)
    assert [str(part.purl) for part in parts] == ["pkg:golang/example.org/A/b@v1.0.0", "pkg:golang/single@v1.0.0"]
    assert [part.folder for part in parts] == ["golang/example.org/A/b@v1.0.0", "golang/single@v1.0.0"]
    assert parts[0].texts == {"LICENSE": b"text"}
    with pytest.raises(ArtifactError, match=r"single@v1\.0\.0 has the checksum h1:single, but the binaries"):
        contents.go_parts({**wanted, ("single", "v1.0.0"): "h1:other"})


def small_contents() -> contents.Contents:
    parts = {
        "with": contents.Part(contents.module_purl("example.org/x", "v1"), "MIT", {"LICENSE": b"text"}),
        "without": contents.Part(contents.module_purl("example.org/y", "v2"), "Some words of its own"),
    }
    purls = [str(part.purl) for part in parts.values()]
    return contents.Contents(
        [
            contents.Artifact("artifacts/a/1/tool", "binary", "tool", "1", tuple(purls), "ab" * 32),
            contents.Artifact("artifacts/a/1", "component", "a", "1", ("artifacts/a/1/tool",), licence="Apache-2.0"),
            contents.Artifact("images/a.tar", "image", "example.org/a", "1", ("artifacts/a/1/tool",), "cd" * 32),
        ],
        {str(part.purl): part for part in parts.values()},
    )


def test_the_document_is_valid_and_links_packages_to_the_artifacts_that_hold_them() -> None:
    text = sbom.document(small_contents(), "bundle", "1", "licences", "cache")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    links = {item["ref"]: item.get("dependsOn", []) for item in document["dependencies"]}
    assert links["artifacts/a/1/tool"] == ["pkg:golang/example.org/x@v1", "pkg:golang/example.org/y@v2"]
    assert links["images/a.tar"] == links["artifacts/a/1"] == ["artifacts/a/1/tool"]
    assert links[sbom.BUNDLE] == ["artifacts/a/1", "images/a.tar"]
    components = {item["bom-ref"]: item for item in document["components"]}
    assert set(links) == {sbom.BUNDLE, *components}
    assert components["artifacts/a/1/tool"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    licence, missing = components["pkg:golang/example.org/x@v1"], components["pkg:golang/example.org/y@v2"]
    assert licence["externalReferences"][0]["url"] == "licences/golang/example.org/x@v1/LICENSE"
    assert missing["properties"] == [{"name": "kubescale.fleet:licence", "value": "no text found"}]
    assert missing["licenses"] == [{"license": {"name": "Some words of its own"}}]


def test_the_document_says_nothing_of_time_or_chance() -> None:
    texts = [sbom.document(small_contents(), "bundle", "1", "licences", "cache") for _ in range(2)]
    assert texts[0] == texts[1]
    other = json.loads(sbom.document(small_contents(), "bundle", "2", "licences", "cache"))
    assert other["serialNumber"] != json.loads(texts[0])["serialNumber"]


def test_the_index_names_packages_without_a_licence_text() -> None:
    files = contents.licence_files(small_contents())
    assert set(files) == {"index.json", "golang/example.org/x@v1/LICENSE"}
    assert json.loads(files["index.json"]) == [
        {"purl": "pkg:golang/example.org/x@v1", "licence": "MIT", "files": ["golang/example.org/x@v1/LICENSE"]},
        {"purl": "pkg:golang/example.org/y@v2", "licence": "Some words of its own", "files": []},
    ]


def test_two_builds_of_the_same_pins_give_the_same_bundle(tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        builder = Builder(pause_cache(tmp_path / name))
        execute(builder.steps(), silent)
        entries = action.all_entries(builder)
        bundle.write_bundle(entries, tmp_path / f"{name}.tar.zst")
        archives.append((tmp_path / f"{name}.tar.zst").read_bytes())
    assert archives[0] == archives[1]
