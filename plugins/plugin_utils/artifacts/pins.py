# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The pins: versions, checksums and build recipes of ``files/artifacts.yml``, and ``artifacts_versions`` over them."""

from __future__ import annotations

import copy
import functools
import platform
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ..common.errors import FleetError
from ..common.paths import COLLECTION

#: The kernel's name of an architecture, and Go's name of it.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
#: Prefix of the images of this collection's own programs. No registry has them.
OWN_REPOSITORIES = "localhost/"


#: The first version whose kubeadm reads kubeadm.k8s.io/v1beta4.
LEAST_KUBERNETES = "1.31.0"


class ArtifactError(FleetError):
    """An artifact cannot be built or found. The message gives the reason and the remedy."""


@functools.cache
def load_pins(path: Path = COLLECTION / "files" / "artifacts.yml") -> dict[str, Any]:
    """Return the pinned versions and build recipes."""
    # libyaml needs a tenth of the time, in every task that asks for a version.
    pins = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    for recipe in pins["components"].values():
        for name, value in recipe.get("variables", {}).items():
            recipe["variables"][name] = value.format(version=recipe["version"])
    return pins


def versioned_pins(versions: Mapping[str, Any] | None, sample_apps: Collection[str] = ()) -> dict[str, Any]:
    """Return the pins after the versions, checksums and image digests of ``artifacts_versions`` replaced theirs.

    Of the sample apps, the result has only the given ones. A component whose version is not the pinned one gets
    ``given: true``: it cannot be built. Raise ArtifactError with the variable, its value, and what is allowed.
    """
    pins = _with_sample_apps(load_pins(), sample_apps)
    if not versions:
        return pins
    pins = copy.deepcopy(pins)
    own = {image["component"] for image in pins["images"] if image["repository"].startswith(OWN_REPOSITORIES)}
    allowed = sorted(set(pins["components"]) - own)
    for name, given in versions.items():
        where = f"artifacts_versions.{name}"
        if name not in allowed:
            raise ArtifactError(f"{where}: is none of {', '.join(allowed)} (files/artifacts.yml)")
        recipe = pins["components"][name]
        _set_version(where, recipe, given)
        if name == "kubernetes" and _minor(recipe["version"]) < _minor(LEAST_KUBERNETES):
            raise ArtifactError(f"{where}.version = {recipe['version']!r}: must be {LEAST_KUBERNETES} or newer")
        _set_checksums(where, recipe, given.get("sha256") or {})
        images = [image for image in pins["images"] if image["component"] == name]
        _set_digests(where, images, given.get("digests") or {})
    return pins


def _with_sample_apps(pins: dict[str, Any], sample_apps: Collection[str]) -> dict[str, Any]:
    """Return the pins without all other sample apps, and without the layers that only those need."""
    components = {
        name: recipe
        for name, recipe in pins["components"].items()
        if recipe.get("sample_app") is None or recipe["sample_app"] in sample_apps
    }
    images = [image for image in pins["images"] if image["component"] in components]
    used = {image.get("layer") for image in images}
    layers = {name: recipe for name, recipe in pins["layers"].items() if name in used}
    return {**pins, "components": components, "images": images, "layers": layers}


def _set_version(where: str, recipe: dict[str, Any], given: object) -> None:
    """Set a component's version. If it is another one than the pinned one, drop the pinned checksums."""
    if not isinstance(given, Mapping) or set(given) - {"version", "sha256", "digests"} or not given.get("version"):
        raise ArtifactError(
            f"{where} = {given!r}: must be a dictionary with version, and with sha256 and digests where they are "
            f"known, such as {{version: {recipe['version']}}}"
        )
    version = given["version"]
    # Unquoted, YAML makes 3.10 the number 3.1.
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]+(\.[0-9]+)+(-[0-9A-Za-z.-]+)?", version):
        raise ArtifactError(f"{where}.version = {version!r}: must be a version in quotes, without v, such as '1.2.3'")
    if version != recipe["version"]:
        recipe.update(version=version, given=True)
        for item in recipe.get("downloads", []):
            item["sha256"] = {}


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _set_checksums(where: str, recipe: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Set checksums by architecture, or by architecture and file name, in a component's downloads."""
    downloads = recipe.get("downloads", [])
    for architecture, value in given.items():
        if architecture not in ARCHITECTURES.values():
            raise ArtifactError(f"{where}.sha256.{architecture}: is none of {', '.join(ARCHITECTURES.values())}")
        words = {"version": recipe["version"], "architecture": architecture}
        items = {item["url"].format(**words).rsplit("/", 1)[1]: item for item in downloads}
        if not items:
            raise ArtifactError(f"{where}.sha256: this component is an image only; registries check what they serve")
        by_file = value if isinstance(value, Mapping) else dict.fromkeys(items, value) if len(items) == 1 else {}
        if not by_file or set(by_file) - set(items):
            raise ArtifactError(
                f"{where}.sha256.{architecture} = {value!r}: must be a dictionary with the SHA-256 of "
                f"{', '.join(items)}"
            )
        for file, sha256 in by_file.items():
            if not re.fullmatch("[0-9a-f]{64}", str(sha256)):
                raise ArtifactError(f"{where}.sha256.{architecture}.{file} = {sha256!r}: must be 64 hexadecimal digits")
            items[file].setdefault("sha256", {})[architecture] = sha256


def _set_digests(where: str, images: list[dict[str, Any]], given: Mapping[str, Any]) -> None:
    """Set digests by repository in the recipes of a component's images."""
    repositories = {image["repository"]: image for image in images}
    for repository, digest in given.items():
        if repository not in repositories:
            known = ", ".join(repositories) or "none: this component has no image"
            raise ArtifactError(f"{where}.digests.{repository}: is none of {known}")
        if not re.fullmatch("sha256:[0-9a-f]{64}", str(digest)):
            raise ArtifactError(f"{where}.digests.{repository} = {digest!r}: must be sha256: and 64 hexadecimal digits")
        repositories[repository]["digest"] = digest


def download_hosts(pins: Mapping[str, Any]) -> set[str]:
    """Return the hosts that upstream serves files from. Other hosts of ``artifacts_mirrors`` are registries."""
    recipes = pins["components"].values()
    return {urlsplit(item["url"]).netloc for recipe in recipes for item in recipe.get("downloads", [])}


def machine_architecture() -> str:
    """Return this machine's architecture in Go's words. Raise ArtifactError if nothing is pinned for it."""
    name = platform.machine()
    if name not in ARCHITECTURES:
        raise ArtifactError(f"This machine's architecture is {name}; supported are {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[name]
