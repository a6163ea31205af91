# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The differences between an object as its entry makes it and the live object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kube.quantity import quantity


def differences(wanted: Any, live: Any, path: str) -> list[str]:  # noqa: ANN401 - whatever YAML holds
    """Return the parts of ``wanted`` that differ in ``live``, without additions in ``live``; 0.01 equals 10m."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return [text for name in wanted for text in differences(wanted[name], live.get(name), f"{path}.{name}")]
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return [
            text
            for number, (one, other) in enumerate(zip(wanted, live, strict=True))
            for text in differences(one, other, f"{path}[{number}]")
        ]
    if wanted == live or (wanted in ({}, [], None) and not live) or same_quantity(wanted, live):
        return []
    return [f"{path} is {shown(live)}, not {shown(wanted)}"]


def same_quantity(one: object, other: object) -> bool:
    """Return whether two values are the same quantity, such as 0.01 and 10m."""
    try:
        return quantity(str(one)) == quantity(str(other))
    except ValueError:
        return False


def shown(value: object) -> str:
    """Return a value in at most 60 characters."""
    text = "missing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
