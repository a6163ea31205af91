# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Which run of ansible-playbook something belongs to, and who started it."""

from __future__ import annotations

import functools
import getpass
import hashlib
import multiprocessing
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Extra variable by which one run names those that it starts as its own.
RUN_VARIABLE = "fleet_run"
_RUN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
#: Where the system lists processes, and the file whose text is another one after each boot.
_PROCESSES = Path("/proc")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def run_id(variables: Mapping[str, Any] | None = None) -> str:
    """Id of this run: what `fleet_run` says, else one that all tasks of one ansible-playbook process share.

    At most 63 letters, digits, '.', '_' and '-', so that it can be a label or part of a file's name. Raises ValueError
    if `fleet_run` is no such name.
    """
    given = (variables or {}).get(RUN_VARIABLE)
    if given is None or given == "":
        parent = multiprocessing.parent_process()
        return _derived(os.getpid() if parent is None or parent.pid is None else parent.pid)
    if not _RUN.fullmatch(str(given)):
        raise ValueError(
            f"{RUN_VARIABLE} is {str(given)!r}; it must be at most 63 letters, digits, '.', '_' and '-', and begin and "
            "end with a letter or digit"
        )
    return str(given)


def who() -> str:
    """Return who runs this, as user@host; the user's number where it has no name, as in a container."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@functools.cache
def _derived(pid: int) -> str:
    facts = [socket.gethostname(), BOOT.read_text() if BOOT.exists() else "", str(pid), _started(pid)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def start_time(pid: int) -> str:
    """Return when a process was started, in clock ticks since boot. Raise OSError if /proc does not have it."""
    # The text before the last parenthesis is the command, which may contain anything, even bytes that are no text.
    text = (_PROCESSES / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()[19]


def _started(pid: int) -> str:
    """Return when a process was started, as this system writes it. Process numbers are used again in time."""
    try:
        return start_time(pid)
    except OSError:
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C"}).stdout.strip()
