# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Parse large YAML files once and cache them as JSON, which takes a tenth of the time to read.

Parsing the CRDs of the Prometheus operator takes half a second for each cluster in each run, though they change with a
version only. The digest of the text is the name of its copy, so a copy is never stale. If the cache cannot be written,
each run parses the text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from ..common.files import replace_file
from ..common.paths import cache_directory
from .client import Value

#: Size in bytes from which a text is cached.
LARGE = 50_000
#: Part of each copy's name. Raise it if the result of parsing changes.
FORMAT = 1


def parsed(text: str, parse: Callable[[str], Value]) -> Value:
    """Return the result of ``parse`` for a text, from the cache if possible. Raise what ``parse`` raises."""
    content = text.encode()
    if len(content) < LARGE:
        return parse(text)
    copy = cache_directory() / "parsed" / f"{hashlib.sha256(content).hexdigest()}-{FORMAT}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(copy.read_bytes())
    value = parse(text)
    with contextlib.suppress(OSError, ValueError, TypeError):
        _keep(copy, value)
    return value


def _keep(copy: Path, value: Value) -> None:
    written = json.dumps(value)
    if json.loads(written) != value:
        return  # JSON cannot express all of YAML, such as a number as a key
    copy.parent.mkdir(parents=True, exist_ok=True)
    replace_file(copy, written)
