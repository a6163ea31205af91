# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read the catalogue of sample apps, the names in a cluster's variable, and their entries of ``autoscaled_apps``."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ..artifacts.pins import ArtifactError, versioned_pins
from ..common.paths import COLLECTION
from ..common.text import suggestion
from ..common.yaml_io import YAML_LOADER

VARIABLE = "sample_apps"
#: Variable with the stabilization window of all sample apps, in seconds.
STABILIZATION = "sample_apps_scale_down_stabilization"


@functools.cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Return all sample apps by name, from the variables of role sample_apps."""
    text = (COLLECTION / "roles" / "sample_apps" / "vars" / "main.yml").read_text(encoding="utf-8")
    return yaml.load(text, YAML_LOADER)["__sample_apps_catalogue"]  # noqa: S506 - a safe loader


def pins_of(variables: Mapping[str, Any] | None, templar: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the pins in the versions of a cluster's ``artifacts_versions``, with those of all sample apps.

    Raise ArtifactError if the variable is wrong.
    """
    setting = (variables or {}).get("artifacts_versions")
    return versioned_pins(templar.template(setting) if setting else {}, catalogue())


def sample_app_names(value: object) -> list[str]:
    """Return the names in the variable, each once, in their order. Raise ArtifactError for unknown names.

    Text is read as YAML, because ``-e sample_apps=[node,spring]`` sets text.
    """
    names = value
    if isinstance(value, str):
        try:
            names = yaml.safe_load(value)
        except yaml.YAMLError:
            names = value
    names = [] if names is None else names
    if not isinstance(names, list):
        raise ArtifactError(f"{VARIABLE} = {value!r}: must be a list, such as [{', '.join(sorted(catalogue()))}]")
    wrong = [
        f"{VARIABLE}[{number}] = {name!r}: must be one of {', '.join(sorted(catalogue()))}{_hint(name)}"
        for number, name in enumerate(names)
        if name not in catalogue()
    ]
    if wrong:
        raise ArtifactError("\n".join(wrong))
    return list(dict.fromkeys(str(name) for name in names))


def _hint(name: object) -> str:
    if name in ("flask", "demo_app", "demo-app"):
        return " (the Flask app is the demo app, which role demo_app installs)"
    return suggestion(name, catalogue())


def sample_apps(names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield namespace and description of each autoscaled app of the named samples."""
    for name in names:
        for app in catalogue()[name]["apps"]:
            yield catalogue()[name]["namespace"]["name"], app


def sample_entries(names: list[str], stabilization: object) -> list[dict[str, Any]]:
    """Return the entries of ``autoscaled_apps`` of the named samples; ``stabilization`` in seconds."""
    return [
        {
            "name": app["name"],
            "namespace": namespace,
            "workload": f"deployment/{app['name']}",
            **app["entry"],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": stabilization}},
        }
        for namespace, app in sample_apps(names)
    ]
