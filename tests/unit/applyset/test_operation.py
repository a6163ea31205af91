# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The assumptions that a set passes to the next set of a run in check mode."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import Assumed, Options
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import PART_OF_LABEL

LIVE = {"metadata": {"name": "b"}}


def test_changes_of_a_set_are_added_to_those_of_the_sets_before() -> None:
    before = Assumed({"a": None, "b": None}, {"other": ["b"]})
    applied = ApplySet(None, "x", Options(check=True, assumed=before))  # type: ignore[arg-type]
    applied.outcome.namespaces["b"] = LIVE
    assert applied.assumed() == Assumed({"a": None, "b": LIVE}, {"other": ["b"]})
    applied.outcome.used = ["b"]
    assert applied.assumed().used == {"other": ["b"], applied.id: ["b"]}


def test_an_object_goes_with_a_namespace_that_its_set_gives_up() -> None:
    assumed = Assumed(used={"other": ["b"]})
    member: dict[str, Any] = {"metadata": {"labels": {PART_OF_LABEL: "other"}}}
    assert assumed.would_go(member, "a")
    assert not assumed.would_go(member, "b")
    assert not assumed.would_go({"metadata": {}}, "a")
