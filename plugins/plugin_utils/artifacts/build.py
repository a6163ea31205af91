# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Binaries and container images: what is pinned, what the cache holds, and how missing parts are built.

Pure Python around the usual tools (go, pip, npm, mvn, mmdebstrap). Everything made here is deterministic: the same pins
and sources give the same bytes, so a digest names a content and a cache entry never goes stale unnoticed.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
import zstandard

from ..common.errors import FleetError
from ..common.paths import COLLECTION

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# One moment for every file in every archive; any constant would do.
EPOCH = 1735689600
# Part of each digest: raise one when this file changes what it makes from the same sources.
FORMAT = "1"
LAYER_FORMAT = "2"
IMAGE_FORMAT = "2"
# A Go build keeps all cores busy only while it compiles; a second one fills the gap while the first one links.
PARALLEL = {"build": 2, "fetch": 4, "note": 4}
STATES = {"build": ("building", "built"), "fetch": ("fetching", "fetched")}
# What says where a finished part may be had instead: it changes nothing about what a build makes.
FETCH_KEYS = {"downloads", "digest"}
# What programs in a language of their own find in their environment, by the layer below them.
ENVIRONMENTS = {
    "node": ["NODE_ENV=production"],
    "python": ["PYTHONPATH=/app/site-packages", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"],
}
# Images of this collection's own programs; no registry has them.
OWN_REPOSITORIES = "localhost/"


class ArtifactError(FleetError):
    """Something cannot be built or found; the message says what, why, and what to do."""


@functools.cache
def load_pins(path: Path = COLLECTION / "files" / "artifacts.yml") -> dict[str, Any]:
    """Return the pinned versions and build recipes of ``files/artifacts.yml``."""
    # With libyaml a tenth of the time, in every task that asks for a version.
    return yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def versioned_pins(versions: Mapping[str, Any] | None, sample_apps: Collection[str] = ()) -> dict[str, Any]:
    """Return the pins with the versions, checksums and image digests of ``artifacts_versions`` in them.

    Of the sample apps only those named are in them. A component whose version is another one than the pinned gets
    ``given: true``: it cannot be built. Raises ArtifactError with the variable, the value, and what is allowed.
    """
    pins = chosen_pins(load_pins(), sample_apps)
    if not versions:
        return pins
    pins = copy.deepcopy(pins)
    own = {image["component"] for image in pins["images"] if image["repository"].startswith(OWN_REPOSITORIES)}
    for name, given in versions.items():
        where = f"artifacts_versions.{name}"
        allowed = sorted(set(pins["components"]) - own)
        if name not in allowed:
            raise ArtifactError(f"{where}: is none of {', '.join(allowed)} (files/artifacts.yml)")
        if not isinstance(given, Mapping) or set(given) - {"version", "sha256", "digests"} or not given.get("version"):
            raise ArtifactError(
                f"{where} = {given!r}: must be a dictionary with version, and with sha256 and digests where they are "
                f"known, such as {{version: {pins['components'][name]['version']}}}"
            )
        recipe, version = pins["components"][name], given["version"]
        # Unquoted, YAML makes 3.10 the number 3.1.
        if not isinstance(version, str) or not re.fullmatch(r"[0-9]+(\.[0-9]+)+(-[0-9A-Za-z.-]+)?", version):
            raise ArtifactError(
                f"{where}.version = {version!r}: must be a version in quotes, without v, such as '1.2.3'"
            )
        if version != recipe["version"]:
            recipe.update(version=version, given=True)
            for item in recipe.get("downloads", []):
                item["sha256"] = {}
        give_checksums(where, recipe, given.get("sha256") or {})
        give_digests(
            where, [image for image in pins["images"] if image["component"] == name], given.get("digests") or {}
        )
    return pins


def chosen_pins(pins: dict[str, Any], sample_apps: Collection[str]) -> dict[str, Any]:
    """Return the pins without the sample apps that are not named, and without the layers that only these need."""
    components = {
        name: recipe
        for name, recipe in pins["components"].items()
        if recipe.get("sample_app") is None or recipe["sample_app"] in sample_apps
    }
    images = [image for image in pins["images"] if image["component"] in components]
    used = {image.get("layer") for image in images}
    layers = {name: recipe for name, recipe in pins["layers"].items() if name in used}
    return {**pins, "components": components, "images": images, "layers": layers}


def download_hosts(pins: Mapping[str, Any]) -> set[str]:
    """Return the hosts that upstream serves files from; other hosts of ``artifacts_mirrors`` are registries."""
    recipes = pins["components"].values()
    return {urlsplit(item["url"]).netloc for recipe in recipes for item in recipe.get("downloads", [])}


def give_checksums(where: str, recipe: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put checksums by architecture, or by architecture and file, into a component's downloads."""
    downloads = recipe.get("downloads", [])
    for architecture, value in given.items():
        if architecture not in ARCHITECTURES.values():
            raise ArtifactError(f"{where}.sha256.{architecture}: is none of {', '.join(ARCHITECTURES.values())}")
        words = {"version": recipe["version"], "architecture": architecture}
        names = {item["url"].format(**words).rsplit("/", 1)[1]: item for item in downloads}
        if not names:
            raise ArtifactError(f"{where}.sha256: this component is an image only; registries check what they serve")
        by_file = value if isinstance(value, Mapping) else dict.fromkeys(names, value) if len(names) == 1 else {}
        if not by_file or set(by_file) - set(names):
            raise ArtifactError(
                f"{where}.sha256.{architecture} = {value!r}: must be a dictionary with the SHA-256 of "
                f"{', '.join(names)}"
            )
        for file, sha256 in by_file.items():
            if not re.fullmatch("[0-9a-f]{64}", str(sha256)):
                raise ArtifactError(f"{where}.sha256.{architecture}.{file} = {sha256!r}: must be 64 hexadecimal digits")
            names[file].setdefault("sha256", {})[architecture] = sha256


def give_digests(where: str, images: list[dict[str, Any]], given: Mapping[str, Any]) -> None:
    """Put digests by repository into the recipes of a component's images."""
    repositories = {image["repository"]: image for image in images}
    for repository, digest in given.items():
        if repository not in repositories:
            known = ", ".join(repositories) or "none: this component has no image"
            raise ArtifactError(f"{where}.digests.{repository}: is none of {known}")
        if not re.fullmatch("sha256:[0-9a-f]{64}", str(digest)):
            raise ArtifactError(f"{where}.digests.{repository} = {digest!r}: must be sha256: and 64 hexadecimal digits")
        repositories[repository]["digest"] = digest


def machine_architecture() -> str:
    """Return this machine's architecture in Go's words; raises ArtifactError for one nothing is pinned for."""
    name = platform.machine()
    if name not in ARCHITECTURES:
        raise ArtifactError(f"This machine's architecture is {name}; supported are {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]


def digest_of(*parts: str | bytes) -> str:
    """Return the SHA-256 (hex) of the parts, each set apart by its length."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_files(source: Path, patterns: list[str]) -> list[Path]:
    """Return the files of ``source`` that match ``patterns``, sorted; raises ArtifactError if a pattern finds none."""
    found: set[Path] = set()
    for pattern in patterns:
        matches = {path for path in source.glob(pattern) if path.is_file()}
        if not matches:
            raise ArtifactError(f"{source} has no file {pattern}: the collection is incomplete.")
        found |= matches
    return sorted(found)


def library_digests(path: Path) -> dict[str, str]:
    """Return the checksums of libraries by file name, of a file as ``sha256sum`` writes it below Maven's repository."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {place.rsplit("/", 1)[1]: sha256 for sha256, place in lines}


@dataclass(frozen=True)
class Image:
    """A container image: its full ``reference``, its archive in the cache, and the kinds of machines that run it."""

    reference: str
    archive: Path
    recipe: Mapping[str, Any]

    @property
    def record(self) -> Path:
        """The file that says what the archive holds, or that machines pull the image themselves."""
        return self.archive.with_suffix(".json")

    @property
    def is_own(self) -> bool:
        """Whether the image is of a program of this collection, so that no registry has it."""
        return self.reference.startswith(OWN_REPOSITORIES)


class Cache:
    """The artifacts of one architecture below ``directory``."""

    def __init__(self, directory: Path, pins: dict[str, Any], architecture: str) -> None:
        self.directory = directory
        self.pins = pins
        self.architecture = architecture

    def component(self, name: str) -> Path:
        """Return the folder of a component; raises ArtifactError for a name that is not pinned."""
        if name not in self.pins["components"]:
            known = ", ".join(sorted(self.pins["components"]))
            raise ArtifactError(f"Unknown component {name!r}; files/artifacts.yml pins {known}.")
        return self.directory / "artifacts" / name / f"{self.pins['components'][name]['version']}-{self.architecture}"

    def images(self, machines: set[str] | None = None) -> list[Image]:
        """Return the pinned images, all of them or those that the given kinds of machines run."""
        result = []
        for recipe in self.pins["images"]:
            if machines is not None and not machines & set(recipe["machines"]):
                continue
            tag = recipe["tag"].format(version=self.pins["components"][recipe["component"]]["version"])
            archive = f"{recipe['repository'].replace('/', '_')}_{tag}_{self.architecture}.tar"
            result.append(Image(f"{recipe['repository']}:{tag}", self.directory / "images" / archive, recipe))
        return result

    def recorded(self, record: Path) -> dict[str, Any]:
        """Return what was recorded when an artifact was made; raises ArtifactError if it never was."""
        try:
            return json.loads(record.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{record.parent} is not in the cache. Make it with: ansible-playbook kubescale.fleet.artifacts"
            ) from error

    def machine_files(self, names: list[str]) -> list[dict[str, Any]]:
        """Return the files of ``names`` (keys of ``machine_files`` in the pins): source, destination, sha256, size."""
        result = []
        for name in names:
            if name not in self.pins["machine_files"]:
                raise ArtifactError(f"binaries: {name!r} is none of {', '.join(sorted(self.pins['machine_files']))}.")
            recipe = self.pins["machine_files"][name]
            folder = self.component(recipe["component"])
            files = self.recorded(folder / "manifest.json")["files"]
            result += [
                {
                    "source": str((folder / binary).relative_to(self.directory)),
                    "destination": f"{recipe['folder']}/{binary}",
                    **files[binary],
                }
                for binary in recipe["binaries"]
            ]
        return result

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the cache for one builder; calls ``waiting`` once if another one has it. Ends with the process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def archive_references(path: Path) -> list[str]:
    """Return the full names of the images in an archive made by ``docker save`` or ``podman save``, or an OCI archive.

    Raises ArtifactError if the file is missing, is no archive, or names no image.
    """
    try:
        with tarfile.open(path) as archive:
            names = set(archive.getnames())
            if "manifest.json" in names:
                manifest = json.load(archive.extractfile("manifest.json") or io.BytesIO(b"[]"))
                references = [tag for image in manifest for tag in image.get("RepoTags") or []]
            else:
                index = json.load(archive.extractfile("index.json") or io.BytesIO(b"{}"))
                annotations = [image.get("annotations", {}) for image in index["manifests"]]
                references = [
                    item["io.containerd.image.name"] for item in annotations if "io.containerd.image.name" in item
                ]
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise ArtifactError(f"{path} is no image archive as `docker save` writes it: {error}") from error
    if not references:
        raise ArtifactError(f"{path} names no image. Save it by name: docker save --output FILE NAME:TAG")
    return [full_reference(reference) for reference in references]


def full_reference(reference: str) -> str:
    """Return an image's name as containerd keeps it: with its registry, ``docker.io`` where it has none."""
    first, slash, _rest = reference.partition("/")
    if not slash:
        return f"docker.io/library/{reference}"
    return reference if first == "localhost" or "." in first or ":" in first else f"docker.io/{reference}"


def run(command: list[str], directory: Path, **environment: str) -> str:
    """Run a command and return its output; raises ArtifactError with the end of what it said."""
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise ArtifactError(f"{' '.join(command[:6])} … failed with exit status {done.returncode}:\n{said}")
    return done.stdout


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a record whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    temporary.replace(path)


def archive_member(name: str, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """Return a tar entry without anything of the machine it was made on."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.type, member.mtime = size, mode, kind, EPOCH
    return member


def write_layer(path: Path, content: Mapping[str, Path]) -> None:
    """Write a tar of ``content`` (place in the image → file or folder), parents first, always in the same order."""
    files: dict[str, Path] = {}
    for place, source in content.items():
        if source.is_dir():
            files |= {f"{place}/{found.relative_to(source)}": found for found in source.rglob("*") if found.is_file()}
        else:
            files[place] = source
    files = {place.lstrip("/"): source for place, source in files.items()}
    folders = sorted({str(parent) for place in files for parent in Path(place).parents} - {"."})
    # In an image on top of Debian these are links; a folder of the same name would hide what they lead to.
    folders = [folder for folder in folders if folder not in {"bin", "sbin", "lib"}]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in folders:
            archive.addfile(archive_member(folder, mode=0o755, kind=tarfile.DIRTYPE))
        for place in sorted(files):
            status = files[place].stat()
            with files[place].open("rb") as stream:
                archive.addfile(
                    archive_member(place, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644), stream
                )


def write_image(archive: Path, reference: str, architecture: str, layers: list[Path], config: dict[str, Any]) -> str:
    """Write an OCI image archive and return the digest of its manifest.

    Layers are compressed lightly: a third of the bytes to write, read and check on each machine, at no cost to unpack.
    """
    blobs: dict[str, bytes | Path] = {}

    def add(data: bytes | Path) -> dict[str, Any]:
        sha256 = file_digest(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
        blobs[sha256] = data
        return {"digest": f"sha256:{sha256}", "size": data.stat().st_size if isinstance(data, Path) else len(data)}

    compressed = []
    for number, layer in enumerate(layers):
        target = archive.with_suffix(f".layer{number}")
        with layer.open("rb") as plain, target.open("wb") as packed:
            zstandard.ZstdCompressor(level=3).copy_stream(plain, packed, size=layer.stat().st_size)
        compressed.append(target)
    stored = [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", **add(layer)} for layer in compressed]
    image_config = add(
        json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{file_digest(layer)}" for layer in layers]},
            },
            sort_keys=True,
        ).encode()
    )
    manifest = add(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **image_config},
                "layers": stored,
            },
            sort_keys=True,
        ).encode()
    )
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                **manifest,
                "annotations": {
                    "io.containerd.image.name": reference,
                    "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[1],
                },
                "platform": {"architecture": architecture, "os": "linux"},
            }
        ],
    }
    texts = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index, sort_keys=True).encode()}
    temporary = archive.with_suffix(".new")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as stream:
        for name, text in sorted(texts.items()):
            stream.addfile(archive_member(name, len(text)), io.BytesIO(text))
        for sha256, data in sorted(blobs.items()):
            name = f"blobs/sha256/{sha256}"
            if isinstance(data, Path):
                with data.open("rb") as content:
                    stream.addfile(archive_member(name, data.stat().st_size), content)
            else:
                stream.addfile(archive_member(name, len(data)), io.BytesIO(data))
    for target in compressed:
        target.unlink()
    temporary.replace(archive)
    return manifest["digest"]


@dataclass(frozen=True)
class Step:
    """One thing to make: its ``name`` for people, what it needs, and how to tell that it is there already."""

    name: str
    product: Path
    record: Path
    digest: str
    make: Callable[[], dict[str, Any]]
    needs: tuple[str, ...] = ()
    kind: Literal["build", "fetch", "note"] = "build"
    # Commands that this one needs beside those of all builds.
    tools: tuple[str, ...] = ()

    def is_made(self) -> bool:
        """Tell whether the cache holds exactly this."""
        try:
            recorded = json.loads(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        return self.product.exists() and recorded["digest"] == self.digest


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Return what a build's digest has of its recipe."""
    return json.dumps({key: value for key, value in recipe.items() if key not in FETCH_KEYS}, sort_keys=True)


def fill(folder: Path, make: Callable[[Path], None]) -> dict[str, Any]:
    """Have ``make`` fill a component's folder, whole or not at all, and return its manifest: files and size."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        make(made)
        files = {
            str(file.relative_to(made)): {"sha256": file_digest(file), "size": file.stat().st_size}
            for file in sorted(made.rglob("*"))
            if file.is_file()
        }
        if folder.exists():
            shutil.rmtree(folder)
        made.chmod(0o755)
        made.rename(folder)
    return {"files": files, "size": sum(file["size"] for file in files.values())}


class Builder:
    """Makes everything that the pins name from Go modules, PyPI, npm, Maven Central and Debian packages."""

    def __init__(self, cache: Cache, collection: Path = COLLECTION) -> None:
        self.cache = cache
        self.collection = collection

    def steps(self) -> list[Step]:
        """Return all steps, dependencies first. What is made is the pinned version, so one that was given has none."""
        recipes = {name: recipe for name, recipe in self.cache.pins["components"].items() if not recipe.get("given")}
        components = [self.component_step(name, recipe) for name, recipe in recipes.items()]
        layers = [self.layer_step(name, recipe) for name, recipe in self.cache.pins["layers"].items()]
        digests = {step.name: step.digest for step in [*components, *layers]}
        images = [image for image in self.cache.images() if image.recipe["component"] in recipes]
        return [*components, *layers, *(self.image_step(image, digests) for image in images)]

    def component_step(self, name: str, recipe: Mapping[str, Any]) -> Step:
        """Return the step that builds one component."""
        folder = self.cache.component(name)
        tools: tuple[str, ...] = ()
        if "go" in recipe:
            make: Callable[[Path], None] = functools.partial(self.build_go, recipe)
            patterns = ["go.mod", "*.go"] if "." in recipe["packages"].values() else ["go.mod", "go.sum"]
            sources = source_files(self.collection / "files" / "build" / recipe["go"], patterns)
        elif "npm" in recipe:
            make = functools.partial(self.build_npm, recipe["npm"])
            sources = source_files(self.collection / recipe["npm"]["source"], recipe["npm"]["include"])
        elif "maven" in recipe:
            make = functools.partial(self.build_maven, recipe["maven"])
            patterns = ["pom.xml", recipe["maven"]["libraries"], "src/**/*"]
            sources = source_files(self.collection / recipe["maven"]["source"], patterns)
            tools = ("mvn", "javac")
        else:
            python = recipe["python"]
            make = functools.partial(self.build_python, python)
            root = self.collection / python["source"]
            sources = source_files(root, python["include"])
            if "ui" in python:
                sources += source_files(root / python["ui"], ["*.json", "*.js", "*.html", "src/**/*"])
        contents = [part for file in sources for part in (file.name, file.read_bytes())]
        digest = digest_of(FORMAT, self.cache.architecture, recipe_text(recipe), *contents)
        build = functools.partial(fill, folder, make)
        return Step(f"{name} {recipe['version']}", folder, folder / "manifest.json", digest, build, tools=tools)

    def build_go(self, recipe: Mapping[str, Any], target: Path) -> None:
        """Build a component's binaries, static unless it needs C, without paths or times of this machine in them."""
        family = self.collection / "files" / "build" / recipe["go"]
        values = dict(recipe.get("variables", {}))
        major, minor, _patch = recipe["version"].split(".")
        for package in recipe.get("stamp", []):
            values |= {
                f"{package}.gitVersion": f"v{recipe['version']}",
                f"{package}.gitMajor": major,
                f"{package}.gitMinor": minor,
                f"{package}.gitTreeState": "clean",
                f"{package}.gitCommit": "kubescale",
                f"{package}.buildDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH)),
            }
        flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])
        environment = {
            "CGO_ENABLED": "1" if recipe.get("cgo") else "0",
            "GOARCH": self.cache.architecture,
            "GOFLAGS": "-mod=readonly",
            "GOTOOLCHAIN": "local",
        }
        with tempfile.TemporaryDirectory() as temporary:
            # Go may want to write beside go.mod; the collection may lie where nobody can write.
            work = Path(temporary) / "build"
            shutil.copytree(family, work)
            build = ["go", "build", "-trimpath", "-buildvcs=false", "-tags", ",".join(recipe.get("tags", []))]
            for binary, package in recipe["packages"].items():
                run([*build, "-ldflags", flags, "-o", str(target / binary), package], work, **environment)
            for name, data in recipe.get("data", {}).items():
                module = run(["go", "list", "-m", "-f", "{{.Dir}}", data["module"]], work, **environment).strip()
                # copyfile leaves the module cache's read-only modes behind.
                shutil.copytree(Path(module) / data["folder"], target / name, copy_function=shutil.copyfile)

    def build_python(self, python: Mapping[str, Any], target: Path) -> None:
        """Put a program, its locked dependencies and its page, if it has one, where an image takes them from."""
        source = self.collection / python["source"]
        for file in source_files(source, python["include"]):
            shutil.copyfile(file, target / file.name)
        requirements = source / "requirements.txt"
        if requirements.exists():
            packages = target / "site-packages"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
            command += ["--require-hashes", "--only-binary", ":all:", "--implementation", "cp"]
            command += [
                "--python-version",
                self.cache.pins["python"],
                "--target",
                str(packages),
                "-r",
                str(requirements),
            ]
            run(command, source)
            # Start scripts carry this machine's interpreter path, and so do their lines in the list of installed files.
            shutil.rmtree(packages / "bin", ignore_errors=True)
            for record in packages.glob("*.dist-info/RECORD"):
                record.unlink()
        if "ui" in python:
            with tempfile.TemporaryDirectory() as temporary:
                work = Path(temporary) / "ui"
                shutil.copytree(source / python["ui"], work, ignore=shutil.ignore_patterns("node_modules", "dist"))
                run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], work)
                run(["npm", "run", "build"], work)
                shutil.copytree(work / "dist", target / python["ui"] / "dist")

    def build_npm(self, npm: Mapping[str, Any], target: Path) -> None:
        """Put a program for Node.js and its locked dependencies where an image takes them from."""
        for file in source_files(self.collection / npm["source"], npm["include"]):
            shutil.copyfile(file, target / file.name)
        run(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], target)
        # npm's own notes: they may name the server that the packages came from.
        (target / "node_modules" / ".package-lock.json").unlink()
        shutil.rmtree(target / "node_modules" / ".bin", ignore_errors=True)

    def build_maven(self, maven: Mapping[str, Any], target: Path) -> None:
        """Test and build a program for the JVM, and put it with the libraries it needs where an image takes them from.

        Raises ArtifactError unless each library is the one that ``libraries`` names, by its SHA-256.
        """
        source = self.collection / maven["source"]
        with tempfile.TemporaryDirectory() as temporary:
            work = Path(temporary) / "build"
            shutil.copytree(source, work, ignore=shutil.ignore_patterns("target"))
            # The first look at Maven Central may take minutes; the tests of the app take seconds.
            run(["mvn", "--batch-mode", "--quiet", "--strict-checksums", "package"], work)
            found = {file.name: file_digest(file) for file in (work / "target" / "lib").iterdir()}
            if odd := set(found.items()) ^ set(library_digests(source / maven["libraries"]).items()):
                names = ", ".join(sorted({name for name, _sha256 in odd}))
                raise ArtifactError(
                    f"{maven['source']}/{maven['libraries']} does not fit what Maven brought: {names}. Is pom.xml "
                    "another one (it says how to write that file again), or was a library changed on its way?"
                )
            shutil.copyfile(work / "target" / maven["archive"], target / maven["archive"])
            shutil.copytree(work / "target" / "lib", target / "lib", copy_function=shutil.copyfile)

    def layer_path(self, name: str) -> Path:
        """Return the place of a Debian layer in the cache."""
        return self.cache.directory / "layers" / f"{name}-{self.cache.pins['debian']}-{self.cache.architecture}.tar"

    def layer_step(self, name: str, recipe: Mapping[str, Any]) -> Step:
        """Return the step that makes a Debian layer with ``packages`` in it."""
        packages, hooks = recipe["packages"], recipe.get("hooks", {})
        suite = self.cache.pins["debian"]
        layer = self.layer_path(name)

        def make() -> dict[str, Any]:
            layer.parent.mkdir(parents=True, exist_ok=True)
            temporary = layer.with_suffix(".new.tar")
            options = [f"--{moment}-hook={command}" for moment, command in hooks.items()]
            make_root_filesystem(temporary, suite, packages, "essential", *options)
            temporary.replace(layer)
            return {"size": layer.stat().st_size, "sha256": file_digest(layer)}

        parts = [*packages, *(text for hook in hooks.items() for text in hook)]
        digest = digest_of(LAYER_FORMAT, suite, self.cache.architecture, *parts)
        return Step(f"layer {name}", layer, layer.with_suffix(".json"), digest, make)

    def image_step(self, image: Image, digests: Mapping[str, str]) -> Step:
        """Return the step that puts an image together."""
        recipe = image.recipe
        component = recipe["component"]
        layers = [self.layer_path(recipe["layer"])] if "layer" in recipe else []
        needs = [f"{component} {self.cache.pins['components'][component]['version']}"]
        needs += [f"layer {recipe['layer']}"] if "layer" in recipe else []

        def make() -> dict[str, Any]:
            folder = self.cache.component(component)
            config: dict[str, Any] = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
            if "binaries" in recipe:
                content = {place: folder / binary for binary, place in recipe["binaries"].items()}
                config["Entrypoint"] = [next(iter(content))]
            else:
                content = {f"/app/{path.name}": path for path in folder.iterdir() if path.name != "manifest.json"}
                config["Env"] += ENVIRONMENTS.get(recipe["layer"], [])
                config |= {"Entrypoint": recipe["entrypoint"], "WorkingDir": "/app", "User": "65532:65532"}
            image.archive.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=image.archive.parent) as temporary:
                own = Path(temporary) / "layer.tar"
                write_layer(own, content)
                manifest = write_image(image.archive, image.reference, self.cache.architecture, [*layers, own], config)
            return {
                "reference": image.reference,
                "manifest": manifest,
                "size": image.archive.stat().st_size,
                "sha256": file_digest(image.archive),
            }

        digest = digest_of(IMAGE_FORMAT, image.reference, recipe_text(recipe), *(digests[need] for need in needs))
        return Step(f"image {image.reference}", image.archive, image.record, digest, make, tuple(needs))


