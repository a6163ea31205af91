# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Tells a person which phase runs on which cluster, that it is still alive, and how long each phase took."""

from __future__ import annotations

DOCUMENTATION = """
name: phases
type: aggregate
short_description: Phases of a run, per cluster, with their times
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - A phase is a role of a play. Tasks that a play runs outside its roles form a phase too, named after the play, or
    after the task where the play has roles as well.
  - Says when a phase starts and on which clusters, says what is still running when nothing was shown for a while, and
    ends with the seconds of every phase. Works beside any stdout callback.
  - The cluster of a host is its variable C(cluster_name) from the inventory, the host itself where there is none.
requirements:
  - "C(callbacks_enabled = kubescale.fleet.phases) in ansible.cfg"
options:
  heartbeat:
    description:
      - Seconds without output after which a line says what is still running; the pauses grow to a minute.
      - V(0) switches that off.
    type: int
    default: 8
    env:
      - name: KUBESCALE_PHASES_HEARTBEAT
    ini:
      - section: callback_phases
        key: heartbeat
  file:
    description:
      - File that gets the phases as JSON at the end of the playbook, for reports and benchmarks, in a directory that
        exists.
      - "Keys: C(playbook), C(started), C(ended) and a list C(phases) with C(phase), C(play), C(cluster), C(started),
        C(ended), C(tasks), C(changed), C(failed). Times are seconds since 1970."
    type: path
    env:
      - name: KUBESCALE_PHASES_FILE
    ini:
      - section: callback_phases
        key: file
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = kubescale.fleet.phases
#
# [callback_phases]
# heartbeat = 30
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.playbook import Playbook
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

NAMED_CLUSTERS = 4
SHORTEST_SHOWN = 0.1


# Seconds; somebody who looks at a screen that long without a new line wonders whether it hangs.
LONGEST_SILENCE = 60


@dataclass
class Phase:
    """One phase on one cluster; times in seconds since 1970, counts are of task results per host."""

    phase: str
    play: str
    cluster: str
    started: float
    ended: float
    tasks: int = 0
    changed: int = 0
    failed: int = 0

    @property
    def seconds(self) -> float:
        """How long the phase took on this cluster."""
        return self.ended - self.started


def clock(seconds: float) -> str:
    """Write a duration as minutes and seconds: 83 becomes 01:23."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def name_some(names: Iterable[str]) -> str:
    """List a few names, count many."""
    known = list(dict.fromkeys(names))
    if len(known) <= NAMED_CLUSTERS:
        return ", ".join(known)
    return f"{', '.join(known[: NAMED_CLUSTERS - 1])} and {len(known) - NAMED_CLUSTERS + 1} more"


