"""What the panels of a Grafana dashboard ask Prometheus, with the dashboard's variables filled in.

Read are the JSON models that Grafana is provisioned with, so that whoever else draws a panel or tests its queries has
the same queries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..common.paths import COLLECTION

# The dashboards of this collection, in the order in which people look at them.
FOLDER = COLLECTION / "roles" / "grafana" / "files" / "dashboards"
ORDER = ("hpa", "demo-app", "cluster", "node", "pod")
# Grafana's own variables, as it would set them for the last 15 minutes of targets that are scraped every 15 s.
BUILT_IN = {"__interval": "15s", "__rate_interval": "1m", "__range": "15m"}
# Grafana's forms of a reference: $name, ${name}, ${name:format}, [[name]].
REFERENCE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]")
# A label's value in the name of a series: {{label}}.
LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
# What has a meaning in a regular expression; the backslash before it has one in a PromQL string, and is doubled.
SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}]")
# How a variable says which values it has: label_values(<series>, <label>).
LABEL_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")

# Instant query: an expression becomes samples in the form of Prometheus' API.
Ask = Callable[[str], Sequence[Mapping[str, Any]]]
# Values of a dashboard's variables by name.
Values = Mapping[str, str]


class PanelQuery(NamedTuple):
    """An expression that can be sent to Prometheus as it is, and where it stands.

    ``nothing`` says why it may have no series on a healthy cluster; empty when it must have some.
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
    """What is needed to draw a panel."""

    title: str
    # Grafana's name of the kind: stat, timeseries, state-timeline, table.
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
    """Panels under one heading; a row that repeats stands here once for each value of its variable."""

    title: str
    panels: tuple[Panel, ...]
    # The same as the row before it, for another value.
    again: bool = False


def load_dashboards() -> list[dict[str, Any]]:
    """The JSON models of the collection's dashboards."""
    return [json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER]


def panel_queries(dashboard: Mapping[str, Any], values: Values | None = None) -> list[PanelQuery]:
    """All Prometheus queries of a dashboard (Grafana's JSON model) in the order of its panels.

    A variable is replaced by what ``values`` says, else by the value it is saved with, several values or "All" by a
    regular expression. Raises ``ValueError`` for a variable that the dashboard does not have.
    """
    values = saved_values(dashboard) | dict(values or {})
    return [
        PanelQuery(dashboard["title"], panel.get("title", ""), target.expr, _nothing(panel))
        for panel in _panels(dashboard.get("panels", []))
        for target in _targets(panel, values, dashboard["title"])
    ]


def panel_rows(dashboard: Mapping[str, Any], choices: Mapping[str, Sequence[str]], repeats: int) -> list[Row]:
    """The rows of a dashboard, ready to be drawn, with the values that its variables have (see ``variable_choices``).

    A row that repeats does so for the first ``repeats`` values of its variable.
    """
    saved = saved_values(dashboard) | {name: alternatives(found) for name, found in choices.items()}
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
    """The values that each variable of a dashboard had in the time ``over``, asked of Prometheus.

    ``narrowed`` has other questions for variables by name. Variables without a question have their saved value only,
    and are left out.
    """
    values, choices = saved_values(dashboard), {}
    for variable in dashboard.get("templating", {}).get("list", []):
        if variable["type"] != "query":
            continue
        name = variable["name"]
        query = (narrowed or {}).get(name, variable["query"])
        asked = LABEL_VALUES.fullmatch(query)
        if not asked:
            raise ValueError(f"variable {name!r} of dashboard {dashboard['title']!r}: {query!r} is not label_values(…)")
        series, label = asked.groups()
        selected = _filled(series, values, f"variable {name!r} of dashboard {dashboard['title']!r}")
        expr = f"group by ({label}) (last_over_time({selected}[{over}]))"
        found = sorted(sample["metric"][label] for sample in ask(expr) if label in sample["metric"])
        choices[name] = found
        values[name] = alternatives(found)
    return choices


def alternatives(values: Sequence[str]) -> str:
    """A regular expression for one of several values, as Grafana writes it."""
    escaped = [SPECIAL.sub(r"\\\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def saved_values(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Values of all variables as the dashboard opens with them, Grafana's own included."""
    listed = dashboard.get("templating", {}).get("list", [])
    return BUILT_IN | {variable["name"]: _value(variable) for variable in listed}


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every panel; those of a collapsed row stand inside the row."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _rows(panels: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each heading with its panels: those inside, or those that follow it."""
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
    """Names and titles of a table's columns, in their order."""
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