def make_root_filesystem(target: Path, suite: str, packages: list[str], variant: str, *options: str) -> None:
    """Write a Debian root file system (a tar) with ``packages``; the same packages give the same bytes.

    ``options`` are further ones of mmdebstrap. Raises ArtifactError with what it said.
    """
    # mmdebstrap names the apt lines itself; documentation and translations are a third of a small system.
    slim = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "lintian")]
    # Who passes a package on has to pass its licence on.
    slim += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command = ["mmdebstrap", "--format=tar", f"--variant={variant}", "--quiet", f"--include={','.join(packages)}"]
    run([*command, *slim, *options, suite, str(target)], target.parent, SOURCE_DATE_EPOCH=str(EPOCH))


def missing_tools(steps: list[Step]) -> list[str]:
    """Return the commands that these steps need and this machine lacks."""
    if not any(step.kind == "build" for step in steps):
        return []
    wanted = dict.fromkeys(["go", "gcc", "npm", "mmdebstrap", *(tool for step in steps for tool in step.tools)])
    return [tool for tool in wanted if shutil.which(tool) is None]


def execute(steps: list[Step], report: Callable[[str, str, float, int], None]) -> list[str]:
    """Make what is missing, dependencies first, and return the names of what was made.

    ``report(name, state, seconds, size)`` is called when a step starts and when it is done; ``STATES`` has the states.
    Noting something down is not reported.
    The first failure stops new steps, lets running ones end, and is raised; what was finished stays in the cache.
    """
    todo = {step.name: step for step in steps if not step.is_made()}
    made: list[str] = []
    running: dict[Future[float], Step] = {}

    def work(step: Step) -> float:
        started = time.monotonic()
        content = step.make()
        seconds = round(time.monotonic() - started, 1)
        write_json(step.record, {**content, "digest": step.digest, "seconds": seconds})
        if step.kind in STATES:
            report(step.name, STATES[step.kind][1], seconds, content["size"])
        return seconds

    with ThreadPoolExecutor(sum(PARALLEL.values())) as pool:
        while todo or running:
            busy = {step.name for step in running.values()}
            ready = [step for step in todo.values() if not any(need in todo or need in busy for need in step.needs)]
            for step in ready:
                if sum(other.kind == step.kind for other in running.values()) < PARALLEL[step.kind]:
                    if step.kind in STATES:
                        report(step.name, STATES[step.kind][0], 0.0, 0)
                    running[pool.submit(work, todo.pop(step.name))] = step
            finished, _unfinished = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                error = future.exception()
                if error:
                    raise ArtifactError(f"{step.name}: {error}") from error
                made.append(step.name)
    return made
