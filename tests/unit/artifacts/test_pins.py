"""The pins fit each other, and each version is written once in files/artifacts.yml and once in go.mod."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import (
    ArtifactError,
    load_pins,
    versioned_pins,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.paths import COLLECTION

FILE = COLLECTION / "files" / "artifacts.yml"
GO = [name for name, recipe in load_pins()["components"].items() if "go" in recipe]


def test_the_pins_are_consistent() -> None:
    pins = load_pins()
    for image in pins["images"]:
        component = pins["components"][image["component"]]
        assert set(image.get("binaries", {})) <= set(component.get("packages", {})), image["repository"]
        assert image.get("layer") in {None, *pins["layers"]}
    for name, item in pins["machine_files"].items():
        assert set(item["binaries"]) <= set(pins["components"][item["component"]]["packages"]), name


@pytest.mark.parametrize("name", [*load_pins()["components"]])
def test_a_version_is_written_once_in_the_pins(name: str) -> None:
    recipe = yaml.safe_load(FILE.read_text(encoding="utf-8"))["components"][name]
    assert str(recipe).count(recipe["version"]) == 1


@pytest.mark.parametrize("name", GO)
def test_go_builds_the_pinned_version(name: str) -> None:
    recipe = load_pins()["components"][name]
    module_file = (COLLECTION / "files" / "build" / recipe["go"] / "go.mod").read_text(encoding="utf-8")
    required = dict(re.findall(r"^(?:require|\t) ?(\S+\.\S+) v(\S+)", module_file, re.MULTILINE))
    major, minor, patch = recipe["version"].split(".")
    # A Go module of version 2 or later has its major version in its path. Prometheus has not, and numbers otherwise.
    allowed = {recipe["version"], f"0.{major}{int(minor):02}.{patch}" if name == "prometheus" else ""}
    for package in recipe["packages"].values():
        if package != ".":
            module = max((module for module in required if f"{package}/".startswith(f"{module}/")), key=len)
            assert required[module] in allowed, module


@pytest.mark.parametrize("version", ["1.19.0", "1.30.14"])
def test_a_kubernetes_that_kubeadm_cannot_make_is_refused(version: str) -> None:
    with pytest.raises(ArtifactError, match=r"must be 1\.31\.0 or newer"):
        versioned_pins({"kubernetes": {"version": version}})
    assert versioned_pins({"kubernetes": {"version": "1.31.0"}})["components"]["kubernetes"]["given"]


def test_variables_contain_the_version() -> None:
    variables = load_pins()["components"]["containerd"]["variables"]
    version = load_pins()["components"]["containerd"]["version"]
    assert variables == {"github.com/containerd/containerd/v2/version.Version": f"v{version}"}
