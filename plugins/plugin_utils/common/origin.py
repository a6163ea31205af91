# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Values as Ansible passes them: the file and line in which they were set, and their plain content."""

from __future__ import annotations

import datetime
import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # ansible-core 2.18: strings of YAML files know their own place, and every text may be a template
    Origin = None
Result = TypeVar("Result")
TEMPLATES_ALLOWED = {"trusted_as_template": True} if Origin else {}


@functools.cache
def _relative(path: str, _directory: Path) -> str:
    return os.path.relpath(path)


def _place(origin: Any) -> str:  # noqa: ANN401
    if not origin.path:
        return str(origin.description)
    line = f":{origin.line_num}" if origin.line_num else ""
    return _relative(origin.path, Path.cwd()) + line


def where_set(value: object) -> str:
    """Return file and line in which a value was set, relative to the current directory, or "" if they are not known."""
    if Origin is None:
        file, line, _column = getattr(value, "ansible_pos", ("", 0, 0))
        return f"{_relative(file, Path.cwd())}:{line}" if file else ""
    origin = Origin.get_tag(value)
    return "" if origin is None else _place(origin)


def where_failed(error: Exception) -> str:
    """Return file and line that Ansible names in an error, or "" if it names none."""
    obj = getattr(error, "obj", None)
    return _place(obj) if Origin is not None and isinstance(obj, Origin) else where_set(obj)


def where_in(value: Any, path: str) -> str:  # noqa: ANN401
    """Return file and line of the part at a path such as ``[0].replicas.min``, or of the nearest known part."""
    places = [where_set(value)]
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            break
        places.append(where_set(value))
    return next((place for place in reversed(places) if place), "")


def untagged(value: Any) -> Any:  # noqa: ANN401
    """Return plain dictionaries, lists and strings instead of Ansible's own classes, which are slow to serialize."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {untagged(key): untagged(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [untagged(item) for item in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


def once_per_content(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that computes each result once per process, by the content of its arguments.

    Ansible evaluates a variable wherever it is used, and a task may use it several times. Callers must not change a
    result. The function gets plain values.
    """
    results: dict[str, Result] = {}

    @functools.wraps(function)
    def computed(*arguments: object, **options: object) -> Result:
        plain, named = untagged(arguments), untagged(options)
        key = repr((plain, named))
        if key not in results:
            results[key] = function(*plain, **named)
        return results[key]

    return computed
