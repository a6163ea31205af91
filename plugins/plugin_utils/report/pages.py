# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Templates of all pages for people, and their form of times."""

from __future__ import annotations

import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Return the Jinja environment of the pages. It escapes values and rejects undefined names."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["moment"] = moment
    return pages


def moment(stamp: float) -> str:
    """Return a time (seconds since 1970) as date and time in UTC."""
    return f"{datetime.datetime.fromtimestamp(stamp, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
