# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The contents of artifacts: Go modules, Debian, Python, npm and Maven packages, with licence texts.

The facts come from the packages themselves: the build information in a binary, dpkg's status in a layer, the metadata
of installed Python packages, the lock file of a page, the places of libraries in Maven's repository.
"""

from __future__ import annotations

import email
import json
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

from packageurl import PackageURL

from .build import Builder, run
from .pins import ArtifactError

#: The licence of this project's own programs.
OWN_LICENCE = "Apache-2.0"
TEXT_NAME = re.compile(r"((un)?licen[cs]es?|copying|copyright|notice|patents)\b", re.IGNORECASE)
#: Files of programs and lists, whose names may contain the word licence.
NO_TEXT = {".csv", ".go", ".js", ".json", ".py", ".sh", ".yaml", ".yml"}
NOT_SHIPPED = {"node_modules", "testdata", "vendor"}


@dataclass(frozen=True)
class Part:
    """A package inside of artifacts; its ``licence`` as its own metadata names it, its licence ``texts`` by name."""

    purl: PackageURL
    licence: str = ""
    texts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """A path that no other part has."""
        return "/".join(item for item in (self.purl.type, self.purl.namespace, self.purl.name) if item) + (
            f"@{self.purl.version}"
        )


@dataclass(frozen=True)
class Artifact:
    """A product of the cache, or a file in one.

    Attributes:
        place: Path below the cache; unique.
        kind: ``component`` (a folder), ``binary``, ``data``, ``image`` or ``layer``.
        holds: Places of artifacts and purls of parts inside of it.
        sha256: Of the file, in hex; empty for folders.
        licence: Only of the project's own programs.
    """

    place: str
    kind: str
    name: str
    version: str
    holds: tuple[str, ...] = ()
    sha256: str = ""
    licence: str = ""
    purl: PackageURL | None = None


@dataclass(frozen=True)
class Contents:
    """All artifacts of a cache, and by purl all parts they hold."""

    artifacts: list[Artifact]
    parts: dict[str, Part]


def licence_texts(folder: Path) -> dict[str, bytes]:
    """Return the licence texts in a package's folder, with those of vendored code, by path in the folder."""
    found = {}
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        if is_licence_text(path) and file.is_file():
            found[str(path)] = file.read_bytes()
    return found


def is_licence_text(path: Path) -> bool:
    """Return whether a path in a package is that of a licence text."""
    named = TEXT_NAME.match(path.name) and path.suffix.lower() not in NO_TEXT
    return bool(named) and not NOT_SHIPPED & set(path.parts)


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON documents that follow each other in ``text``."""
    decoder, place = json.JSONDecoder(), 0
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        document, place = decoder.raw_decode(text, place)
        yield document


def module_purl(path: str, version: str) -> PackageURL:
    """Return the package URL of a Go module."""
    namespace, _slash, name = path.rpartition("/")
    return PackageURL("golang", namespace or None, name, version)


def go_modules(binary: Path) -> dict[tuple[str, str], str]:
    """Return the modules linked into a Go binary: path and version → checksum in Go's notation; empty for Go itself."""
    information = json.loads(run(["go", "version", "-m", "-json", str(binary)], binary.parent))
    modules = {("std", information["GoVersion"].removeprefix("go")): ""}
    for module in (information["Main"], *information.get("Deps", [])):
        linked = module.get("Replace", module)
        if linked.get("Sum"):
            modules[linked["Path"], linked["Version"]] = linked["Sum"]
    return modules


def go_parts(modules: Mapping[tuple[str, str], str]) -> list[Part]:
    """Return a part for each module. Sources that are not in Go's module cache are fetched.

    Raise ArtifactError if a module cannot be fetched, or is not the one that the binary was built from.
    """
    parts = [
        Part(module_purl(path, version), texts=licence_texts_of_go())
        for (path, version), checksum in modules.items()
        if not checksum
    ]
    wanted = [f"{path}@{version}" for (path, version), checksum in sorted(modules.items()) if checksum]
    if not wanted:
        return parts
    with tempfile.TemporaryDirectory() as nowhere:
        # The checksums are compared with those in the binaries below, so no checksum server is needed.
        said = run(["go", "mod", "download", "-json", *wanted], Path(nowhere), GOSUMDB="off", GOFLAGS="-mod=mod")
    for module in documents(said):
        checksum = modules[module["Path"], module["Version"]]
        if module["Sum"] != checksum:
            raise ArtifactError(
                f"Go module {module['Path']}@{module['Version']} has the checksum {module['Sum']}, but the binaries "
                f"were built from {checksum}. Remove it from Go's module cache (go clean -modcache) and run again."
            )
        parts.append(Part(module_purl(module["Path"], module["Version"]), texts=licence_texts(Path(module["Dir"]))))
    return parts


