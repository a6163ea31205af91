"""Panels in the report: data from the dashboards' own queries, drawings that say what the data says."""

from __future__ import annotations

import copy
import math
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report import panel_views, panels, report
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report.dashboards import Panel, Target, load_dashboards

from tests.unit.report.test_report import full_report, parsed

SERVICE = "monitoring/prometheus-k8s:9090"
LABELS = {"node": "demo-w", "pod": "demo-app-", "horizontalpodautoscaler": "demo-app-"}


class FakePrometheus:
    """Answers every query with as many series as wanted, whose values never repeat."""

    def __init__(self, series: int = 2, refused: str = "nothing is refused") -> None:
        self.series, self.refused, self.paths = series, refused, []

    def raw(self, path: str) -> dict:
        self.paths.append(path)
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if self.refused in query["query"]:
            return {"status": "error", "error": "a <bad> query"}
        result = []
        for number in range(self.series):
            metric = {name: f"{start}{number}" for name, start in LABELS.items()} | {"namespace": "demo"}
            if "query_range" in path:
                start, end, step = (float(query[name]) for name in ("start", "end", "step"))
                moments = [start + index * step for index in range(int((end - start) / step) + 1)]
                values = [[t, str(number + 1 + math.sin(t * (number + 1)))] for t in moments]
                result.append({"metric": metric, "values": values})
            else:
                result.append({"metric": metric, "value": [0, str(number)]})
        return {"status": "success", "data": {"result": result}}


@pytest.fixture(scope="module")
def collected() -> dict:
    return panels.collect(FakePrometheus(), SERVICE, 15)


def every_panel(data: dict) -> list[dict]:
    return [panel for page in data["dashboards"] for row in page["rows"] for panel in row["panels"]]


def test_every_panel_of_every_dashboard_is_there_and_has_data(collected):
    wanted = {
        (page["title"], panel["title"])
        for page in load_dashboards()
        for panel in page["panels"]
        if panel["type"] != "row"
    }
    drawn = {
        (page["title"], panel["title"])
        for page in collected["dashboards"]
        for row in page["rows"]
        for panel in row["panels"]
    }
    assert drawn == wanted
    assert [panel["title"] for panel in every_panel(collected) if "problem" in panel] == []


def test_row_repeats_for_each_autoscaler_with_its_own_queries():
    prometheus = FakePrometheus()
    (page,) = [page for page in panels.collect(prometheus, SERVICE, 1)["dashboards"] if page["title"] == "Autoscalers"]
    assert [(row["title"], row["again"]) for row in page["rows"][1:3]] == [("demo-app-0", False), ("demo-app-1", True)]
    asked = [parse_qs(urlsplit(path).query)["query"][0] for path in prometheus.paths]
    assert any('horizontalpodautoscaler=~"demo-app-1"' in query for query in asked)
    assert any('horizontalpodautoscaler=~"(demo-app-0|demo-app-1)"' in query for query in asked)


def test_no_query_is_asked_twice():
    prometheus = FakePrometheus()
    asked = panels.collect(prometheus, SERVICE, 1)["queries"]
    ranges = [urlsplit(path).query for path in prometheus.paths if "query_range" in path]
    assert len(ranges) == len(set(ranges)) < asked


def test_many_nodes_are_cut_and_it_is_said():
    data = panels.collect(FakePrometheus(series=12), SERVICE, 1)
    (page,) = [page for page in data["dashboards"] if page["title"] == "Node"]
    assert len(page["rows"]) == 1 + panels.REPEATS
    assert page["left_out"] == {"node": 4}
    assert "Grafana shows 4 more values of node" in report.render(full_report() | {"panels": data})


def test_refused_query_is_said_at_its_panel_and_harms_no_other():
    data = panels.collect(FakePrometheus(refused="node_load1"), SERVICE, 1)
    broken = {panel["title"] for panel in every_panel(data) if "problem" in panel}
    assert broken == {"Load", "Load by node"}
    assert "a &lt;bad&gt; query" in report.render(full_report() | {"panels": data})


def test_prometheus_that_does_not_answer_is_an_error():
    class Nobody:
        def raw(self, path: str) -> dict:
            raise ApiError("no endpoints available for service", 503)

    with pytest.raises(ApiError, match="no endpoints"):
        panels.collect(Nobody(), SERVICE, 15)


@pytest.mark.parametrize("minutes", [1, 90])
def test_points_are_bounded_and_end_now(minutes):
    data = panels.collect(FakePrometheus(), SERVICE, minutes)
    counts = {len(entry["values"]) for panel in every_panel(data) for entry in panel.get("series", [])}
    assert counts == {round((data["end"] - data["start"]) / data["step"]) + 1}
    assert max(counts) <= panels.POINTS + 1
    assert not [entry for panel in every_panel(data) for entry in panel.get("series", []) if None in entry["values"]]


def panel_with(found, kind="timeseries", **look) -> dict:
    panel = Panel("A", kind, (Target("up", "{{pod}} read"),), **look)
    return panels.panel_data(panel, {("up", kind == "table"): found}, 0, 40, 10)


def test_series_has_its_name_and_a_gap_where_it_has_no_value():
    data = panel_with([{"metric": {"pod": "a"}, "values": [[0, "1"], [10, "NaN"], [20, "2.00001"], [40, "+Inf"]]}])
    assert data["series"] == [{"name": "a read", "values": [1, None, 2, None, None]}]


def test_highest_lines_are_kept_in_their_order():
    found = [{"metric": {"pod": str(n)}, "values": [[0, str(n)]]} for n in range(panels.MOST_SERIES + 2)]
    data = panel_with(found)
    assert [entry["name"] for entry in data["series"]] == [f"{n} read" for n in range(2, panels.MOST_SERIES + 2)]
    assert data["more"] == 2


