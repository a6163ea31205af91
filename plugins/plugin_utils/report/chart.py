"""The timeline of a load as an SVG drawing of several panels with one time axis.

Colours come from the page's style sheet through classes, so that one drawing fits a light and a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

# Points of a line: seconds and value; None breaks the line.
Points = Sequence[tuple[float, float | None]]
# Converts a value to a coordinate of the drawing.
Scale = Callable[[float], float]

STEP_LETTERS = "ABCDEFG"
STEPS = {
    "load_start": "Load starts",
    "metric_over_target": "Metric is over its target",
    "decision": "Autoscaler decides",
    "first_new_pod_ready": "First new pod is ready",
    "demanded_ready": "All demanded replicas are ready",
    "load_end": "Load ends",
    "scale_in": "Scale-in begins",
}


@dataclass
class Line:
    """One line of a panel: style class, name in the legend, points. With ``step`` a value stays until the next one."""

    style: str
    name: str
    points: Points
    step: bool = False
    fill: bool = False


@dataclass
class Panel:
    """One drawing area: title, lines, height in pixels, and an optional horizontal mark (value, text)."""

    title: str
    lines: list[Line]
    height: int
    mark: tuple[float, str] | None = None
    whole: bool = False
    events: list[tuple[float, str]] = field(default_factory=list)


def nice_step(span: float, most: int, whole: bool = False) -> float:
    """Return the distance of grid lines: 1, 2 or 5 times a power of ten, with ``most`` lines in ``span`` at most."""
    if span <= 0:
        return 1.0
    base = 10.0 ** math.floor(math.log10(span / most))
    step = next(base * factor for factor in (1, 2, 5, 10) if span / (base * factor) <= most)
    return max(1.0, step) if whole else step


def time_step(span: float, most: int) -> float:
    """Return the distance of time marks in seconds, with ``most`` marks in ``span`` at most."""
    return next((step for step in (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800) if span / step <= most), 3600)


def time_label(seconds: float) -> str:
    """Return minutes and seconds: 83 becomes 1:23."""
    minutes, rest = divmod(abs(round(seconds)), 60)
    sign = "-" if seconds < 0 else ""
    return f"{sign}{minutes}:{rest:02d}"


def path(points: Points, x: Scale, y: Scale, step: bool) -> str:
    """Return the SVG path data of a line. A missing value interrupts the line."""
    parts: list[str] = []
    last: float | None = None
    for t, value in points:
        if value is None:
            last = None
            continue
        if last is None:
            parts.append(f"M{x(t):.1f} {y(value):.1f}")
        elif step:
            parts.append(f"H{x(t):.1f}" + (f"V{y(value):.1f}" if value != last else ""))
        else:
            parts.append(f"L{x(t):.1f} {y(value):.1f}")
        last = value
    return "".join(parts)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least ``gap`` apart, in order, between ``low`` and ``high`` if they fit."""
    placed: list[float] = []
    for position in positions:
        placed.append(max(position, placed[-1] + gap) if placed else max(position, low))
    limit = high
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed


def panels_of(load: Mapping[str, Any], narrow: bool) -> list[Panel]:
    """Return the three panels of a load: offered load, metric of the autoscaler, replicas."""
    samples = load["samples"]
    offered = [(sample["t"], load["rate"] if sample["load"] else 0.0) for sample in samples]
    lines = [Line("offered", "offered", offered, step=True, fill=True)]
    if load.get("received"):
        lines.append(Line("received", "counted by the app", list(load["received"])))
    tall = 120 if narrow else 150
    return [
        Panel("Load, requests per second", lines, 80 if narrow else 90),
        Panel(
            "Metric per pod" if narrow else f"Metric per pod: {load['metric']}",
            [
                Line("measured", "metrics API", [(sample["t"], sample["metric"]) for sample in samples]),
                Line(
                    "seen", "as the autoscaler saw it", [(sample["t"], sample["seen"]) for sample in samples], step=True
                ),
            ],
            tall,
            mark=(load["target"], f"target {load['target']:g}"),
        ),
        Panel(
            "Replicas",
            [
                Line("ready", "ready", [(sample["t"], sample["ready"]) for sample in samples], step=True, fill=True),
                Line("desired", "desired", [(sample["t"], sample["desired"]) for sample in samples], step=True),
            ],
            tall,
            whole=True,
            events=[(event["t"], str(number)) for number, event in enumerate(load["events"], 1)],
        ),
    ]


