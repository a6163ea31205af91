"""Panels (see ``panels.collect``) made ready for the report's template: drawings, marks of axes, numbers in words.

A drawing holds lines and areas only and is stretched to the width that it gets; all text stays outside of it, and is
as large on a phone as on a screen. Colours come from the page's style sheet through classes.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .chart import nice_step, time_step

# Size of a drawing in its own units, and of the strip of a condition.
WIDTH, HEIGHT, STRIP = 600, 120, 12
# Bytes of all drawings together: the page stays light, whatever the cluster is like.
BUDGET = 900_000
LEFT_OUT = "Not drawn, so that this page stays light. Grafana has it."
# Steps of a unit, ascending: what a value is divided by, from which value on, and what is written behind it.
BINARY = [(1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB")]
DECIMAL = [(1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")]
UNITS: dict[str, list[tuple[float, str]]] = {
    "percentunit": [(0.01, " %")],
    "bytes": [(divisor, f" {name}") for divisor, name in BINARY],
    "Bps": [(divisor, f" {name}/s") for divisor, name in BINARY],
    "s": [(1e-6, " µs"), (1e-3, " ms"), (1, " s"), (60, " min"), (3600, " h"), (86400, " d")],
    "short": [(divisor, f" {name}".rstrip()) for divisor, name in DECIMAL],
}
# What happens per second.
RATES = {"cps", "reqps", "ops", "pps"}

Values = Sequence[float | None]


class Measure(NamedTuple):
    """What values are divided by, and what is written behind them."""

    divisor: float
    suffix: str


def measure(unit: str, highest: float) -> Measure:
    """The step of a unit (as Grafana names it) in which values up to ``highest`` are read best."""
    if unit in RATES:
        return Measure(1, " /s")
    if unit == "s" and not highest:
        return Measure(1, " s")
    steps = UNITS.get(unit, UNITS["short"])
    # From twice a step on: 90 s are said as seconds, three minutes as minutes.
    factor = 2 if unit == "s" else 1
    fitting = [step for step in steps if highest >= step[0] * (factor if step[0] > 1 else 1)]
    return Measure(*(fitting[-1] if fitting else steps[0]))


def words(value: float | None, unit: str, decimals: int | None = None) -> str:
    """A value for a reader."""
    if value is None:
        return "-"
    divisor, suffix = measure(unit, abs(value))
    shown = value / divisor
    if decimals is None or (divisor != 1 and unit != "percentunit"):
        return f"{shown:.3g}{suffix}" if abs(shown) < 1000 else f"{shown:.0f}{suffix}"
    return f"{shown:.{decimals}f}{suffix}"


def line_path(values: Values, ceiling: float, stairs: bool, close: bool = False) -> str:
    """SVG path data; points that a straight line passes anyway are left out. ``close`` makes areas down to zero."""
    parts: list[str] = []
    for run in runs(values, stairs, ceiling):
        if close:
            parts.append(f"M{run[0][0]} {HEIGHT}" + "".join(f"L{x} {y}" for x, y in run) + f"V{HEIGHT}Z")
        elif len(run) == 1:
            # A single value, as a dot of the line's width.
            parts.append(f"M{run[0][0]} {run[0][1]}h.1")
        else:
            parts.append("M" + "L".join(f"{x} {y}" for x, y in run))
    return "".join(parts)


def runs(values: Values, stairs: bool, ceiling: float) -> list[list[tuple[int, int]]]:
    """Points of a drawing, one list for each stretch without a missing value."""
    found: list[list[tuple[int, int]]] = []
    points: list[tuple[int, int]] = []
    for index, value in enumerate(values):
        if value is None:
            if points:
                found.append(points)
            points = []
            continue
        x, y = place(index, len(values)), round(HEIGHT - max(0.0, min(value, ceiling)) / ceiling * HEIGHT)
        if stairs and points and points[-1][1] != y:
            points.append((x, points[-1][1]))
        if len(points) > 1 and points[-1][1] == points[-2][1] == y:
            points[-1] = (x, y)
        else:
            points.append((x, y))
    return [*found, points] if points else found


def place(index: int, count: int) -> int:
    """Where the value of a point in time lies."""
    return round(index / max(1, count - 1) * WIDTH)


def stack_path(lower: Values, upper: Values, ceiling: float, stairs: bool) -> str:
    """An area between two lines, which have their gaps at the same places."""
    return "".join(
        "M" + "L".join(f"{x} {y}" for x, y in [*above, *reversed(below)]) + "Z"
        for above, below in zip(runs(upper, stairs, ceiling), runs(lower, stairs, ceiling), strict=True)
    )


def stacked(series: Sequence[Mapping[str, Any]]) -> list[list[float | None]]:
    """Lines of a stack from the ground up: sums of the values so far, nothing where no series has a value."""
    columns = list(zip(*(entry["values"] for entry in series), strict=True))
    total: list[float | None] = [None if all(value is None for value in column) else 0.0 for column in columns]
    lines = [total]
    for entry in series:
        total = [
            None if below is None else below + max(0.0, value or 0.0)
            for below, value in zip(total, entry["values"], strict=True)
        ]
        lines.append(total)
    return lines


def graph(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Lines or stacked areas, with the marks of the value axis and a legend with last and highest values."""
    series, unit, stairs = panel["series"], panel["unit"], panel.get("stairs", False)
    lines = stacked(series) if panel.get("stacked") else [entry["values"] for entry in series]
    highest = max((value for line in lines for value in line if value is not None), default=0)
    divisor, suffix = measure(unit, highest)
    # An axis needs a height, also where everything is zero.
    highest = max(0.0, highest / divisor) or 1.0
    step = nice_step(highest, 3, stairs and divisor == 1)
    ceiling = math.ceil(round(highest / step, 6)) * step
    marks = [index * step for index in range(round(ceiling / step) + 1)]
    shapes = [
        f'<path class="g" d="M0 {round(HEIGHT - mark / ceiling * HEIGHT)}H{WIDTH}"/>'
        for mark in marks
        if mark < ceiling
    ]
    top = ceiling * divisor
    if panel.get("stacked"):
        areas = [stack_path(lower, upper, top, stairs) for lower, upper in itertools.pairwise(lines)]
        # An area without height would be a line that means nothing.
        shapes += [f'<path class="a k{at}" d="{area}"/>' for at, area in enumerate(areas) if any(series[at]["values"])]
    else:
        drawn = [line_path(values, top, stairs) for values in lines]
        shapes += [f'<path class="l k{index}" d="{line}"/>' for index, line in enumerate(drawn)]
    return {
        "drawing": svg(HEIGHT, shapes),
        "marks": [
            {"at": round(mark / ceiling * 100, 1), "text": f"{mark:g}{suffix if mark else ''}"} for mark in marks
        ],
        "legend": [
            {
                "style": f"k{index}",
                "name": entry["name"],
                "last": words(entry["values"][-1], unit, panel.get("decimals")),
                "most": words(max((v for v in entry["values"] if v is not None), default=None), unit),
            }
            for index, entry in enumerate(series)
        ],
    }


