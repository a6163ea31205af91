# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the entries of all autoscaled apps of a cluster: the user's, and those of the demo and sample apps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..artifacts.pins import ArtifactError
from ..common.components import NAMESPACES
from ..common.entry import Source
from ..common.paths import COLLECTION
from .model import AppError
from .sample_apps import (
    STABILIZATION,
    catalogue,
    sample_app_names,
    sample_apps,
    sample_entries,
)

ROLES = COLLECTION / "roles"
VARIABLE = "autoscaled_apps"
#: Variable of role demo_app that sets a value of the demo app's entry, by the path of that value.
DEMO_APP = {
    "scrape.interval": "demo_app_scrape_interval",
    "scale_on.target": "demo_app_target",
    "replicas.min": "demo_app_min_replicas",
    "replicas.max": "demo_app_max_replicas",
    "behavior.scaleDown.stabilizationWindowSeconds": "demo_app_scale_down_stabilization",
}
#: Returns a cluster's variable by its name and the role that has its default ("" if none has).
Reader = Callable[[str, str], Any]


def reader(variables: Mapping[str, Any], template: Callable[[Any], Any], load: Callable[[str], Any]) -> Reader:
    """Return a function that reads variables as roles do: the cluster's value, or the default of the role.

    ``template`` resolves a value, ``load`` reads a YAML file.
    """

    def value(name: str, role: str) -> Any:  # noqa: ANN401
        if name in variables:
            return template(variables[name])
        return load(str(ROLES / role / "defaults/main.yml"))[name] if role else None

    return value


def all_entries(value: Reader, where: Callable[[str, str], str] = lambda _name, _path: "") -> list[tuple[Any, Source]]:
    """Return entries with their sources. Entries of the variable come first, so that their numbers match its list.

    ``where`` returns file and line of a path in a variable. Raise AppError if the variable is not a list.
    """
    entries = value(VARIABLE, "")
    entries = [] if entries is None else entries
    if not isinstance(entries, list):
        set_at = where(VARIABLE, "")
        raise AppError(f"{VARIABLE} = {entries!r}{f' ({set_at})' if set_at else ''}: must be a list of apps")

    def place(number: int) -> Callable[[str], str]:
        return lambda path: where(VARIABLE, f"[{number}].{path}")

    named = [(entry, Source(f"{VARIABLE}[{number}]", where=place(number))) for number, entry in enumerate(entries)]
    return [*named, *own_entries(value, where)]


def own_entries(value: Reader, where: Callable[[str, str], str]) -> Iterator[tuple[dict[str, Any], Source]]:
    """Yield the entries of the demo app and the sample apps that the cluster has."""
    if value("demo_app_state", "demo_app") == "present":
        entry: dict[str, Any] = {
            "name": "demo-app",
            "namespace": NAMESPACES["demo_app"],
            "workload": "deployment/demo-app",
            "scrape": {"port": "web"},
            "scale_on": {"metric": "demo_app_button_clicks_total"},
            "replicas": {},
            "behavior": {"scaleDown": {}},
        }
        for path, variable in DEMO_APP.items():
            *parents, key = path.split(".")
            place = entry
            for parent in parents:
                place = place[parent]
            place[key] = value(variable, "demo_app")
        source = Source("demo_app", DEMO_APP, lambda path: where(DEMO_APP[path], "") if path in DEMO_APP else "", False)
        yield entry, source
    if value("sample_apps_state", "sample_apps") == "present":
        try:
            names = sample_app_names(value("sample_apps", ""))
        except ArtifactError:
            # The role and preflight report this error.
            names = []
        variables = {"behavior.scaleDown.stabilizationWindowSeconds": STABILIZATION}
        for sample in sample_entries(names, value(STABILIZATION, "sample_apps")):
            yield (
                sample,
                Source(
                    f"sample app {sample['name']}",
                    variables,
                    lambda path: where(STABILIZATION, "") if path in variables else "",
                    False,
                ),
            )


#: Default load on the demo app.
DEMO_LOAD = {
    "request": "POST http://demo-app.demo.svc:8080/click-button",
    "rate": 5,
    "series": 'demo_app_button_clicks_total{namespace="demo"}',
}


def load_of(name: str, entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the default load on an app. ``entries`` are the entries of all apps of the cluster.

    Request and series are empty for a user's app. Raise KeyError for an unknown name.
    """
    namespaces = {entry["name"]: entry["namespace"] for entry in entries}
    loads = {app["name"]: app["load"] for _unused, app in sample_apps(list(catalogue()))}
    own = DEMO_LOAD if name == "demo-app" else loads.get(name, {})
    return {"request": "", "rate": 5, "weight": 1, "series": "", **own, "namespace": namespaces[name]}
