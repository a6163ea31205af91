# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The images of pods: pinned ones, and those of artifacts_images."""

from __future__ import annotations

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import (
    ArtifactError,
    load_pins,
    versioned_pins,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.references import (
    OF_KUBEADM,
    check_images,
    image_reference,
    pod_images,
)

PINS = load_pins()
VERSION = PINS["components"]["node_exporter"]["version"]
DIGEST = f"@sha256:{'0' * 64}"


def test_each_image_has_one_name() -> None:
    repositories = [image["repository"] for image in PINS["images"] if image["component"] not in OF_KUBEADM]
    repositories += [image["repository"] for image in PINS["pulled_images"]]
    assert len(pod_images(PINS)) == len(repositories)


def test_pinned_images_follow_the_version() -> None:
    pins = versioned_pins({"node_exporter": {"version": "9.8.7"}})
    image = image_reference("node-exporter", pins, {})
    assert image == ("quay.io/prometheus/node-exporter:v9.8.7", "9.8.7")


@pytest.mark.parametrize(
    ("given", "reference", "version"),
    [
        ("mirror.example:5000/ne", f"mirror.example:5000/ne:v{VERSION}", VERSION),
        ("mirror.example/ne:v2.0.0-distroless", "mirror.example/ne:v2.0.0-distroless", "2.0.0-distroless"),
        (f"mirror.example/ne{DIGEST}", f"mirror.example/ne{DIGEST}", VERSION),
        (f"mirror.example/ne:v2{DIGEST}", f"mirror.example/ne:v2{DIGEST}", "2"),
    ],
)
def test_given_images(given: str, reference: str, version: str) -> None:
    assert check_images({"node-exporter": given}, PINS) == []
    assert image_reference("node-exporter", PINS, {"node-exporter": given}) == (reference, version)
    assert image_reference("grafana", PINS, {"node-exporter": given}) == pod_images(PINS)["grafana"]


@pytest.mark.parametrize(
    "value", ["not an image!", "http://mirror.example/ne", "mirror.example/ne:", "Ne", "a//b", 1, None]
)
def test_values_that_are_no_images(value: object) -> None:
    [text] = check_images({"node-exporter": value}, PINS)
    assert "artifacts_images.node-exporter" in text
    assert repr(value) in text


def test_unknown_names_get_the_nearest_one() -> None:
    [text] = check_images({"node_exporter": "a/b"}, PINS)
    assert "node-exporter" in text
    assert check_images({"kube-apiserver": "a/b"}, PINS) != []
    with pytest.raises(ArtifactError, match="grafana"):
        image_reference("grafanna", PINS, {})