def strips(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions over time, one strip each: true, false, unknown; nothing for the time before the first is known."""
    rows = []
    for entry in panel["series"]:
        shapes, count = [], len(entry["values"])
        states = ["u" if value is None else "t" if value else "f" for value in entry["values"]]
        first = 0
        for index in range(1, count + 1):
            if index == count or states[index] != states[first]:
                # A value stands for the time until the next.
                left, right = round(first / count * WIDTH), round(index / count * WIDTH)
                if first or states[first] != "u":
                    shapes.append(f'<rect class="{states[first]}" x="{left}" width="{right - left}" height="{STRIP}"/>')
                first = index
        now = {"t": "true", "f": "false", "u": "unknown"}[states[-1]]
        rows.append({"name": entry["name"], "now": now, "drawing": svg(STRIP, shapes)})
    return {"strips": rows}


def figure(panel: Mapping[str, Any]) -> dict[str, Any]:
    """One number, as it was last, with its course."""
    values = panel["series"][0]["values"]
    last = next((value for value in reversed(values) if value is not None), None)
    highest = max((value for value in values if value is not None), default=0) or 1
    shape = f'<path class="a k0" d="{line_path(values, highest * 1.05, False, close=True)}"/>'
    bad_from = panel.get("bad_from")
    return {
        "value": words(last, panel["unit"], panel.get("decimals")),
        "state": "" if bad_from is None or last is None else "no" if last >= bad_from else "ok",
        "drawing": svg(HEIGHT, [shape]),
    }


def grid(panel: Mapping[str, Any]) -> dict[str, Any]:
    """A table's cells as text, numbers marked as such."""
    return {
        "columns": panel["columns"],
        "cells": [
            [
                {"text": str(cell), "number": False}
                if isinstance(cell, str)
                else {"text": words(cell, "short"), "number": True}
                for cell in row
            ]
            for row in panel["rows"]
        ],
    }


VIEWS = {"timeseries": graph, "state-timeline": strips, "stat": figure, "table": grid}


def svg(height: int, shapes: Sequence[str]) -> str:
    """A drawing that is stretched to its place; what it shows stands beside it as text."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}</svg>'


def view(panels: Mapping[str, Any]) -> dict[str, Any]:
    """All dashboards for the template; those without any data are only named, in ``absent``."""
    spent = 0
    shown, absent = [], []
    for dashboard in panels["dashboards"]:
        if not any("problem" not in panel for row in dashboard["rows"] for panel in row["panels"]):
            absent.append(dashboard["title"])
            continue
        rows = []
        for row in dashboard["rows"]:
            views = []
            for panel in row["panels"]:
                made = {name: panel.get(name) for name in ("title", "kind", "why", "problem", "more")}
                if "problem" not in panel:
                    look = VIEWS[panel["kind"]](panel)
                    size = len(str(look))
                    if spent + size > BUDGET:
                        made["problem"] = LEFT_OUT
                    else:
                        spent += size
                        made |= look
                views.append(made)
            rows.append({**row, "panels": views})
        shown.append({**dashboard, "rows": rows})
    return {**panels, "dashboards": shown, "absent": absent, "times": times(panels["start"], panels["end"])}


def times(start: float, end: float) -> list[dict[str, Any]]:
    """Marks of the time axis, in UTC, as shares of the width."""
    step = time_step(end - start, 5)
    first = math.ceil(start / step) * step
    return [
        {
            "at": round((moment - start) / (end - start) * 100, 1),
            "text": f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%H:%M}",
        }
        for moment in range(int(first), int(end) + 1, int(step))
    ]
