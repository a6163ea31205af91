# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Questions to Kubernetes objects: selectors, conditions, paths."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.objects import (
    SelectorError,
    condition,
    explain,
    holds,
    matches,
    parse_time,
    say_condition,
    selector_text,
    service_selector,
    with_query,
)

#: Selector, its text, labels that it chooses, labels that it does not choose.
SELECTORS: list[tuple[dict[str, Any], str, dict[str, str], dict[str, str]]] = [
    ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2", {"a": "1", "b": "2", "c": "3"}, {"a": "1"}),
    ({"matchLabels": {"a": ""}}, "a=", {"a": ""}, {}),
    (
        {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]},
        "a in (1,2)",
        {"a": "2"},
        {"a": "3"},
    ),
    ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, "a notin (1)", {}, {"a": "1"}),
    ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "a", {"a": "x"}, {"b": "x"}),
    ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, "!a", {"b": "x"}, {"a": "x"}),
    (
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]},
        "a=1,b",
        {"a": "1", "b": ""},
        {"a": "1"},
    ),
]


@pytest.mark.parametrize(("selector", "text", "chosen", "other"), SELECTORS, ids=[case[1] for case in SELECTORS])
def test_a_selector_as_text_and_as_choice(
    selector: dict[str, Any], text: str, chosen: dict[str, str], other: dict[str, str]
) -> None:
    assert selector_text(selector) == text
    assert matches(selector, chosen) and not matches(selector, other)


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": {}}, {"matchLabels": None, "matchExpressions": []}])
def test_a_selector_that_names_nothing_has_no_text(selector: dict[str, Any] | None) -> None:
    with pytest.raises(SelectorError, match="chooses no pods in particular"):
        selector_text(selector)


def test_a_missing_selector_chooses_nothing_and_an_empty_one_everything() -> None:
    assert not matches(None, {"a": "1"}) and not matches(None, {})
    assert matches({}, {"a": "1"}) and matches({"matchLabels": {}}, {})


def test_the_selector_of_a_service_is_missing_if_it_is_empty() -> None:
    assert service_selector({"spec": {"selector": {"a": "1"}}}) == {"matchLabels": {"a": "1"}}
    assert service_selector({"spec": {"selector": {}}}) is None
    assert service_selector({"spec": {"type": "ExternalName"}}) is None


def test_a_condition_is_found_judged_and_put_into_words() -> None:
    entry = {"type": "Ready", "status": "False", "reason": "Because", "message": "it is so"}
    item = {"status": {"conditions": [{"type": "Other", "status": "True"}, entry]}}
    assert condition(item, "Ready") == entry
    assert holds(item, "Other") and not holds(item, "Ready") and not holds(item, "Missing")
    assert explain(entry) == "Because: it is so"
    assert say_condition(entry) == "Ready=False (Because: it is so)"
    assert explain({"type": "Other"}) == "no reason given"
    assert say_condition({"type": "Other", "status": "True"}) == "Other=True"


@pytest.mark.parametrize("item", [{}, {"status": None}, {"status": {}}, {"status": {"conditions": None}}])
def test_an_object_without_conditions_has_none(item: dict[str, Any]) -> None:
    assert condition(item, "Ready") == {} and not holds(item, "Ready")


def test_a_query_is_escaped() -> None:
    assert with_query("/pods") == "/pods"
    assert with_query("/pods", {"labelSelector": "a/b in (c,d)", "limit": 1}) == (
        "/pods?labelSelector=a%2Fb+in+%28c%2Cd%29&limit=1"
    )


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-11-21T10:00:00Z", 0),
        ("2026-11-21T10:00:00.123456Z", 123456),
        ("2026-11-21T10:00:00.123456789Z", 123456),
        ("2026-11-21T12:00:00+02:00", 0),
    ],
)
def test_a_time_of_the_api_is_read(text: str, microseconds: int) -> None:
    assert parse_time(text) == datetime.datetime(2026, 11, 21, 10, 0, 0, microseconds, datetime.UTC)
