# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Gives pip to an empty virtual environment, from the copy that Python carries and from the package index.

ansible-test downloads a script for that from a host of its own; this one stands in where only package indexes are
reachable. It gets that script's arguments: packages, and options of pip.
"""

from __future__ import annotations

import subprocess
import sys

# These two are of the other script only: pip alone installs neither package.
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=True)