def licence_texts_of_go() -> dict[str, bytes]:
    """Return the licence texts of Go's own library, which is in every binary."""
    root = Path(run(["go", "env", "GOROOT"], Path("/")).strip())
    return {file.name: file.read_bytes() for file in sorted(root.iterdir()) if file.name in {"LICENSE", "PATENTS"}}


def python_parts(packages: Path) -> list[Part]:
    """Return a part for each Python package installed in ``packages``."""
    parts = []
    for folder in sorted(packages.glob("*.dist-info")):
        about = metadata.Distribution.at(folder).metadata
        names = [line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if line.startswith("License ::")]
        # Some packages put the whole text into this field.
        short = [line for line in about.get_all("License", []) if "\n" not in line]
        licence = " and ".join(about.get_all("License-Expression", []) or short or names)
        parts.append(Part(PackageURL("pypi", None, about["Name"], about["Version"]), licence, licence_texts(folder)))
    return parts


def npm_parts(page: Path) -> list[Part]:
    """Return a part for each npm package of a page. Read them from an installation in a temporary folder."""
    lock = json.loads((page / "package-lock.json").read_text(encoding="utf-8"))
    places = [place for place, package in lock["packages"].items() if place and not package.get("dev")]
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(page / name, Path(temporary) / name)
        run(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], Path(temporary))
        parts = []
        for place in places:
            folder = Path(temporary) / place
            about = json.loads((folder / "package.json").read_text(encoding="utf-8"))
            namespace, _slash, name = about["name"].rpartition("/")
            purl = PackageURL("npm", namespace or None, name, about["version"])
            parts.append(Part(purl, str(about.get("license", "")), licence_texts(folder)))
    return parts


def maven_parts(libraries: Path, listed: Path) -> list[Part]:
    """Return a part for each library in a folder. The file ``listed`` has their places in Maven's repository."""
    parts = []
    for line in listed.read_text(encoding="utf-8").splitlines():
        *group, name, version, file = line.split()[1].split("/")
        with zipfile.ZipFile(libraries / file) as archive:
            inside = [entry for entry in archive.namelist() if not entry.endswith("/") and is_licence_text(Path(entry))]
            texts = {entry: archive.read(entry) for entry in sorted(inside)}
            about = email.message_from_bytes(archive.read("META-INF/MANIFEST.MF"))
        # An OSGi header, wrapped: a name or an address, and perhaps more about it after a semicolon.
        licence = "".join(line.strip() for line in str(about.get("Bundle-License", "")).splitlines())
        licence = licence.partition(";")[0].strip('" ')
        parts.append(Part(PackageURL("maven", ".".join(group), name, version), licence, texts))
    return parts


def debian_parts(layer: Path, suite: str) -> list[Part]:
    """Return a part for each package that is installed in a layer (a tar of a Debian root file system)."""
    with tarfile.open(layer) as archive:
        members = {member.name.removeprefix("./"): member for member in archive}

        def read(name: str) -> bytes:
            stream = archive.extractfile(members[name])
            return stream.read() if stream else b""

        status = read("var/lib/dpkg/status").decode()
        installed = [email.message_from_string(paragraph) for paragraph in status.split("\n\n") if paragraph.strip()]
        installed = [package for package in installed if package["Status"].endswith(" installed")]
        shared = {
            name.removeprefix("usr/share/"): read(name)
            for name, member in members.items()
            if name.startswith("usr/share/common-licenses/") and not member.isdir()
        }
        texts = {}
        for package in installed:
            name = f"usr/share/doc/{package['Package']}/copyright"
            if name in members:
                texts[package["Package"]] = read(name)
    # Packages of one source may share one file by a link, and the layer does not have such links.
    by_source = {source_of(package): texts[package["Package"]] for package in installed if package["Package"] in texts}
    parts = []
    for package in installed:
        text = texts.get(package["Package"]) or by_source.get(source_of(package))
        found = {"copyright": text} if text else {}
        if package["Package"] == "base-files":
            found |= shared
        qualifiers = {"arch": package["Architecture"], "distro": suite}
        parts.append(Part(PackageURL("deb", "debian", package["Package"], package["Version"], qualifiers), texts=found))
    return parts


