"""What the panels of a Grafana dashboard ask Prometheus, with the dashboard's variables filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Grafana's own variables, as it would set them for the last 15 minutes of targets that are scraped every 15 s.
BUILT_IN = {"__interval": "15s", "__rate_interval": "1m", "__range": "15m"}
# Grafana's forms of a reference: $name, ${name}, ${name:format}, [[name]].
REFERENCE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]")


class PanelQuery(NamedTuple):
    """An expression that can be sent to Prometheus as it is, and where it stands."""

    dashboard: str
    panel: str
    expr: str


def panel_queries(dashboard: Mapping[str, Any]) -> list[PanelQuery]:
    """All Prometheus queries of a dashboard (Grafana's JSON model) in the order of its panels.

    A variable is replaced by the value it is saved with, several values or "All" by a regular expression.
    Raises ``ValueError`` for a variable that the dashboard does not have.
    """
    title = dashboard["title"]
    listed = dashboard.get("templating", {}).get("list", [])
    values = BUILT_IN | {variable["name"]: _value(variable) for variable in listed}
    queries = []
    for panel in _panels(dashboard.get("panels", [])):
        name = panel.get("title", "")
        for target in panel.get("targets", []):
            if expr := target.get("expr"):
                queries.append(PanelQuery(title, name, _filled(expr, values, f"panel {name!r} of dashboard {title!r}")))
    return queries


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every panel; those of a collapsed row stand inside the row."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _value(variable: Mapping[str, Any]) -> str:
    value = variable.get("current", {}).get("value", "")
    values = value if isinstance(value, list) else [value]
    if "$__all" in values:
        return variable.get("allValue") or ".+"
    return values[0] if len(values) == 1 else f"({'|'.join(values)})"


def _filled(expr: str, values: Mapping[str, str], place: str) -> str:
    def value(reference: re.Match[str]) -> str:
        name = next(filter(None, reference.groups()))
        if name not in values:
            known = ", ".join(sorted(values))
            raise ValueError(f"{place} uses the variable {name!r} in {expr!r}, but only these exist: {known}")
        return values[name]

    return REFERENCE.sub(value, expr)
