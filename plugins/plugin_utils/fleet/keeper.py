# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Runs one command for as long as somebody wants it: a program of its own, for which no other package is needed.

Whoever starts it holds the other end of its standard input, and lets go of it to have the command ended. A process that
is killed lets go, too, so the command never outlives the one who wanted it.

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
    """Process ids of a process and all below it, whatever groups and sessions they made."""
    pairs = [(int(pid), int(parent)) for pid, parent in processes()]
    found = [root]
    for known in found:  # grows meanwhile
        found += [pid for pid, parent in pairs if parent == known]
    return found


def processes() -> Iterator[Sequence[str]]:
    """Process id of every process, and its parent's."""
    if not Path("/proc/self/stat").exists():
        for line in subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True).splitlines():
            yield line.split()
    for file in Path("/proc").glob("[0-9]*/stat"):  # images of execution environments may lack ps
        with contextlib.suppress(OSError):
            # What comes before the last parenthesis is the command, in which there may be anything.
            yield file.parent.name, file.read_text().rpartition(")")[2].split()[1]


def end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Interrupt a command as Ctrl-C does, and kill it with all below it if it has not ended after ``grace`` seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        # The command last: when it has ended, so does this program.
        for pid in reversed(descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status, as a shell writes it."""
    grace, command = float(arguments[0]), arguments[1:]
    asked, ask = os.pipe()
    for number in END_SIGNALS:
        # No more than a word to who watches: one that comes while the command is started is not lost.
        signal.signal(number, lambda _number, _frame: os.write(ask, b"."))
    # A group of its own: Ctrl-C in a terminal is a word to whoever started us, not to the command.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def watch() -> None:
        # Not by sys.stdin, whose lock a thread that waits would still hold when Python ends.
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
