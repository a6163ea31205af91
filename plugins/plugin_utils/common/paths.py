# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Folders of the collection and of its cache on the controller."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: Root folder of the installed collection.
COLLECTION = Path(__file__).resolve().parents[3]


def cache_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the cache: ``KUBESCALE_CACHE``, or ``kubescale`` in the user's cache directory."""
    environment = os.environ if environment is None else environment
    if environment.get("KUBESCALE_CACHE"):
        return Path(environment["KUBESCALE_CACHE"]).expanduser().resolve()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubescale"
