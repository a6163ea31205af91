"""The kinds of panels that our dashboards are made of."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# Whichever Prometheus the viewer picked; the provisioned one at first.
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the name its series are shown under (Grafana's ``{{label}}`` form)."""

    expr: str
    legend: str = ""


def _target(query: Query, position: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + position))


def number(
    title: str, expr: str, unit: str = "short", decimals: float = 0, why: str = "", nothing: str = ""
) -> stat.Panel:
    """One number with its recent course behind it. ``nothing`` says why there may be none."""
    panel = (
        stat.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .decimals(decimals)
        .height(4)
        .span(4)
        .graph_mode(looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(Query(expr), 0))
    )
    return panel.no_value(nothing) if nothing else panel


def good_when(panel: stat.Panel, bad_from: float) -> stat.Panel:
    """Colours a number that is good below a value and bad from it on."""
    steps = [Threshold(value=None, color="green"), Threshold(value=bad_from, color="red")]
    return panel.color_mode(looks.BigValueColorMode.VALUE).thresholds(
        dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    )


def lines(
    title: str,
    *queries: Query,
    unit: str = "short",
    why: str = "",
    nothing: str = "",
    stacked: bool = False,
    stairs: bool = False,
) -> timeseries.Panel:
    """Values over time. ``stairs`` is for counts of things, which have nothing between two values.

    ``nothing`` says why a panel may have no series on a healthy cluster; without it, having none is a mistake.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(12)
        .line_width(2)
        .fill_opacity(30 if stacked else 8)
        .line_interpolation(looks.LineInterpolation.STEP_AFTER if stairs else looks.LineInterpolation.LINEAR)
        .show_points(looks.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.TABLE)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if stairs:
        panel = panel.decimals(0)
    if nothing:
        panel = panel.no_value(nothing)
    for position, query in enumerate(queries):
        panel = panel.with_target(_target(query, position))
    return panel


def truths(title: str, *queries: Query, why: str = "") -> statetimeline.Panel:
    """Conditions over time, from expressions that are 1 while true and 0 while not."""
    words = ValueMap(
        options={
            "1": ValueMappingResult(text="true", color="green", index=0),
            "0": ValueMappingResult(text="false", color="#6e6e6e", index=1),
        }
    )
    missing = SpecialValueMap()
    missing.options.match = SpecialValueMatch.NULL
    missing.options.result = ValueMappingResult(text="unknown", color="orange", index=2)
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(why)
        .datasource(SOURCE)
        .mappings([words, missing])
        .show_value(looks.VisibilityMode.NEVER)
        .height(8)
        .span(12)
    )
    for position, query in enumerate(queries):
        panel = panel.with_target(_target(query, position))
    return panel


def rows_of(title: str, names: dict[str, str], *queries: Query, why: str = "") -> table.Panel:
    """A table of what is now: one row per common label, one column per query, columns named by ``names``."""
    panel = table.Panel().title(title).description(why).datasource(SOURCE).height(8).span(24)
    for position, query in enumerate(queries):
        target = _target(query, position).instant().format(PromQueryFormat.TABLE)
        panel = panel.with_target(target)
    order = {name: position for position, name in enumerate(names)}
    columns = {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": order}
    return panel.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(id_val="organize", options=columns)
    )


def repeated(title: str, variable: str) -> dashboard.Row:
    """A row that stands there once for each value of a variable."""
    return dashboard.Row(title).repeat(variable)


def choice(name: str, label: str, series: str, of: str) -> dashboard.QueryVariable:
    """A variable: the values that a label has in some series; all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({series}, {of})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def new_dashboard(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """A dashboard with the variables that all of ours have: ``datasource`` and ``window``."""
    windows = ["20s", "1m", "2m", "5m"]
    options = [VariableOption(selected=text == "1m", text=text, value=text) for text in windows]
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["kubescale"])
        .readonly()
        .timezone("browser")
        .time("now-15m", "now")
        .refresh("5s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Other dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["kubescale"])
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.CustomVariable("window")
            .label("Rate over")
            .values(",".join(windows))
            .options(options)
            .current(VariableOption(selected=True, text="1m", value="1m"))
        )
    )
