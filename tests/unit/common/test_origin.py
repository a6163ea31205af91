"""Values as Ansible passes them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.origin import once_per_content


def test_equal_arguments_are_computed_once() -> None:
    calls: list[Any] = []

    @once_per_content
    def count(*arguments: Any, **options: Any) -> int:
        calls.append((arguments, options))
        return len(calls)

    assert [count([1], flavor="a"), count([1], flavor="a"), count([1], flavor="b"), count(["1"]), count([True])] == [
        1, 1, 2, 3, 4,
    ]  # fmt: skip
    assert calls[0] == (([1],), {"flavor": "a"})


def test_errors_are_raised_each_time() -> None:
    @once_per_content
    def fail(text: str) -> None:
        raise ValueError(text)

    for _attempt in range(2):
        with pytest.raises(ValueError, match="wrong"):
            fail("wrong")
