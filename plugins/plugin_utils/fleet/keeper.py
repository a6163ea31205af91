# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Run one command until standard input ends: a program that needs the standard library only.

The starting process holds the other end of standard input and closes it to end the command. The system closes it when
that process is killed, so the command never outlives its starter.

keeper.py GRACE COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

END_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def descendants(root: int) -> list[int]:
    """Return the ids of a process and of all processes below it, in any process group and session."""
    pairs = [(int(pid), int(parent)) for pid, parent in processes()]
    found = [root]
    for known in found:  # the loop appends to the list
        found += [pid for pid, parent in pairs if parent == known]
    return found


def processes() -> Iterator[Sequence[str]]:
    """Yield the id of every process and the id of its parent."""
    if not Path("/proc/self/stat").exists():
        for line in subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True).splitlines():
            yield line.split()
    for file in Path("/proc").glob("[0-9]*/stat"):  # execution environments may lack ps
        with contextlib.suppress(OSError):
            # The text before the last parenthesis is the command, which may contain anything.
            yield file.parent.name, file.read_text().rpartition(")")[2].split()[1]


def end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Interrupt a command like Ctrl-C. After ``grace`` seconds, kill it and all processes below it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        # The command comes last: this program ends with the command.
        for pid in reversed(descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status in the form of a shell."""
    grace, command = float(arguments[0]), arguments[1:]
    asked, ask = os.pipe()
    for number in END_SIGNALS:
        # The handler only writes to the pipe, so a signal during the start of the command is not lost.
        signal.signal(number, lambda _number, _frame: os.write(ask, b"."))
    # Run the command in its own process group, so that Ctrl-C reaches only the parent.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def watch() -> None:
        # A thread that waits in sys.stdin would still hold its lock when Python ends, so use the descriptor.
        wanted = sys.stdin.fileno()
        while asked not in (ready := select.select([wanted, asked], [], [])[0]):
            if ready and not os.read(wanted, 1):
                break
        end(process, grace)

    threading.Thread(target=watch, daemon=True).start()
    status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
