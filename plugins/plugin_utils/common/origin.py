# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The file and line in which a value of the inventory was set."""

from __future__ import annotations

import os
import re
from typing import Any

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # ansible-core 2.18: strings of YAML files know their own place, and every text may be a template
    Origin = None
TEMPLATES_ALLOWED = {"trusted_as_template": True} if Origin else {}


def where_set(value: object) -> str:
    """Say where a value was set: file and line, relative to the current directory; empty if that is not known."""
    if Origin is None:
        file, line, _column = getattr(value, "ansible_pos", ("", 0, 0))
        return f"{os.path.relpath(file)}:{line}" if file else ""
    origin = Origin.get_tag(value)
    if origin is None:
        return ""
    if origin.path:
        line = f":{origin.line_num}" if origin.line_num else ""
        return os.path.relpath(origin.path) + line
    return str(origin.description)


def where_in(value: Any, path: str) -> str:  # noqa: ANN401
    """Say where the part of a value at a path such as ``[0].replicas.min`` was set, as near to it as is known."""
    places = [where_set(value)]
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            break
        places.append(where_set(value))
    return next((place for place in reversed(places) if place), "")
