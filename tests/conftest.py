"""What tests run is no part of the history of this checkout's fleet."""

from __future__ import annotations

import os
import tempfile

_FLEET = tempfile.TemporaryDirectory(prefix="kubescale-fleet-")
os.environ["KUBESCALE_FLEET_DIR"] = _FLEET.name
