# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The YAML reader and writer of the collection."""

from __future__ import annotations

from typing import Any

import yaml

#: libyaml reads and writes large manifests ten times faster; without libyaml the pure Python classes do.
YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
YAML_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
