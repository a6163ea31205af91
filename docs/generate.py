#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write all files that are made from others: README files, pages of docs/, dashboards as Grafana reads them.

With --check write nothing, and exit with status 1 if a file is out of date.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
GENERATORS = (
    ["docs/components.py"],
    ["docs/artifact_sources.py"],
    ["docs/role_readmes.py"],
    ["docs/tags_and_faults.py"],
    ["docs/doctor_table.py"],
    ["docs/alerts.py"],
    ["docs/diagrams.py"],
    ["-m", "files.dashboards.generate"],
    # Reads the files that the generator before it writes.
    ["docs/dashboards.py"],
)


def main(arguments: list[str]) -> int:
    """Run all generators with the same arguments; return 1 if one of them failed."""
    statuses = [
        subprocess.run([sys.executable, *generator, *arguments], cwd=REPOSITORY, check=False).returncode
        for generator in GENERATORS
    ]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
