"""Queries and targets of scale_on."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.scale_on import FUNCTIONS

from tests.unit.apps.entries import entry, errors, scaled_on, warnings


def query(text: str) -> dict[str, Any]:
    return scaled_on(metric="a_total", query=text, **{"as": "b"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s]) by (<<.GroupBy>>)", "is not valid PromQL: "),
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>})) by (<<.GroupBy>>)", "expected type matrix in call to"),
        ("average(<<.Series>>{<<.LabelMatchers>>})", "is not valid PromQL: "),
        ("<<.Series>>{<<.LabelMatchers>>}[60s]", "must return a value for each object"),
        ("scalar(<<.Series>>{<<.LabelMatchers>>})", "must return a value for each object"),
        ("sum(rate(<<.Series>>[60s])) by (<<.GroupBy>>)", "must contain <<.LabelMatchers>>"),
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s]))", "drops the label pod"),
        ("(sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s])) by (container))", "drops the label pod"),
        ("sum(<<.Serie>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)", "contains <<.Serie>>; allowed are <<.Series>>"),
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[15s])) by (<<.GroupBy>>)", "reads a range of 15 s, but must"),
    ],
)  # fmt: skip
def test_queries_are_parsed(text: str, said: str) -> None:
    found = errors(query(text))
    assert len(found) == 1, found
    assert found[0].startswith("autoscaled_apps[0].scale_on.query = ")
    assert said in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "sum(rate(<<.Series>>{<<.LabelMatchers>>}[20s])) by (<<.GroupBy>>)",
        "max(<<.Series>>{<<- .LabelMatchers ->>}) without (container)",
        'avg_over_time(<<.Series>>{<<.LabelMatchers>>}[5m]) * sum(b{n="<<index .LabelValuesByName "namespace">>",'
        "<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        "topk(1, <<.Series>>{<<.LabelMatchers>>})",
    ],
)
def test_queries_that_are_well(text: str) -> None:
    assert errors(query(text)) == []


def test_every_query_made_here_is_promql() -> None:
    for function in FUNCTIONS:
        for external in (True, False):
            item = {"metric": "a_bucket", "function": function, "external": external}
            assert errors(scaled_on(**item)) == []
            if function != "quantile":
                assert errors(scaled_on(over="b_bucket", **item)) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scale_on__target": "10m"}, ""),  # the demo: 18m of one click ask for 2 replicas
        ({"scale_on__target": "10m", "scale_on__window": 20}, "window of 20 s reads up to 67m, which alone asks for 7"),
        ({"scale_on__target": "1m"}, "asks for 19 replicas (of at most 20); take 10m or more, or a longer window"),
        ({"scale_on__target": "1m", "replicas__max": 5}, "asks for 5 replicas (of at most 5)"),
        ({"scale_on__target": "1m", "replicas__max": 2}, ""),
        ({"scale_on__target": "50m", "scale_on__function": "irate"}, "reads up to 200m, which alone asks for 4"),
        ({"scale_on__target": "1m", "scale_on__metric": "cpu_seconds_total"}, ""),
        ({"scale_on__target": "1m", "scale_on__over": "b_total"}, ""),
        ({"scale_on__target": "1m", "scale_on__metric": "queue"}, ""),
        ({"scale_on__target": "5m", "scrape": None}, "reads up to 17m, which alone asks for 4 replicas"),
    ],
)  # fmt: skip
def test_a_target_that_one_event_exceeds_many_times_over(changes: dict[str, Any], text: str) -> None:
    said = warnings(entry(**changes))
    if not text:
        assert said == []
    else:
        assert len(said) == 1
        assert said[0].startswith("autoscaled_apps[0].scale_on.target = ")
        assert text in said[0]