def test_panel_without_data_says_why():
    assert panel_with([], nothing="No alert fires.")["problem"] == "No alert fires."
    assert panel_with([])["problem"] == "No data."


def test_table_merges_rows_by_shared_labels():
    columns = (("pod", "Pod"), ("node", "Node"), ("Value #A", "Ready"), ("Value #B", "Clicks"))
    answers = [
        [{"metric": {"pod": name, "node": "n"}, "value": [0, "1"]} for name in ("b", "a")],
        [{"metric": {"__name__": "clicks", "pod": "a"}, "value": [0, "2.5"]}],
    ]
    merged = panels.table(columns, answers)
    assert merged["columns"] == ["Pod", "Node", "Ready", "Clicks"]
    assert merged["rows"] == [["a", "n", 1, 2.5], ["b", "n", 1, None]]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.123, "percentunit", "12.3 %"),
        (0, "percentunit", "0 %"),
        (1536, "bytes", "1.5 KiB"),
        (3 * 2**30, "bytes", "3 GiB"),
        (2048, "Bps", "2 KiB/s"),
        (0.0042, "s", "4.2 ms"),
        (90, "s", "90 s"),
        (180, "s", "3 min"),
        (200000, "s", "2.31 d"),
        (4.999, "reqps", "5 /s"),
        (12345, "short", "12.3 k"),
        (7, "short", "7"),
        (0, "s", "0 s"),
        (None, "s", "-"),
    ],
)
def test_value_in_words(value, unit, said):
    assert panel_views.words(value, unit) == said


def test_line_leaves_out_what_a_straight_line_passes_and_breaks_at_a_gap():
    assert panel_views.line_path([1, 1, 1, 1, 1], 2, stairs=False) == "M0 60L600 60"
    assert panel_views.line_path([1, None, 2, 2, None], 2, stairs=False) == "M0 60h.1M300 0L450 0"


def test_stairs_keep_a_value_until_the_next():
    assert panel_views.line_path([1, 2, 2], 2, stairs=True) == "M0 60L300 60L300 0L600 0"


def test_stacked_areas_stand_on_each_other():
    panel = {"unit": "short", "stacked": True, "series": [{"name": n, "values": [1, 1]} for n in "ab"]}
    look = panel_views.graph(panel)
    areas = re.findall(r'class="a k\d" d="([^"]+)"', look["drawing"])
    assert areas == ["M0 60L600 60L600 120L0 120Z", "M0 0L600 0L600 60L0 60Z"]
    assert [mark["text"] for mark in look["marks"]] == ["0", "1", "2"]


def test_stack_has_a_gap_where_no_series_has_a_value():
    series = [{"name": "a", "values": [1, None, 1, 1]}, {"name": "b", "values": [None, None, None, 1]}]
    assert panel_views.stacked(series) == [[0, None, 0, 0], [1, None, 1, 1], [1, None, 1, 2]]
    assert panel_views.graph({"unit": "short", "stacked": True, "series": series})["drawing"].count("Z") == 4


@pytest.mark.parametrize("look", [{}, {"stairs": True}, {"stacked": True}])
def test_panel_of_zeros_has_an_axis(look):
    panel = {"unit": "short", **look, "series": [{"name": "a", "values": [0, 0]}]}
    assert [mark["text"] for mark in panel_views.graph(panel)["marks"]][-1] == "1"


def test_conditions_are_strips_with_the_last_state_in_words():
    panel = {"series": [{"name": "Ready", "values": [0, 1, None, 1]}]}
    (strip,) = panel_views.strips(panel)["strips"]
    assert re.findall(r'class="(.)" x="(\d+)" width="(\d+)"', strip["drawing"]) == [
        ("f", "0", "150"),
        ("t", "150", "150"),
        ("u", "300", "150"),
        ("t", "450", "150"),
    ]
    assert strip["now"] == "true"


def test_before_a_condition_was_known_nothing_is_drawn():
    (strip,) = panel_views.strips({"series": [{"name": "Ready", "values": [None, None, 1, 0]}]})["strips"]
    assert re.findall(r'class="(.)" x="(\d+)"', strip["drawing"]) == [("t", "300"), ("f", "450")]


@pytest.mark.parametrize(("last", "state"), [(0, "ok"), (1, "no")])
def test_number_is_bad_from_its_threshold_on(last, state):
    panel = {"unit": "short", "bad_from": 1, "series": [{"name": "", "values": [0, last]}]}
    assert panel_views.figure(panel)["state"] == state


def test_page_with_panels_is_well_formed_and_light(collected):
    text = report.render(full_report() | {"panels": collected})
    page = parsed(text)
    assert [target for target in page.fetched if not target.startswith("data:")] == []
    assert "<script" not in text and not re.search(r"\b(nan|inf|None)\b", text)
    assert len(page.ids) == len(set(page.ids))
    assert len(text) < 1_000_000


def test_page_of_a_large_cluster_is_not_heavier_than_its_budget():
    data = panels.collect(FakePrometheus(series=12), SERVICE, 90)
    text = report.render(full_report() | {"panels": data})
    parsed(text)
    assert panel_views.LEFT_OUT in text
    assert len(text) < 1_500_000


def test_dashboard_without_data_is_named_only(collected):
    data = copy.deepcopy(collected)
    for page in data["dashboards"]:
        for row in page["rows"] if page["title"] == "Demo app" else []:
            row["panels"] = [{"title": "A", "kind": "stat", "problem": "No data."}]
    look = panel_views.view(data)
    assert look["absent"] == ["Demo app"]
    assert "Demo app" not in [page["title"] for page in look["dashboards"]]
