# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read Kubernetes quantities, such as ``10m`` or ``2Ki``, as numbers."""

from __future__ import annotations

import re

from kubernetes.utils.quantity import parse_quantity

#: Kubernetes' default tolerance of an autoscaler, as a share of the target.
TOLERANCE = 0.1
# The API's grammar. The library alone would also read spaces, "1_000", "inf", "2K", and a suffix after an exponent.
_QUANTITY = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")


def quantity(text: str) -> float:
    """Return the number that a Kubernetes quantity stands for. Raise ValueError if the text is no quantity."""
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"{text!r} is not a quantity such as 10m or 1.5")
    return float(parse_quantity(text))
