# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Large YAML files are parsed once and kept as JSON: reading that takes a tenth of the time.

The kinds of the Prometheus operator are half a second of parsing for each cluster in each run, for a content that
changes with a version only. A copy is named after the digest of the text, so it never goes stale; without a place for
it, the text is parsed as ever.
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

#: Bytes from which a copy is worth its file.
LARGE = 50_000
#: Part of each copy's name: raise it when a text is parsed into something else than before.
FORMAT = 1


def parsed(text: str, parse: Callable[[str], Value]) -> Value:
    """What ``parse`` makes of a text, from the copy if there is one. Raises what ``parse`` raises."""
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
        return  # not all that YAML can say: a number as a key, for one
    copy.parent.mkdir(parents=True, exist_ok=True)
    replace_file(copy, written)
