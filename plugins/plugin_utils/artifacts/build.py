# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Build binaries, Debian layers and images with go, pip, npm, mvn and mmdebstrap.

Every build is deterministic: the same pins and sources give the same bytes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..common.files import replacing
from ..common.paths import COLLECTION
from .cache import Cache, Image, Step, digest_of, file_digest, fill
from .images import EPOCH, write_image, write_layer
from .pins import ArtifactError

#: Part of each digest. Raise one when this code makes other bytes from the same sources.
FORMAT = "1"
LAYER_FORMAT = "2"
IMAGE_FORMAT = "2"
#: Keys of a recipe that only tell where to download the component. They do not change what a build makes.
FETCH_KEYS = {"downloads", "digest"}
#: Environment variables of images, by the layer that has the language's runtime.
ENVIRONMENTS = {
    "node": ["NODE_ENV=production"],
    "python": ["PYTHONPATH=/app/site-packages", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"],
}


def source_files(source: Path, patterns: list[str]) -> list[Path]:
    """Return the files of ``source`` that match ``patterns``, sorted. Raise ArtifactError if a pattern matches none."""
    files: set[Path] = set()
    for pattern in patterns:
        matches = {path for path in source.glob(pattern) if path.is_file()}
        if not matches:
            raise ArtifactError(f"{source} has no file {pattern}: the collection is incomplete.")
        files |= matches
    return sorted(files)


def library_digests(path: Path) -> dict[str, str]:
    """Return checksums by file name from a file that ``sha256sum`` wrote in Maven's repository."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {place.rsplit("/", 1)[1]: sha256 for sha256, place in lines}


def run(command: list[str], directory: Path, **environment: str) -> str:
    """Run a command and return its output. Raise ArtifactError with the last lines of its output if it fails."""
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise ArtifactError(f"{' '.join(command[:6])} … failed with exit status {done.returncode}:\n{end}")
    return done.stdout


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """Return the part of a recipe that is in a build's digest."""
    return json.dumps({key: value for key, value in recipe.items() if key not in FETCH_KEYS}, sort_keys=True)


class Builder:
    """Builds all pinned artifacts from Go modules, PyPI, npm, Maven Central and Debian packages."""

    def __init__(self, cache: Cache, collection: Path = COLLECTION) -> None:
        self.cache = cache
        self.collection = collection

    def steps(self) -> list[Step]:
        """Return all steps, dependencies first. Only pinned versions can be built, so other ones have no step."""
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
        """Build a component's binaries, static unless it needs C, with no path or time of this machine in them."""
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
            # Go may write beside go.mod, and the collection's folder may be read-only.
            work = Path(temporary) / "build"
            shutil.copytree(family, work)
            build = ["go", "build", "-trimpath", "-buildvcs=false", "-tags", ",".join(recipe.get("tags", []))]
            for binary, package in recipe["packages"].items():
                run([*build, "-ldflags", flags, "-o", str(target / binary), package], work, **environment)
            for name, data in recipe.get("data", {}).items():
                module = run(["go", "list", "-m", "-f", "{{.Dir}}", data["module"]], work, **environment).strip()
                # copyfile does not copy the read-only modes of the module cache.
                shutil.copytree(Path(module) / data["folder"], target / name, copy_function=shutil.copyfile)

    def build_python(self, python: Mapping[str, Any], target: Path) -> None:
        """Put a program, its locked dependencies and its page, if it has one, into a folder."""
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
            # Start scripts contain this machine's interpreter path, and RECORD has their checksums.
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
        """Put a program for Node.js and its locked dependencies into a folder."""
        for file in source_files(self.collection / npm["source"], npm["include"]):
            shutil.copyfile(file, target / file.name)
        run(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], target)
        # This file may name the server that npm fetched the packages from.
        (target / "node_modules" / ".package-lock.json").unlink()
        shutil.rmtree(target / "node_modules" / ".bin", ignore_errors=True)

    def build_maven(self, maven: Mapping[str, Any], target: Path) -> None:
        """Test and build a program for the JVM, and put it and its libraries into a folder.

        Raise ArtifactError if a library's SHA-256 is not the one in the recipe's ``libraries``.
        """
        source = self.collection / maven["source"]
        with tempfile.TemporaryDirectory() as temporary:
            work = Path(temporary) / "build"
            shutil.copytree(source, work, ignore=shutil.ignore_patterns("target"))
            # The first fetch from Maven Central may take minutes; the tests of the app take seconds.
            run(["mvn", "--batch-mode", "--quiet", "--strict-checksums", "package"], work)
            fetched = {file.name: file_digest(file) for file in (work / "target" / "lib").iterdir()}
            if different := set(fetched.items()) ^ set(library_digests(source / maven["libraries"]).items()):
                names = ", ".join(sorted({name for name, _sha256 in different}))
                raise ArtifactError(
                    f"{maven['source']}/{maven['libraries']} does not match the libraries that Maven fetched: {names}. "
                    "If pom.xml was changed, write that file again (pom.xml has the command). Otherwise a library was "
                    "changed on its way."
                )
            shutil.copyfile(work / "target" / maven["archive"], target / maven["archive"])
            shutil.copytree(work / "target" / "lib", target / "lib", copy_function=shutil.copyfile)

    def layer_step(self, name: str, recipe: Mapping[str, Any]) -> Step:
        """Return the step that builds a Debian layer."""
        packages, hooks = recipe["packages"], recipe.get("hooks", {})
        suite = self.cache.pins["debian"]
        layer = self.cache.layer(name)

        def make() -> dict[str, Any]:
            layer.parent.mkdir(parents=True, exist_ok=True)
            options = [f"--{moment}-hook={command}" for moment, command in hooks.items()]
            with replacing(layer) as temporary:
                make_root_filesystem(temporary, suite, packages, "essential", *options)
            return {"size": layer.stat().st_size, "sha256": file_digest(layer)}

        parts = [*packages, *(text for hook in hooks.items() for text in hook)]
        digest = digest_of(LAYER_FORMAT, suite, self.cache.architecture, *parts)
        return Step(f"layer {name}", layer, layer.with_suffix(".json"), digest, make)

    def image_step(self, image: Image, digests: Mapping[str, str]) -> Step:
        """Return the step that assembles an image. ``digests`` are those of all other steps, by name."""
        recipe = image.recipe
        component = recipe["component"]
        layers = [self.cache.layer(recipe["layer"])] if "layer" in recipe else []
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
    """Write a Debian root file system (a tar) with ``packages``. The same packages give the same bytes.

    ``options`` are further options of mmdebstrap. Raise ArtifactError with its last lines if it fails.
    """
    # Documentation and translations are a third of a small system.
    slim = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "lintian")]
    # A package must not be passed on without its licence.
    slim += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command = ["mmdebstrap", "--format=tar", f"--variant={variant}", "--quiet", f"--include={','.join(packages)}"]
    run([*command, *slim, *options, suite, str(target)], target.parent, SOURCE_DATE_EPOCH=str(EPOCH))
