"""Prometheus queries of the panels of a Grafana dashboard, with the values of the dashboard's variables.

They come from the JSON models of Grafana, so that the report and the tests use the same queries as Grafana.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..common.paths import COLLECTION

# The dashboards of this collection, in the order of the report's tabs.
FOLDER = COLLECTION / "roles" / "grafana" / "files" / "dashboards"
ORDER = ("hpa", "demo-app", "cluster", "node", "pod")
# Grafana's own variables, with its values for a range of 15 minutes and a scrape interval of 15 s.
BUILT_IN = {"__interval": "15s", "__rate_interval": "1m", "__range": "15m"}
# Grafana's forms of a reference: $name, ${name}, ${name:format}, [[name]].
REFERENCE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]")
# A label's value in the name of a series: {{label}}.
LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
# Special characters of a regular expression. Their escape needs two backslashes inside a PromQL string.
SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}]")
# Query for the values of a variable: label_values(<series>, <label>).
LABEL_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")

# Instant query: returns the samples of an expression in the form of Prometheus' API.
Ask = Callable[[str], Sequence[Mapping[str, Any]]]
# Values of a dashboard's variables by name.
Values = Mapping[str, str]


class PanelQuery(NamedTuple):
    """A complete expression for Prometheus, with its dashboard and panel.

    ``nothing`` is the reason why a healthy cluster may have no such series, or "" if series must exist.
    """

    dashboard: str
    panel: str
    expr: str
    nothing: str = ""


@dataclass(frozen=True)
class Target:
    """One query of a panel with its variables filled in, and the name of its series (Grafana's ``{{label}}`` form)."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A panel with its queries and the settings of its drawing."""

    title: str
    # Kind of panel in Grafana: stat, timeseries, state-timeline, table.
    kind: str
    targets: tuple[Target, ...]
    why: str = ""
    nothing: str = ""
    unit: str = "short"
    decimals: int | None = None
    stacked: bool = False
    stairs: bool = False
    # From this value on, the number of a stat is bad.
    bad_from: float | None = None
    # Titles of a table's columns, by label or "Value #A" for the first query.
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Row:
    """Panels under one heading. A repeated row is one Row for each value of its variable."""

    title: str
    panels: tuple[Panel, ...]
    # True if the row before it has the same panels for another value.
    again: bool = False


def load_dashboards() -> list[dict[str, Any]]:
    """Return the JSON models of the collection's dashboards."""
    return [json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER]


def panel_queries(dashboard: Mapping[str, Any], values: Values | None = None) -> list[PanelQuery]:
    """Return all Prometheus queries of a dashboard (Grafana's JSON model) in the order of its panels.

    A variable gets its value from ``values``, else its saved value. Several values and "All" become a regular
    expression. Raise ValueError for a variable that the dashboard does not have.
    """
    values = saved_values(dashboard) | dict(values or {})
    return [
        PanelQuery(dashboard["title"], panel.get("title", ""), target.expr, _nothing(panel))
        for panel in _panels(dashboard.get("panels", []))
        for target in _targets(panel, values, dashboard["title"])
    ]


def panel_rows(dashboard: Mapping[str, Any], choices: Mapping[str, Sequence[str]], repeats: int) -> list[Row]:
    """Return the rows of a dashboard; ``choices`` are the values of its variables (see ``variable_choices``).

    A repeated row appears for the first ``repeats`` values of its variable.
    """
    saved = saved_values(dashboard) | {name: alternatives(names) for name, names in choices.items()}
    rows: list[Row] = []
    for heading, panels in _rows(dashboard.get("panels", [])):
        variable = heading.get("repeat")
        each = [{variable: value} for value in choices[variable][:repeats]] if variable else [{}]
        for number, own in enumerate(each):
            values = saved | {name: alternatives([value]) for name, value in own.items()}
            drawn = tuple(_panel(panel, values, dashboard["title"]) for panel in panels if panel.get("targets"))
            title = _filled(heading.get("title", ""), saved | own, f"a row of dashboard {dashboard['title']!r}")
            rows.append(Row(title, drawn, number > 0))
    return rows


def variable_choices(
    dashboard: Mapping[str, Any], ask: Ask, narrowed: Mapping[str, str] | None = None, over: str = "15m"
) -> dict[str, list[str]]:
    """Return the values of each variable of a dashboard during the last ``over``, from Prometheus.

    ``narrowed`` replaces the queries of variables by name. Variables without a query are not in the result: they have
    only their saved value.
    """
    values, choices = saved_values(dashboard), {}
    for variable in dashboard.get("templating", {}).get("list", []):
        if variable["type"] != "query":
            continue
        name = variable["name"]
        query = (narrowed or {}).get(name, variable["query"])
        match = LABEL_VALUES.fullmatch(query)
        if not match:
            raise ValueError(f"variable {name!r} of dashboard {dashboard['title']!r}: {query!r} is not label_values(…)")
        series, label = match.groups()
        selected = _filled(series, values, f"variable {name!r} of dashboard {dashboard['title']!r}")
        expr = f"group by ({label}) (last_over_time({selected}[{over}]))"
        choices[name] = sorted(sample["metric"][label] for sample in ask(expr) if label in sample["metric"])
        values[name] = alternatives(choices[name])
    return choices


def alternatives(values: Sequence[str]) -> str:
    """Return a regular expression that matches one of several values, in Grafana's form."""
    escaped = [SPECIAL.sub(r"\\\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def saved_values(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Return the saved values of all variables, and of Grafana's own variables."""
    listed = dashboard.get("templating", {}).get("list", [])
    return BUILT_IN | {variable["name"]: _value(variable) for variable in listed}


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every panel. Panels of a collapsed row are inside the row."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _rows(panels: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each heading with its panels: the panels inside it, or the panels after it."""
    heading: dict[str, Any] = {}
    collected: list[dict[str, Any]] = []
    for panel in _panels(panels):
        if panel.get("type") == "row":
            if collected:
                yield heading, collected
            heading, collected = panel, []
        else:
            collected.append(panel)
    if collected:
        yield heading, collected


def _panel(panel: Mapping[str, Any], values: Values, title: str) -> Panel:
    look = panel.get("fieldConfig", {}).get("defaults", {})
    custom = look.get("custom", {})
    steps = (look.get("thresholds") or {}).get("steps") or []
    organized = [entry["options"] for entry in panel.get("transformations", []) if entry["id"] == "organize"]
    return Panel(
        title=panel.get("title", ""),
        kind=panel["type"],
        targets=tuple(_targets(panel, values, title)),
        why=panel.get("description", ""),
        nothing=_nothing(panel),
        unit=look.get("unit", "short"),
        decimals=int(look["decimals"]) if "decimals" in look else None,
        stacked=custom.get("stacking", {}).get("mode") == "normal",
        stairs=custom.get("lineInterpolation") == "stepAfter",
        bad_from=next((step["value"] for step in reversed(steps) if step.get("color") == "red"), None),
        columns=_columns(organized[0]) if organized else (),
    )


def _columns(organized: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return names and titles of a table's columns, in their order."""
    places, titles = organized["indexByName"], organized["renameByName"]
    return tuple((name, titles[name]) for name in sorted(places, key=places.__getitem__))


def _targets(panel: Mapping[str, Any], values: Values, title: str) -> Iterator[Target]:
    place = f"panel {panel.get('title', '')!r} of dashboard {title!r}"
    for target in panel.get("targets", []):
        if expr := target.get("expr"):
            yield Target(_filled(expr, values, place), target.get("legendFormat", ""))


def _nothing(panel: Mapping[str, Any]) -> str:
    return panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "")


def _value(variable: Mapping[str, Any]) -> str:
    value = variable.get("current", {}).get("value", "")
    values = value if isinstance(value, list) else [value]
    if "$__all" in values:
        return variable.get("allValue") or ".+"
    return values[0] if len(values) == 1 else f"({'|'.join(values)})"


def _filled(expr: str, values: Values, place: str) -> str:
    def value(reference: re.Match[str]) -> str:
        name = next(filter(None, reference.groups()))
        if name not in values:
            known = ", ".join(sorted(values))
            raise ValueError(f"{place} uses the variable {name!r} in {expr!r}, but only these exist: {known}")
        return values[name]

    return REFERENCE.sub(value, expr)
