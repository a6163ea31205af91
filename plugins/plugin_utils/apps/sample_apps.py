# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The sample apps: which there are, which of them a cluster has, and their entries of ``autoscaled_apps``."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Any

import yaml

from ..artifacts.build import ArtifactError
from ..common.paths import COLLECTION

VARIABLE = "sample_apps"
# Variable that sets the same in every entry, in seconds.
STABILIZATION = "sample_apps_scale_down_stabilization"


@functools.cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Return what there is by name, as the role's variables say."""
    text = (COLLECTION / "roles" / "sample_apps" / "vars" / "main.yml").read_text(encoding="utf-8")
    # With libyaml a tenth of the time, in every task that asks for a version.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["__sample_apps_catalogue"]  # noqa: S506 - both are safe


def sample_app_names(value: object) -> list[str]:
    """Return the names that the variable has, each once, in their order.

    A text is read as YAML: ``-e sample_apps=[node,spring]`` gives one. Raises ArtifactError with what is wrong.
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
        return " (the Flask app is the demo app, which role demo_app brings)"
    near = difflib.get_close_matches(str(name), list(catalogue()), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def sample_apps(names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return namespace and description of each autoscaled app of the named samples."""
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
