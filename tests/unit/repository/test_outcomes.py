"""What is said about faults and tags is complete, and the page says it."""

from __future__ import annotations

from pathlib import Path

import tags_and_faults
from tags_and_faults import outcomes

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_page_says_what_the_tests_prove() -> None:
    assert tags_and_faults.PAGE.read_text(encoding="utf-8") == tags_and_faults.page(), "run: make docs"


def test_every_role_is_a_tag_with_an_outcome_without_a_cluster_with_one_and_with_a_broken_one() -> None:
    # Role kind makes clusters of its own, role bundle a file.
    assert set(outcomes.TAGS) == {role.parent.name for role in REPOSITORY.glob("roles/*/tasks")} - {"kind", "bundle"}
    for state in (outcomes.BARE, outcomes.CONVERGED):
        assert {*state.together, *dict(state.then)} == set(outcomes.TAGS), state.name
    # The other two do not look at clusters.
    broken = outcomes.ADAPTER_GONE
    assert {*broken.together, *dict(broken.then)} == set(outcomes.TAGS) - {"artifacts", "sandbox"}


def test_what_fails_says_why() -> None:
    every = [outcome for state in outcomes.STATES for outcome in [*state.together.values(), *dict(state.then).values()]]
    assert all(bool(outcome.said) != outcome.succeeds for outcome in every)
