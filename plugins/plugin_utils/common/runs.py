# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The identity of a run of ansible-playbook: its id, its user, and its process."""

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

#: Extra variable that gives a child run the id of its parent.
RUN_VARIABLE = "fleet_run"
_RUN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
#: The folder of processes, and the file whose text changes with each boot.
_PROCESSES = Path("/proc")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def run_id(variables: Mapping[str, Any] | None = None) -> str:
    """Return the id of this run: `fleet_run`, or one that all tasks of one ansible-playbook process share.

    The id has at most 63 letters, digits, '.', '_' and '-', so it can be a label or part of a file name. Raise
    ValueError if `fleet_run` is no such name.
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
    """Return user@host. A user without a name, as in a container, is given by number."""
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
    """Return the start time of a process in the system's own form. It tells apart processes with one number."""
    try:
        return start_time(pid)
    except OSError:
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C"}).stdout.strip()
