# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What all pages that are written for people share: where their templates are, and how times are written."""

from __future__ import annotations

import datetime

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..common.paths import COLLECTION

TEMPLATES = COLLECTION / "roles" / "verify" / "templates"


def environment() -> Environment:
    """Templates of pages. Values are escaped, and a name that is not there is an error."""
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
    """A time in seconds since 1970 as people write it."""
    return f"{datetime.datetime.fromtimestamp(stamp, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