def source_of(package: Message) -> str:
    """Return the name of the source package a Debian package was made from."""
    return (package["Source"] or package["Package"]).split()[0]


class Inspector:
    """Reads the contents of a complete cache."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.cache = builder.cache
        self.modules: dict[tuple[str, str], str] = {}
        self.parts: dict[str, Part] = {}
        self.artifacts: list[Artifact] = []

    def contents(self) -> Contents:
        """Return the contents. Raise ArtifactError if a product is not in the cache or cannot be read."""
        for name, recipe in self.cache.pins["components"].items():
            self._component(name, recipe)
        for name in self.cache.pins["layers"]:
            self._layer(name)
        for image in self.cache.images():
            record = self.cache.recorded(image.record)
            recipe = image.recipe
            folder = self._place(self.cache.component(recipe["component"]))
            holds = [f"{folder}/{binary}" for binary in recipe.get("binaries", {})] or [folder]
            holds += [self._place(self.cache.layer(recipe["layer"]))] if "layer" in recipe else []
            repository, tag = image.reference.rsplit(":", 1)
            qualifiers = {"arch": self.cache.architecture, "repository_url": repository, "tag": tag}
            purl = PackageURL("oci", None, repository.rpartition("/")[2], record["manifest"], qualifiers)
            place = self._place(image.archive)
            self.artifacts.append(
                Artifact(place, "image", repository, tag, tuple(holds), record["sha256"], self._owner(repository), purl)
            )
        self._add(go_parts(self.modules))
        return Contents(self.artifacts, self.parts)

    def _place(self, path: Path) -> str:
        return str(path.relative_to(self.cache.directory))

    @staticmethod
    def _owner(repository: str) -> str:
        return OWN_LICENCE if repository.startswith("localhost/kubescale/") else ""

    def _add(self, parts: Iterable[Part]) -> list[str]:
        found = {str(part.purl): part for part in parts}
        self.parts |= found
        return sorted(found)

    def _component(self, name: str, recipe: Mapping[str, Any]) -> None:
        folder, version = self.cache.component(name), recipe["version"]
        files = self.cache.recorded(folder / "manifest.json")["files"]
        holds: list[str] = []
        linked: dict[tuple[str, str], str] = {}
        for binary in recipe.get("packages", {}):
            modules = go_modules(folder / binary)
            linked |= modules
            place = self._place(folder / binary)
            purls = tuple(sorted(str(module_purl(*module)) for module in modules))
            self.artifacts.append(Artifact(place, "binary", binary, version, purls, files[binary]["sha256"]))
            holds.append(place)
        for data, origin in recipe.get("data", {}).items():
            place = self._place(folder / data)
            purls = tuple(str(module_purl(*module)) for module in linked if module[0] == origin["module"])
            self.artifacts.append(Artifact(place, "data", data, version, purls))
            holds.append(place)
        self.modules |= linked
        if "python" in recipe:
            if (folder / "site-packages").exists():
                holds += self._add(python_parts(folder / "site-packages"))
            if "ui" in recipe["python"]:
                holds += self._add(
                    npm_parts(self.builder.collection / recipe["python"]["source"] / recipe["python"]["ui"])
                )
        if "npm" in recipe:
            holds += self._add(npm_parts(self.builder.collection / recipe["npm"]["source"]))
        if "maven" in recipe:
            listed = self.builder.collection / recipe["maven"]["source"] / recipe["maven"]["libraries"]
            holds += self._add(maven_parts(folder / "lib", listed))
        own = "packages" not in recipe or "." in recipe["packages"].values()
        licence = OWN_LICENCE if own else ""
        self.artifacts.append(Artifact(self._place(folder), "component", name, version, tuple(holds), licence=licence))

    def _layer(self, name: str) -> None:
        layer, suite = self.cache.layer(name), self.cache.pins["debian"]
        sha256 = self.cache.recorded(layer.with_suffix(".json"))["sha256"]
        purls = tuple(self._add(debian_parts(layer, suite)))
        self.artifacts.append(Artifact(self._place(layer), "layer", name, suite, purls, sha256))


def licence_files(contents: Contents) -> dict[str, bytes]:
    """Return the licence texts of all parts by path, and ``index.json``, which also names the parts without any."""
    files: dict[str, bytes] = {}
    index = []
    for purl, part in sorted(contents.parts.items()):
        own = {f"{part.folder}/{name}": text for name, text in sorted(part.texts.items())}
        files |= own
        index.append({"purl": purl, "licence": part.licence, "files": list(own)})
    return {"index.json": json.dumps(index, indent=1).encode(), **files}
