# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The troubles of a node's services, from their logs. Runs on machines: Python 3.9, standard library."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

UNITS = ("containerd.service", "kubelet.service")
#: Last lines of a service that does not run, errors of one that does, last lines of a container that ended.
JOURNAL_LINES = 12
ERROR_LINES = 6
CONTAINER_LINES = 5
#: Lines of the journal that are searched for errors.
JOURNAL_DEPTH = 300
LENGTH = 400
#: Kubernetes' programs write severity, date, time, process and place before the message: E1121 10:00:00.0 1 x.go:1] …
_ERROR = re.compile(r"[EF]\d{4} [\d:.]+ +\d+ (?P<message>\S+\] .*)")
_INFORMATION = re.compile(r"I\d{4} ")
#: The runtime writes time, stream and completeness before each line of a container.
_SAID = re.compile(r"\S+ (?:stdout|stderr) [FP] (?P<message>.*)")

#: Runs a command and returns its standard output, whatever its exit status.
Run = Callable[[list[str]], str]


def service_troubles(run: Run) -> list[str]:
    """Return the states and last log lines of containerd and kubelet, or the last errors of one that runs."""
    lines: list[str] = []
    for unit in UNITS:
        shown = run(["systemctl", "show", unit, "--property=ActiveState,SubState,Result,ExecMainStatus,NRestarts"])
        facts = dict(line.partition("=")[::2] for line in shown.splitlines())
        active, restarts = facts.get("ActiveState"), int(facts.get("NRestarts") or 0)
        if active == "active" and not restarts:
            errors = journal_errors(journal(run, unit, JOURNAL_DEPTH))
            lines += [f"{unit} runs; its last errors:", *errors] if errors else []
            continue
        state = f"{active} ({facts.get('SubState')})"
        lines.append(f"{unit} is {state}, restarts: {restarts}, last exit status {facts.get('ExecMainStatus')}:")
        last = journal(run, unit, JOURNAL_LINES)
        # The cause of an exit is rarely logged at info level, so drop info lines.
        lines += [line for line in last if not _INFORMATION.match(line)] or last
    return lines


def journal(run: Run, unit: str, count: int) -> list[str]:
    """Return the last lines that a unit wrote since the machine started."""
    command = ["journalctl", "--boot", "--unit", unit, f"--lines={count}", "--output=cat", "--no-pager", "--quiet"]
    return [_cut(line) for line in run(command).splitlines()]


def journal_errors(lines: list[str]) -> list[str]:
    """Return the last different errors among lines of a Kubernetes program, oldest first."""
    messages = [found.group("message") for line in lines if (found := _ERROR.match(line))]
    # Keep only the last of repeated messages.
    different = list(dict.fromkeys(reversed(messages)))[:ERROR_LINES]
    return [_cut(line) for line in reversed(different)]


def ended_containers(since: float, logs: Path = Path("/var/log/pods")) -> list[str]:
    """Return the last lines of the control plane's containers that restarted after ``since``.

    ``since`` is in seconds since 1970. The kubelet counts the starts of a container in the names of its logs.
    """
    lines: list[str] = []
    for container in sorted(logs.glob("kube-system_*/*")):
        names = sorted((file for file in container.glob("*.log") if file.stem.isdigit()), key=lambda x: int(x.stem))
        again = [file for file in names if int(file.stem) > 0 and file.stat().st_mtime >= since]
        if not again:
            continue
        # The newest container may have logged nothing yet.
        text = next((text for file in reversed(names) if (text := file.read_text(errors="replace").strip())), "")
        said = [found.group("message") for line in text.splitlines() if (found := _SAID.match(line))]
        lines.append(f"container {container.name} ended and was started {again[-1].stem} times more; last log lines:")
        lines += [_cut(line) for line in said[-CONTAINER_LINES:]]
    return lines


def _cut(line: str) -> str:
    return line if len(line) <= LENGTH else f"{line[: LENGTH - 1]}…"
