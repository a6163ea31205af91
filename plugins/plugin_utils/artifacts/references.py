# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The images that pods of this collection run: the pinned ones, and ``artifacts_images`` over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..common.text import suggestion
from .pins import ArtifactError

VARIABLE = "artifacts_images"
#: kubeadm names the images of these components.
OF_KUBEADM = {"kubernetes", "etcd", "coredns", "pause"}
#: Repository, optionally tag and digest, in the grammar of the OCI distribution specification.
_REFERENCE = re.compile(
    r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?::[0-9]+(?=/))?(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)


class ImageReference(NamedTuple):
    """An image as pods name it."""

    #: Repository with tag or digest.
    reference: str
    #: The version for labels: the tag without a leading v.
    version: str


def pod_images(pins: Mapping[str, Any]) -> dict[str, ImageReference]:
    """Return the images that roles of this collection run, by the last part of the repository."""
    images = {}
    for recipe in pins["images"]:
        if recipe["component"] not in OF_KUBEADM:
            version = pins["components"][recipe["component"]]["version"]
            images[recipe["repository"]] = (recipe["tag"].format(version=version), version)
    images |= {item["repository"]: (item["version"], item["version"]) for item in pins["pulled_images"]}
    return {
        repository.rpartition("/")[2]: ImageReference(f"{repository}:{tag}", version)
        for repository, (tag, version) in images.items()
    }


def image_reference(name: str, pins: Mapping[str, Any], given: Mapping[str, Any]) -> ImageReference:
    """Return the image ``name``: that of ``given`` (the value of ``artifacts_images``), or else the pinned one.

    A given repository without tag and digest gets the pinned tag. Raise ArtifactError for a name that is unknown.
    """
    pinned = pod_images(pins)
    if name not in pinned:
        raise ArtifactError(f"{name!r} is none of {', '.join(sorted(pinned))} (files/artifacts.yml)")
    if name not in given:
        return pinned[name]
    match = _REFERENCE.fullmatch(given[name])
    if match and match["tag"]:
        return ImageReference(match[0], match["tag"].removeprefix("v"))
    if match and match["digest"]:
        return ImageReference(match[0], pinned[name].version)
    return ImageReference(f"{given[name]}:{pinned[name].reference.rpartition(':')[2]}", pinned[name].version)


def check_images(given: Mapping[str, Any], pins: Mapping[str, Any]) -> list[str]:
    """Return an error message for each entry of ``artifacts_images`` that is none of an image of this collection."""
    known = pod_images(pins)
    wrong = []
    for name, value in given.items():
        if name not in known:
            hint = suggestion(name, known) or f"; allowed: {', '.join(sorted(known))}"
            wrong.append(f"{VARIABLE}.{name}: this collection runs no such image{hint}")
        elif not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            wrong.append(
                f"{VARIABLE}.{name} = {value!r}: must be an image such as registry.example/{name}, optionally with a "
                "tag or a digest"
            )
    return wrong
