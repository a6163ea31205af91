"""Lists of names, and suggestions for misspelled names."""

from __future__ import annotations

from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.text import first_names, nearest, suggestion


def test_the_most_similar_names_come_first() -> None:
    assert nearest("spirng", ["node", "spring", "springs", "sprint"], most=2) == ["spring", "springs"]
    assert nearest("spirng", {"node": 1}) == []
    assert nearest("spirng", ["spring"], likeness=0.9) == []


def test_a_suggestion_ends_a_message() -> None:
    assert suggestion(7, ["6", "77"]) == "; did you mean 77?"
    assert suggestion("queue", ["node"]) == ""


def test_first_names_keep_their_order_and_count_the_others() -> None:
    assert first_names(["b", "a", "b"], 4) == "b, a"
    assert first_names((f"c{n}" for n in range(7)), 4) == "c0, c1, c2 and 4 more"
