# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Quantities as the API reads them, and what loads them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.quantity import quantity

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10m", 0.01),
        ("1", 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5),
        ("0", 0),
        ("0.1", 0.1),
        ("3n", 3e-9),
        ("500u", 0.0005),
        ("0.1m", 0.0001),
        ("2k", 2000),
        ("3M", 3e6),
        ("3G", 3e9),
        ("3T", 3e12),
        ("3P", 3e15),
        ("1E", 1e18),
        ("2Ki", 2048),
        ("2Mi", 2 * 2**20),
        ("1.5Gi", 1.5 * 2**30),
        ("1Ti", 2**40),
        ("1Pi", 2**50),
        ("1Ei", 2**60),
        ("-3m", -0.003),
        ("+3m", 0.003),
        ("-2Ki", -2048),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1e-3", 0.001),
        ("1e400", math.inf),
    ],
)
def test_a_quantity_is_a_number(text: str, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "Ki", "ten", "1x", "1mm", "1e", "2ki", "2K", "1mi", "1i", "--1", "1.2.3", "0x10", "60%", "."),
        # Python would read these, and the API does not.
        *(" 1", "1 ", "1 m", "1\n", "1_000", "1_0Ki", "inf", "Infinity", "nan", "NaNm", "٣", "1e3k", "1e3Ki"),
    ],
)
def test_what_the_api_does_not_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)