def timeline(load: Mapping[str, Any], width: int, identity: str) -> str:
    """Return the SVG of a load, ``width`` pixels wide; ``identity`` makes the ids of its elements unique."""
    narrow = width < 600
    left, right, lane = 34, 12, 26
    samples = load["samples"]
    if not samples:
        return ""
    begin, end = samples[0]["t"], max(samples[-1]["t"], samples[0]["t"] + 1)
    panels = panels_of(load, narrow)
    head = 38 if narrow else 24
    height = lane + sum(panel.height + head + 14 for panel in panels) + 24

    def x(t: float) -> float:
        return left + (t - begin) / (end - begin) * (width - left - right)

    steps = [(name, load["steps"].get(name)) for name in STEPS]
    seen = [(number, name, t) for number, (name, t) in enumerate(steps) if t is not None]
    out = [
        f'<svg viewBox="0 0 {width} {height}" role="img" class="timeline" '
        f'aria-labelledby="{identity}-title {identity}-desc">',
        f'<title id="{identity}-title">Timeline of load, metric and replicas</title>',
        f'<desc id="{identity}-desc">{escape(describe(load))}</desc>',
    ]
    bottom = height - 24
    start, stop = load["steps"].get("load_start"), load["steps"].get("load_end")
    if start is not None:
        to = x(stop) if stop is not None else width - right
        out.append(
            f'<rect class="loaded" x="{x(start):.1f}" y="{lane}" width="{to - x(start):.1f}" height="{bottom - lane}"/>'
        )
    marks = time_step(end - begin, 5 if narrow else 12)
    ticks = [k * marks for k in range(math.ceil(begin / marks), math.floor(end / marks) + 1)]
    for t in ticks:
        out.append(f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{lane}" y2="{bottom}"/>')
        out.append(f'<text class="tick" x="{x(t):.1f}" y="{height - 8}" text-anchor="middle">{time_label(t)}</text>')
    order = sorted(seen, key=lambda entry: entry[2])
    places = spread([x(entry[2]) for entry in order], 20, left + 8, width - right - 8)
    for (number, name, t), place in zip(order, places, strict=True):
        out.append(f'<path class="stepline" d="M{place:.1f} 19L{x(t):.1f} {lane}V{bottom}"/>')
        out.append(
            f'<g class="step"><title>{STEP_LETTERS[number]}: {escape(STEPS[name])}, {t:g} s</title>'
            f'<circle cx="{place:.1f}" cy="10" r="9"/>'
            f'<text x="{place:.1f}" y="14" text-anchor="middle">{STEP_LETTERS[number]}</text></g>'
        )
    top = float(lane)
    for panel in panels:
        out += draw_panel(panel, x, top, head, left, width - right, narrow)
        top += panel.height + head + 14
    out.append("</svg>")
    return "\n".join(out)


def draw_panel(panel: Panel, x: Scale, top: float, head: float, left: float, right: float, narrow: bool) -> list[str]:
    """Return the SVG elements of one panel, from ``top`` on downwards."""
    values = [value for line in panel.lines for _unused, value in line.points if value is not None]
    highest = max([*values, panel.mark[0] * 1.15 if panel.mark else 0, 1e-9])
    grid = nice_step(highest, 4 if panel.height < 100 else 5, panel.whole)
    ceiling = math.ceil(round(highest / grid, 6)) * grid
    base = top + head + panel.height

    def y(value: float) -> float:
        return base - value / ceiling * panel.height

    out = [f'<text class="title" x="{left}" y="{top + 15:.1f}">{escape(panel.title)}</text>']
    out += legend(panel, left, right, top + (31 if narrow else 15), narrow)
    for k in range(round(ceiling / grid) + 1):
        value = k * grid
        out.append(f'<path class="{"axis" if k == 0 else "grid"}" d="M{left} {y(value):.1f}H{right}"/>')
        out.append(f'<text class="tick" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for line in panel.lines:
        data = path(line.points, x, y, line.step)
        if line.fill and data:
            out.append(f'<path class="{line.style} fill" d="{data}V{base:.1f}H{x(line.points[0][0]):.1f}Z"/>')
        out.append(f'<path class="{line.style} line" d="{data}"/>')
    if panel.mark:
        value, text = panel.mark
        out.append(f'<line class="target" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        out.append(f'<text class="marktext" x="{left + 4}" y="{y(value) - 4:.1f}">{escape(text)}</text>')
    places = spread([x(t) for t, _unused in panel.events], 17, left + 8, right - 8)
    for (t, number), place in zip(panel.events, places, strict=True):
        out.append(f'<path class="eventline" d="M{place:.1f} {base - 8:.1f}L{x(t):.1f} {base:.1f}"/>')
        out.append(
            f'<g class="event"><rect x="{place - 8:.1f}" y="{base - 22:.1f}" width="16" height="15" rx="3"/>'
            f'<text x="{place:.1f}" y="{base - 10.5:.1f}" text-anchor="middle">{number}</text></g>'
        )
    return out


def legend(panel: Panel, left: float, right: float, baseline: float, narrow: bool) -> list[str]:
    """Return the legend of a panel's lines, right-aligned; on a narrow drawing below the title."""
    letter = 6.1
    widths = [22 + len(line.name) * letter + 12 for line in panel.lines]
    position = left if narrow else right - sum(widths) + 12
    out = []
    for line, width in zip(panel.lines, widths, strict=True):
        out.append(f'<path class="{line.style} line" d="M{position:.1f} {baseline - 4:.1f}h16"/>')
        out.append(f'<text class="legend" x="{position + 21:.1f}" y="{baseline:.1f}">{escape(line.name)}</text>')
        position += width
    return out


def describe(load: Mapping[str, Any]) -> str:
    """Return the drawing as text, for screen readers."""
    samples = load["samples"]
    texts = [f"{STEPS[name]} at {t:g} s" for name in STEPS if (t := load["steps"].get(name)) is not None]
    most = max(sample["ready"] for sample in samples)
    return (
        f"{load['rate']:g} requests per second against a target of {load['target']:g} {load['metric']} per pod. "
        f"Ready replicas go from {samples[0]['ready']} to {most}. {'. '.join(texts)}."
    )
