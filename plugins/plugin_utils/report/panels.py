"""Data of all dashboard panels of a cluster, from its Prometheus.

The report draws this data, so that people without Grafana see the same panels from the same queries.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..kube.client import CONNECTIONS, ApiError
from ..kube.prometheus import (
    PrometheusError,
    Reader,
    prometheus_query,
    prometheus_query_range,
)
from .dashboards import (
    LABEL,
    Panel,
    Row,
    load_dashboards,
    panel_rows,
    variable_choices,
)

# Most values of a line, and least seconds between two values.
POINTS, SHORTEST_STEP = 90, 5
# Most repetitions of a row, lines of a panel and rows of a table, so that the page of 100 nodes stays readable.
REPEATS, MOST_SERIES, MOST_ROWS = 8, 10, 40
# Show only namespaces with autoscaled pods: lines for all pods of a cluster would be too many.
NARROWED = {"kubescale-pod": {"namespace": "label_values(kube_horizontalpodautoscaler_info, namespace)"}}

Samples = Sequence[Mapping[str, Any]]


def collect(api: Reader, service: str, minutes: float) -> dict[str, Any]:
    """Return the data of all panels of all dashboards over the last ``minutes``.

    Raise ApiError or PrometheusError if Prometheus does not answer. A rejected query becomes ``problem`` of its panel;
    the other panels are complete.
    """
    began = time.monotonic()
    end = time.time()
    step = max(SHORTEST_STEP, math.ceil(minutes * 60 / POINTS))
    start = end - step * int(minutes * 60 / step)
    over = f"{math.ceil(minutes)}m"

    pages: list[tuple[dict[str, Any], list[Row], dict[str, list[str]]]] = []
    for model in load_dashboards():
        narrowed = NARROWED.get(model["uid"], {})
        choices = variable_choices(model, lambda expr: prometheus_query(api, expr, service), narrowed, over)
        pages.append((model, panel_rows(model, choices, REPEATS), choices))
    panels = [panel for _unused, rows, _choices in pages for row in rows for panel in row.panels]
    asked = {(target.expr, panel.kind == "table") for panel in panels for target in panel.targets}

    def ask(question: tuple[str, bool]) -> tuple[tuple[str, bool], Samples | str]:
        expr, now = question
        try:
            if now:
                return question, prometheus_query(api, expr, service)
            return question, prometheus_query_range(api, expr, start, end, step, service)
        except (ApiError, PrometheusError) as error:
            return question, str(error)

    # One thread per connection: queries are short, and most of their time is network latency.
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = dict(pool.map(ask, sorted(asked)))
    return {
        "start": round(start, 3),
        "end": round(end, 3),
        "step": step,
        "queries": len(asked),
        "seconds": round(time.monotonic() - began, 2),
        "dashboards": [
            {
                "uid": model["uid"],
                "title": model["title"],
                "about": model.get("description", ""),
                "left_out": {name: len(known) - REPEATS for name, known in choices.items() if _cut(model, name, known)},
                "rows": [
                    {
                        "title": row.title,
                        "again": row.again,
                        "panels": [panel_data(panel, answers, start, end, step) for panel in row.panels],
                    }
                    for row in rows
                ],
            }
            for model, rows, choices in pages
        ],
    }


def _cut(model: Mapping[str, Any], name: str, values: Sequence[str]) -> bool:
    """Return whether the report omits rows of a variable."""
    return len(values) > REPEATS and any(panel.get("repeat") == name for panel in model["panels"])


def panel_data(
    panel: Panel, answers: Mapping[tuple[str, bool], Samples | str], start: float, end: float, step: float
) -> dict[str, Any]:
    """Return a panel with its settings and its data; ``problem`` is the reason if there is no data."""
    results = [answers[target.expr, panel.kind == "table"] for target in panel.targets]
    data: dict[str, Any] = {"title": panel.title, "kind": panel.kind, "why": panel.why, "unit": panel.unit}
    for name in ("decimals", "bad_from", "stacked", "stairs"):
        value = getattr(panel, name)
        if value is not None and value is not False:
            data[name] = value
    problems = [answer for answer in results if isinstance(answer, str)]
    answered = [answer for answer in results if not isinstance(answer, str)]
    if problems:
        data["problem"] = problems[0]
    elif not any(answered):
        data["problem"] = panel.nothing or "No data."
    elif panel.kind == "table":
        data |= table(panel.columns, answered)
    else:
        count = round((end - start) / step) + 1
        series: list[dict[str, Any]] = [
            {"name": name_of(target.legend, sample["metric"]), "values": on_grid(sample["values"], start, step, count)}
            for target, samples in zip(panel.targets, answered, strict=True)
            for sample in samples
        ]
        # Keep the series with the highest peaks, in the order of the queries.
        kept = sorted(range(len(series)), key=lambda index: -peak(series[index]["values"]))[:MOST_SERIES]
        data["series"] = [series[index] for index in sorted(kept)]
        data["more"] = len(series) - len(kept)
    return data


def name_of(legend: str, labels: Mapping[str, str]) -> str:
    """Return a legend in Grafana's form with the labels of a series."""
    return LABEL.sub(lambda match: labels.get(match.group(1), ""), legend)


def on_grid(values: Sequence[tuple[float, str]], start: float, step: float, count: int) -> list[float | None]:
    """Return a value with four digits for each point in time, or None where there is none."""
    grid: list[float | None] = [None] * count
    for moment, text in values:
        place, value = round((moment - start) / step), float(text)
        if 0 <= place < count and math.isfinite(value):
            grid[place] = short(value)
    return grid


def short(value: float) -> float:
    """Return a number rounded to four digits; whole numbers as int."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded == int(rounded) else rounded


def peak(values: Sequence[float | None]) -> float:
    """Return the highest value, or -inf if there is none."""
    return max((value for value in values if value is not None), default=-math.inf)


def table(columns: Sequence[tuple[str, str]], answers: Sequence[Samples]) -> dict[str, Any]:
    """Return the rows of several queries, merged by their common labels as Grafana does it."""
    rows: list[dict[str, Any]] = []
    for position, samples in enumerate(answers):
        for sample in samples:
            labels = {name: value for name, value in sample["metric"].items() if name != "__name__"}
            value = float(sample["value"][1])
            cell = {f"Value #{chr(ord('A') + position)}": short(value) if math.isfinite(value) else None}
            row = next((row for row in rows if _same(row, labels)), None)
            if row is None:
                row = {}
                rows.append(row)
            row |= labels | cell
    shown = [name for name, _unused in columns if any(name in row for row in rows)]
    rows.sort(key=lambda row: [str(row.get(name, "")) for name in shown if not name.startswith("Value #")])
    titles = dict(columns)
    return {
        "columns": [titles[name] for name in shown],
        "rows": [[row.get(name) for name in shown] for row in rows[:MOST_ROWS]],
        "more": max(0, len(rows) - MOST_ROWS),
    }


def _same(row: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    shared = [name for name in labels if name in row]
    return bool(shared) and all(row[name] == labels[name] for name in shared)
