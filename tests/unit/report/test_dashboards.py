"""The dashboards' JSON is what their code makes, and their queries can be taken out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report.dashboards import (
    PanelQuery,
    alternatives,
    load_dashboards,
    panel_queries,
    panel_rows,
    variable_choices,
)

REPOSITORY = Path(__file__).parents[3]
FILES = sorted((REPOSITORY / "roles" / "grafana" / "files" / "dashboards").glob("*.json"))


def dashboard(*exprs, variables=()):
    panel = {"title": "A panel", "targets": [{"expr": expr} for expr in exprs]}
    return {"title": "A dashboard", "panels": [panel], "templating": {"list": list(variables)}}


def exprs(*args, **kwargs):
    return [query.expr for query in panel_queries(dashboard(*args, **kwargs))]


def test_query_says_where_it_stands():
    assert panel_queries(dashboard("up")) == [PanelQuery("A dashboard", "A panel", "up")]


@pytest.mark.parametrize("form", ["$window", "${window}", "${window:raw}", "[[window]]"])
def test_variable_has_its_saved_value(form):
    window = {"name": "window", "current": {"value": "2m"}}
    assert exprs(f"rate(x[{form}])", variables=[window]) == ["rate(x[2m])"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ({"current": {"value": ["a"]}}, "a"),
        ({"current": {"value": ["a", "b"]}}, "(a|b)"),
        ({"current": {"value": ["$__all"]}}, ".+"),
        ({"current": {"value": "$__all"}, "allValue": ".*"}, ".*"),
    ],
)
def test_several_values_are_a_regular_expression(variable, value):
    assert exprs('x{l=~"$v"}', variables=[{"name": "v", **variable}]) == [f'x{{l=~"{value}"}}']


def test_grafanas_own_variables():
    assert exprs("rate(x[$__rate_interval])", "x[$__range]") == ["rate(x[1m])", "x[15m]"]


def test_unknown_variable_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"panel 'A panel' of dashboard 'A dashboard' uses the variable 'nope'"):
        exprs("x{l=$nope}")


def test_panels_in_collapsed_rows_count():
    row = {"title": "Row", "type": "row", "panels": dashboard("up")["panels"]}
    assert panel_queries({"title": "D", "panels": [row]}) == [PanelQuery("D", "A panel", "up")]


def test_panel_without_prometheus_is_left_out():
    assert panel_queries({"title": "D", "panels": [{"title": "Words", "type": "text"}]}) == []


def test_panel_that_may_be_empty_says_why():
    page = dashboard("up")
    page["panels"][0]["fieldConfig"] = {"defaults": {"noValue": "Nobody is up."}}
    assert panel_queries(page)[0].nothing == "Nobody is up."


def chosen(name, query):
    return {"name": name, "type": "query", "query": query, "current": {"value": "$__all"}}


def test_variables_are_asked_for_one_after_the_other():
    asked = []

    def ask(expr):
        asked.append(expr)
        return [
            {"metric": {"namespace": "b"}},
            {"metric": {"namespace": "a.1"}},
            {"metric": {"pod": "p"}},
            {"metric": {}},
        ]

    variables = [chosen("ns", "label_values(info, namespace)"), chosen("pod", 'label_values(info{ns=~"$ns"}, pod)')]
    page = dashboard('x{pod=~"$pod"}', variables=variables)
    assert variable_choices(page, ask) == {"ns": ["a.1", "b"], "pod": ["p"]}
    assert asked == [
        "group by (namespace) (last_over_time(info[15m]))",
        'group by (pod) (last_over_time(info{ns=~"(a\\\\.1|b)"}[15m]))',
    ]
    assert [query.expr for query in panel_queries(page, {"pod": alternatives(["p"])})] == ['x{pod=~"p"}']


def test_variable_that_is_asked_for_in_another_way_is_an_error():
    with pytest.raises(
        ValueError, match=r"variable 'ns' of dashboard 'A dashboard': 'metrics\(x\)' is not label_values"
    ):
        variable_choices(dashboard("up", variables=[chosen("ns", "metrics(x)")]), lambda _unused: [])


def test_row_stands_there_once_for_each_value():
    page = dashboard('x{node=~"$node"}', variables=[chosen("node", "label_values(info, node)")])
    page["panels"][0]["type"] = "timeseries"
    page["panels"].insert(0, {"title": "Node $node", "type": "row", "repeat": "node"})
    rows = panel_rows(page, {"node": ["n.1", "n.2", "n.3"]}, 2)
    assert [(row.title, row.again, row.panels[0].targets[0].expr) for row in rows] == [
        ("Node n.1", False, 'x{node=~"n\\\\.1"}'),
        ("Node n.2", True, 'x{node=~"n\\\\.2"}'),
    ]


def test_every_provisioned_dashboard_is_in_the_report():
    assert {page["uid"] for page in load_dashboards()} == {json.loads(file.read_text())["uid"] for file in FILES}


def test_json_is_what_the_code_makes():
    command = [sys.executable, "-m", "files.dashboards.generate", "--check"]
    made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


def test_page_about_the_dashboards_is_what_they_are():
    command = [sys.executable, "docs/dashboards.py", "--check"]
    made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"{made.stdout}{made.stderr}run: make docs"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_provisioned_dashboard_is_sound(file):
    page = json.loads(file.read_text())
    queries = panel_queries(page)
    assert queries
    assert not [query for query in queries if "$" in query.expr]
    assert page["uid"]
    ids = [panel["id"] for panel in page["panels"]]
    assert sorted(set(ids)) == ids
    titles = [panel["title"] for panel in page["panels"] if panel["type"] != "row"]
    assert len(set(titles)) == len(titles), "a panel is found by its title when its query fails"


def test_every_dashboard_has_its_own_uid():
    assert len({json.loads(file.read_text())["uid"] for file in FILES}) == len(FILES) > 0
