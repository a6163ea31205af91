#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes the names of all sources of artifacts into the options that choose one.

docs/artifact_sources.py           write what is out of date
docs/artifact_sources.py --check   write nothing; name what is out of date and fail if there is any
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pages import REPOSITORY, keep

sys.path.insert(0, str(REPOSITORY))

from plugins.plugin_utils.artifacts.sources import SOURCES

FILES = ("plugins/modules/artifacts.py", "roles/artifacts/meta/argument_specs.yml")


def pages() -> dict[Path, str]:
    """Return the text of each file. The default source comes first in the list of choices, which identifies it."""
    choices = f"choices: [{', '.join(SOURCES)}]"
    texts = {REPOSITORY / name: (REPOSITORY / name).read_text(encoding="utf-8") for name in FILES}
    return {file: re.sub(r"choices: \[auto, [^]]*\]", choices, text) for file, text in texts.items()}


if __name__ == "__main__":
    sys.exit(keep(pages(), sys.argv[1:]))