def summary(phases: Sequence[Phase], total: float) -> list[str]:
    """Lay out the seconds per phase: a column per cluster, or median and slowest when there are many clusters.

    Phases that took less than SHORTEST_SHOWN seconds everywhere become one line, so that a converged run is short.
    """
    clusters = list(dict.fromkeys(phase.cluster for phase in phases))
    rows: dict[str, dict[str, float]] = {}
    for phase in phases:
        row = rows.setdefault(phase.phase, {})
        row[phase.cluster] = row.get(phase.cluster, 0.0) + phase.seconds
    shown = {name: row for name, row in rows.items() if max(row.values()) >= SHORTEST_SHOWN}
    cells: list[list[str]] = []
    if len(clusters) <= NAMED_CLUSTERS:
        cells.append(["seconds per phase", *clusters])
        for name, row in shown.items():
            cells.append([name, *(f"{row[cluster]:.1f}" if cluster in row else "" for cluster in clusters)])
    else:
        cells.append(["seconds per phase", "clusters", "median", "slowest", ""])
        for name, row in shown.items():
            slowest = max(row, key=lambda cluster: row[cluster])
            median = sorted(row.values())[len(row) // 2]
            cells.append([name, str(len(row)), f"{median:.1f}", f"{row[slowest]:.1f}", slowest])
    if len(shown) < len(rows):
        cells.append([f"({len(rows) - len(shown)} phases under {SHORTEST_SHOWN} s)"])
    cells.append([f"whole run: {total:.1f}"])
    width = max(len(line[0]) for line in cells)
    columns = [max(len(line[n]) for line in cells if n < len(line)) for n in range(1, len(cells[0]))]
    return [
        "  ".join([line[0].ljust(width), *(cell.rjust(columns[n]) for n, cell in enumerate(line[1:]))]).rstrip()
        for line in cells
    ]


class CallbackModule(CallbackBase):
    """The callback; Ansible calls its v2_ methods in the main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kubescale.fleet.phases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self._started = self._shown = now()
        self._playbook = ""
        self._play: Any = None
        self._announced: tuple[str, str] | None = None
        self._plays = 0  # counts them, because two may have the same name
        self._phases: dict[tuple[int, str, str], Phase] = {}
        self._clusters: dict[str, str] = {}
        # (host, task uuid) -> (start, task name, host name); read by the heartbeat through an atomic copy.
        self._running: dict[tuple[str, str], tuple[float, str, str]] = {}
        self._stop = threading.Event()

    def _show(self, text: str) -> None:
        # Ansible holds the display's lock while it forks, so no fork inherits it taken by the heartbeat's thread.
        self._display.display(text, color="blue")
        self._shown = self._now()

    def _cluster(self, host: Host) -> str:
        if host.name not in self._clusters:
            sources = [host.vars, *(group.vars for group in host.get_groups())]
            self._clusters[host.name] = str(
                next((v["cluster_name"] for v in sources if "cluster_name" in v), host.name)
            )
        return self._clusters[host.name]

    def _phase(self, task: Task) -> tuple[str, str]:
        """Return the task's phase and its play."""
        play = self._play.get_name() if self._play else ""
        if task._role:
            return task._role.get_name(include_role_fqcn=False), play
        if self._play and self._play.get_roles():
            return task.get_name().strip(), play
        return play, play

    def _clusters_of_play(self) -> list[str]:
        """Return the clusters that the play still works on."""
        inventory = self._play.get_variable_manager()._inventory
        hosts = inventory.get_hosts(self._play.hosts)
        return [self._cluster(host) for host in hosts if host.name not in self._play._removed_hosts]

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Start the clock and the heartbeat."""
        self._playbook = str(getattr(playbook, "_file_name", ""))
        self._started = self._shown = self._now()
        self._phases.clear()
        self._stop = threading.Event()
        interval = self.get_option("heartbeat")
        if interval > 0:
            threading.Thread(target=self._beat, args=(self._stop, interval), name="phases", daemon=True).start()

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Remember the play, for the names of its phases."""
        self._play = play
        self._plays += 1
        self._announced = None
        # Written between plays too: a report that a later play makes shows the phases before it.
        self._write_file(self._now())

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        """Note that a host began a task, and say so if it begins a phase."""
        now = self._now()
        name, play = self._phase(task)
        if (name, play) != self._announced:
            self._announced = (name, play)
            self._show(f"[{clock(now - self._started)}] {name}: {name_some(self._clusters_of_play())}")
        cluster = self._cluster(host)
        self._phases.setdefault((self._plays, name, cluster), Phase(name, play, cluster, now, now))
        self._running[host.name, task._uuid] = (now, task.get_name().strip(), host.name)

    def _finish(self, result: CallbackTaskResult, changed: bool = False, failed: bool = False) -> None:
        now = self._now()
        host, task = result._host, result._task
        self._running.pop((host.name, task._uuid), None)
        name, play = self._phase(task)
        cluster = self._cluster(host)
        phase = self._phases.setdefault((self._plays, name, cluster), Phase(name, play, cluster, now, now))
        phase.ended = now
        phase.tasks += 1
        phase.changed += changed
        phase.failed += failed
        if changed or failed:  # the stdout callback shows these
            self._shown = now

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Note the end of a task."""
        self._finish(result, changed=bool(result._result.get("changed", False)))

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Note the end of a task."""
        self._finish(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Note the end of a task."""
        self._finish(result, failed=not ignore_errors)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Note the end of a task."""
        self._finish(result, failed=True)

    def still(self, now: float) -> str | None:
        """Say what is running, oldest first, or None when nothing is."""
        running = sorted(dict(self._running).values())
        if not running:
            return None
        begun, task, _host = running[0]
        hosts = name_some(host for _begun, name, host in running if name == task)
        return f"[{clock(now - self._started)}]   still at '{task}' on {hosts} ({now - begun:.0f} s)"

    def _beat(self, stop: threading.Event, interval: int) -> None:
        """Show what is still running whenever nothing was shown for ``interval`` seconds, until ``stop`` is set.

        The interval doubles up to a minute while it is the same task: an hour of building is not 450 lines.
        """
        running, pause = set(self._running), interval
        while not stop.wait(1):
            now = self._now()
            if set(self._running) != running:
                running, pause = set(self._running), interval
            if now - self._shown >= pause and (line := self.still(now)):
                self._show(line)
                pause = min(2 * pause, max(interval, LONGEST_SILENCE))

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Show the seconds per phase and write the file."""
        self._stop.set()
        self._running.clear()
        ended = self._now()
        phases = list(self._phases.values())
        if phases:
            self._show("\n" + "\n".join(summary(phases, ended - self._started)) + "\n")
        self._write_file(ended)

    def _write_file(self, ended: float) -> None:
        if file := self.get_option("file"):
            content = {
                "playbook": self._playbook,
                "started": self._started,
                "ended": ended,
                "phases": [asdict(phase) for phase in self._phases.values()],
            }
            Path(file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
