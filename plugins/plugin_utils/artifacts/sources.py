# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The values of ``artifacts_source``. Each one returns the steps that fill the cache with the pinned artifacts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.text import shorten
from .build import Builder
from .bundle_reader import check_bundle, unpack_bundle
from .cache import Image, Step
from .downloads import answering, download_step, downloads_of, pull_step
from .pins import ArtifactError
from .scheduler import Report, execute


@dataclass(frozen=True)
class Plan:
    """How to fill the cache.

    Attributes:
        steps: Dependencies first.
        why: A line for people with the reasons, or nothing.
        fill: Runs the steps.
    """

    steps: list[Step]
    why: str = ""
    fill: Callable[[list[Step], Report], list[str]] = execute


@dataclass(frozen=True)
class Request:
    """The input of a source.

    Attributes:
        builder: With cache and pins.
        mirrors: Base URLs that replace hosts of upstream, by host.
        bundle: The archive that source ``bundle`` reads.
    """

    builder: Builder
    mirrors: Mapping[str, str]
    bundle: Path | None = None

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """The pinned components."""
        return self.builder.cache.pins["components"]

    def downloadable(self) -> list[str]:
        """Return the components that upstream releases as files."""
        return [name for name, recipe in self.components.items() if recipe.get("downloads")]

    def tools(self) -> list[str]:
        """Return the components for the controller and kind nodes only. Upstream does not release them as files."""
        used = {image.recipe["component"] for image in self.builder.cache.images()}
        return [name for name in self.components if name not in used and not self.components[name].get("downloads")]

    def unpinned(self, name: str) -> list[str]:
        """Return the files of a component that have no checksum for the cache's architecture."""
        downloads = downloads_of(self.components[name], self.builder.cache.architecture)
        return [item.name for item in downloads if not item.sha256]

    def hosts(self, name: str) -> set[str]:
        """Return the hosts that a component's files come from."""
        return {item.host for item in downloads_of(self.components[name], self.builder.cache.architecture)}

    def images(self) -> list[Image]:
        """Return the images that registries serve."""
        return [image for image in self.builder.cache.images() if not image.is_own]


def registry(image: Image) -> str:
    """Return the host of an image's registry."""
    return image.reference.split("/", 1)[0]


def label(request: Request, name: str) -> str:
    """Return the name of a component's step."""
    return f"{name} {request.components[name]['version']}"


def built(request: Request, images: Iterable[str], components: Iterable[str] = ()) -> list[Step]:
    """Return the steps that build images (references) and components, with the steps that they need."""
    steps = {step.name: step for step in request.builder.steps()}
    wanted = {f"image {reference}" for reference in images} | {label(request, name) for name in components}
    wanted |= {need for name in wanted for need in steps[name].needs}
    return [step for name, step in steps.items() if name in wanted]


def image_label(image: Image) -> str:
    """Return the name of an image's step."""
    return f"image {image.reference}"


def own_images(request: Request) -> list[Step]:
    """Return the steps of missing images that no registry has, with the steps that they need."""
    images = {image_label(image): image.reference for image in request.builder.cache.images() if image.is_own}
    unmade = [step.name for step in built(request, images.values()) if step.name in images and not step.is_made()]
    return built(request, [images[name] for name in unmade])


def how_to_pin(request: Request, name: str) -> str:
    """Return a message with a component's missing checksums and the setting that gives them."""
    recipe, architecture = request.components[name], request.builder.cache.architecture
    missing = [item for item in downloads_of(recipe, architecture) if not item.sha256]
    files = ", ".join(f"{item.name}: <SHA-256 of {item.url}>" for item in missing)
    return (
        f"{name} {recipe['version']}: no checksum is known for {architecture}. Give it: "
        f"artifacts_versions: {{{name}: {{version: {recipe['version']}, sha256: {{{architecture}: {{{files}}}}}}}}}"
    )


def build_steps(request: Request, source: str) -> list[Step]:
    """Return the steps that build everything. Raise ArtifactError if other versions than the pinned ones are set."""
    if given := sorted(name for name, recipe in request.components.items() if recipe.get("given")):
        raise ArtifactError(
            f"artifacts_source: {source} has only the versions of files/artifacts.yml, and artifacts_versions sets "
            f"another one of {', '.join(given)}. Use artifacts_source: auto, upstream or mirror."
        )
    return request.builder.steps()


def build(request: Request) -> Plan:
    """Build everything from Go modules, PyPI, npm, Maven Central and Debian packages."""
    return Plan(build_steps(request, "build"))


def upstream(request: Request) -> Plan:
    """Fetch upstream's releases. Machines pull images. Build the artifacts that only this collection has."""
    names = request.downloadable()
    wrong = [how_to_pin(request, name) for name in names if request.unpinned(name)]
    if wrong:
        text = "\n".join(wrong)
        raise ArtifactError(f"{text}\nOr set artifacts_source: auto, which builds what has no checksum.")
    steps = [download_step(request.builder.cache, name, request.mirrors) for name in names]
    steps += built(request, [], request.tools())
    return Plan([*steps, *own_images(request), *map(pull_step, request.images())])


