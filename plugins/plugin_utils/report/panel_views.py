"""Panels (see ``panels.collect``) for the report's template: drawings, marks of axes, numbers as text.

A drawing has only lines and areas, because the page stretches it to the available width. Text is outside of the
drawing and keeps its size. Colours come from the page's style sheet through classes.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .chart import nice_step, time_step

# Width and height of a drawing, and height of the strip of a condition, in units of the SVG.
WIDTH, HEIGHT, STRIP = 600, 120, 12
# Most bytes of all drawings together, so that the page stays small on a large cluster.
BUDGET = 900_000
LEFT_OUT = "Not drawn, to keep this page small. Grafana shows this panel."
# Steps of a unit, ascending: the divisor, which is also the least value of the step, and the suffix.
BINARY = [(1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB")]
DECIMAL = [(1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")]
UNITS: dict[str, list[tuple[float, str]]] = {
    "percentunit": [(0.01, " %")],
    "bytes": [(divisor, f" {name}") for divisor, name in BINARY],
    "Bps": [(divisor, f" {name}/s") for divisor, name in BINARY],
    "s": [(1e-6, " µs"), (1e-3, " ms"), (1, " s"), (60, " min"), (3600, " h"), (86400, " d")],
    "short": [(divisor, f" {name}".rstrip()) for divisor, name in DECIMAL],
}
# Units of events per second.
RATES = {"cps", "reqps", "ops", "pps"}

Values = Sequence[float | None]


class Measure(NamedTuple):
    """The divisor of values, and the suffix after them."""

    divisor: float
    suffix: str


def measure(unit: str, highest: float) -> Measure:
    """Return the step of a unit (Grafana's name) that suits values up to ``highest``."""
    if unit in RATES:
        return Measure(1, " /s")
    if unit == "s" and not highest:
        return Measure(1, " s")
    steps = UNITS.get(unit, UNITS["short"])
    # Change the unit at twice its size: 90 s stay seconds, 180 s become 3 min.
    factor = 2 if unit == "s" else 1
    fitting = [step for step in steps if highest >= step[0] * (factor if step[0] > 1 else 1)]
    return Measure(*(fitting[-1] if fitting else steps[0]))


def words(value: float | None, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit as text, or "-" for no value."""
    if value is None:
        return "-"
    divisor, suffix = measure(unit, abs(value))
    shown = value / divisor
    if decimals is None or (divisor != 1 and unit != "percentunit"):
        return f"{shown:.3g}{suffix}" if abs(shown) < 1000 else f"{shown:.0f}{suffix}"
    return f"{shown:.{decimals}f}{suffix}"


def line_path(values: Values, ceiling: float, stairs: bool, close: bool = False) -> str:
    """Return SVG path data without points that lie on a horizontal line. ``close`` makes areas down to zero."""
    parts: list[str] = []
    for run in runs(values, stairs, ceiling):
        if close:
            parts.append(f"M{run[0][0]} {HEIGHT}" + "".join(f"L{x} {y}" for x, y in run) + f"V{HEIGHT}Z")
        elif len(run) == 1:
            # A single value becomes a dot.
            parts.append(f"M{run[0][0]} {run[0][1]}h.1")
        else:
            parts.append("M" + "L".join(f"{x} {y}" for x, y in run))
    return "".join(parts)


def runs(values: Values, stairs: bool, ceiling: float) -> list[list[tuple[int, int]]]:
    """Return the points of a drawing: one list for each stretch without a missing value."""
    stretches: list[list[tuple[int, int]]] = []
    points: list[tuple[int, int]] = []
    for index, value in enumerate(values):
        if value is None:
            if points:
                stretches.append(points)
            points = []
            continue
        x, y = place(index, len(values)), round(HEIGHT - max(0.0, min(value, ceiling)) / ceiling * HEIGHT)
        if stairs and points and points[-1][1] != y:
            points.append((x, points[-1][1]))
        if len(points) > 1 and points[-1][1] == points[-2][1] == y:
            points[-1] = (x, y)
        else:
            points.append((x, y))
    return [*stretches, points] if points else stretches


def place(index: int, count: int) -> int:
    """Return the x coordinate of value ``index`` of ``count``."""
    return round(index / max(1, count - 1) * WIDTH)


def stack_path(lower: Values, upper: Values, ceiling: float, stairs: bool) -> str:
    """Return SVG path data of the area between two lines. Both lines have the same gaps."""
    return "".join(
        "M" + "L".join(f"{x} {y}" for x, y in [*above, *reversed(below)]) + "Z"
        for above, below in zip(runs(upper, stairs, ceiling), runs(lower, stairs, ceiling), strict=True)
    )


def stacked(series: Sequence[Mapping[str, Any]]) -> list[list[float | None]]:
    """Return the lines of a stack from the bottom up: running sums, None where no series has a value."""
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
    """Return lines or stacked areas, marks of the value axis, and a legend with last and highest values."""
    series, unit, stairs = panel["series"], panel["unit"], panel.get("stairs", False)
    lines = stacked(series) if panel.get("stacked") else [entry["values"] for entry in series]
    highest = max((value for line in lines for value in line if value is not None), default=0)
    divisor, suffix = measure(unit, highest)
    # An axis needs a height even if all values are zero.
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
        # An area without height would look like a line.
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
    """Return one strip for each condition: true, false, unknown; empty before the first known value."""
    rows = []
    for entry in panel["series"]:
        shapes, count = [], len(entry["values"])
        states = ["u" if value is None else "t" if value else "f" for value in entry["values"]]
        first = 0
        for index in range(1, count + 1):
            if index == count or states[index] != states[first]:
                # A value is valid until the next one.
                left, right = round(first / count * WIDTH), round(index / count * WIDTH)
                if first or states[first] != "u":
                    shapes.append(f'<rect class="{states[first]}" x="{left}" width="{right - left}" height="{STRIP}"/>')
                first = index
        now = {"t": "true", "f": "false", "u": "unknown"}[states[-1]]
        rows.append({"name": entry["name"], "now": now, "drawing": svg(STRIP, shapes)})
    return {"strips": rows}


def figure(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last value as text, its state, and a drawing of all values."""
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
    """Return the columns and cells of a table as text; numbers are marked."""
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
    """Return an SVG that fills its place. It is hidden from screen readers, because text beside it has the values."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}</svg>'


def view(panels: Mapping[str, Any]) -> dict[str, Any]:
    """Return all dashboards for the template. Key ``absent`` names the dashboards without data."""
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
                shown_panel = {name: panel.get(name) for name in ("title", "kind", "why", "problem", "more")}
                if "problem" not in panel:
                    look = VIEWS[panel["kind"]](panel)
                    size = len(str(look))
                    if spent + size > BUDGET:
                        shown_panel["problem"] = LEFT_OUT
                    else:
                        spent += size
                        shown_panel |= look
                views.append(shown_panel)
            rows.append({**row, "panels": views})
        shown.append({**dashboard, "rows": rows})
    return {**panels, "dashboards": shown, "absent": absent, "times": times(panels["start"], panels["end"])}


def times(start: float, end: float) -> list[dict[str, Any]]:
    """Return the marks of the time axis: UTC time, and position in percent of the width."""
    step = time_step(end - start, 5)
    first = math.ceil(start / step) * step
    return [
        {
            "at": round((moment - start) / (end - start) * 100, 1),
            "text": f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%H:%M}",
        }
        for moment in range(int(first), int(end) + 1, int(step))
    ]
