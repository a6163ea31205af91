# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What runs cost, as ratios. Each program is run from the repository, as in `python3 -m tests.benchmarks.fleet`."""

import conftest  # noqa: F401 - makes the collection importable