def mirror(request: Request) -> Plan:
    """Do the same as ``upstream``, but from mirrors only."""
    hosts = {host for name in request.downloadable() for host in request.hosts(name)}
    hosts |= {registry(image) for image in request.images()}
    if missing := sorted(hosts - set(request.mirrors)):
        example = ", ".join(f"{host}: https://mirror.example/{host}" for host in missing)
        raise ArtifactError(
            f"artifacts_source is mirror, and artifacts_mirrors has no mirror of {', '.join(missing)}. "
            f"Give the base URL for each: artifacts_mirrors: {{{example}}}"
        )
    return upstream(request)


def bundle(request: Request) -> Plan:
    """Unpack everything from an archive that a controller with internet wrote."""
    if request.bundle is None:
        raise ArtifactError(
            "artifacts_source is bundle, and artifacts_bundle is not set. Give the path of an archive on the "
            "controller that was written by: ansible-playbook kubescale.fleet.bundle"
        )
    if not request.bundle.is_file():
        raise ArtifactError(f"artifacts_bundle is {request.bundle}, which is no file on the controller.")
    cache, steps = request.builder.cache, build_steps(request, "bundle")
    if not all(step.is_made() for step in steps):
        check_bundle(request.bundle, cache, steps)
    return Plan(steps, fill=functools.partial(unpack_bundle, request.bundle, cache))


def auto(request: Request) -> Plan:
    """Use the cache, of any source. Fetch a missing part if upstream answers and a checksum is known, else build it."""
    return Choice(request).plan()


class Choice:
    """The decisions of ``auto``, part by part, and their reasons."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.reasons: dict[str, list[str]] = {}
        self.builds = {step.name: step for step in request.builder.steps()}
        pinned = [name for name in request.downloadable() if not request.unpinned(name)]
        steps = [download_step(request.builder.cache, name, request.mirrors) for name in pinned]
        self.fetches = {step.name: step for step in [*steps, *map(pull_step, request.images())]}
        hosts = {image_label(image): {registry(image)} for image in request.images()}
        hosts |= {label(request, name): request.hosts(name) for name in request.downloadable()}
        missing = [name for name in hosts if name in self.fetches and not self.is_made(name)]
        wanted = {host for name in missing for host in hosts[name]}
        there = answering(wanted, request.mirrors) if wanted else set()
        self.reachable = {name for name in hosts if hosts[name] <= there}

    def plan(self) -> Plan:
        """Return the steps, with the reasons for those that are not in the cache."""
        request = self.request
        to_build = [
            image for image in request.builder.cache.images() if image.is_own or self.builds_it(image_label(image))
        ]
        pulled = [self.fetches[image_label(image)] for image in request.images() if image not in to_build]
        # A complete image does not need the parts that it was made from.
        unmade = [image.reference for image in to_build if not self.builds[image_label(image)].is_made()]
        steps = built(request, unmade, request.tools())
        taken = {step.name for step in steps}
        for name in request.downloadable():
            title = label(request, name)
            if title in taken:
                continue
            if self.builds_it(title):
                steps = [*built(request, [], [name]), *steps]
            elif title in self.fetches:
                steps = [self.fetches[title], *steps]
            else:
                raise ArtifactError(how_to_pin(request, name))
        return Plan([*steps, *pulled], self.why())

    def is_made(self, name: str) -> bool:
        """Return whether the cache has a part, of any source."""
        return any(name in steps and steps[name].is_made() for steps in (self.builds, self.fetches))

    def builds_it(self, name: str) -> bool:
        """Return whether a part is or was built. Note the reason if the cache does not have it."""
        if name in self.builds and self.builds[name].is_made():
            return True
        if name not in self.builds or (name in self.fetches and self.fetches[name].is_made()):
            return False
        if name not in self.fetches:
            reason = "build (no checksum is known)"
        else:
            reason = "upstream (it answers)" if name in self.reachable else "build (upstream does not answer)"
        self.reasons.setdefault(reason, []).append(name)
        return reason.startswith("build")

    def why(self) -> str:
        """Return the reasons, each with the first few parts it applies to, in one line."""
        return "; ".join(f"{reason}: {shorten(names)}" for reason, names in self.reasons.items())


@dataclass(frozen=True)
class Source:
    """A value of ``artifacts_source``.

    Attributes:
        plan: Returns the plan, or raises ArtifactError if a setting is wrong.
        is_checked_early: Whether a run calls ``plan`` before its first change. Then ``plan`` must ask no host.
    """

    plan: Callable[[Request], Plan]
    is_checked_early: bool = False


SOURCES = {
    "auto": Source(auto),
    "upstream": Source(upstream, is_checked_early=True),
    "mirror": Source(mirror, is_checked_early=True),
    "bundle": Source(bundle),
    "build": Source(build),
}
