# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Show the phases of a run and the state of each cluster, and write the run's record."""

from __future__ import annotations

DOCUMENTATION = """
name: phases
type: aggregate
short_description: Phases of a run, per cluster, with their times
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - A phase is a role of a play. Tasks outside roles form a phase as well. It has the name of the play, or of the task
    if the play has roles.
  - Shows the start of each phase with its clusters, and the running tasks after a time without output. Ends with one
    table of clusters and phases, with states and seconds. Works beside any stdout callback.
  - Keeps the records of the last 50 runs of the fleet, and writes them to C(fleet.html).
  - The cluster of a host is its inventory variable C(cluster_name), or the host itself without that variable.
requirements:
  - "C(callbacks_enabled = kubescale.fleet.phases) in ansible.cfg"
options:
  heartbeat:
    description:
      - Seconds without output after which a line shows the running tasks. The interval grows to a minute.
      - V(0) disables these lines.
    type: int
    default: 8
    env:
      - name: KUBESCALE_PHASES_HEARTBEAT
    ini:
      - section: callback_phases
        key: heartbeat
  file:
    description:
      - File that gets the record of the run as JSON, for reports and benchmarks, in a directory that exists. It is
        written when a play starts and at the end of the playbook.
      - "Keys: C(id), C(playbook), C(started), C(ended) (null until the end), C(check) (whether nothing was changed),
        C(clusters) (by name: C(ring), C(environment), C(state) C(ok), C(failed) or C(unreachable)), and the lists
        C(phases) with C(phase), C(play), C(cluster), C(started), C(ended), C(tasks), C(changed), C(failed); C(changes)
        with C(cluster), C(host), C(role), C(task) and, for sets of objects, C(set) and C(objects); C(failures) with
        C(cluster), C(host), C(task), C(message). Times are seconds since 1970."
    type: path
    env:
      - name: KUBESCALE_PHASES_FILE
    ini:
      - section: callback_phases
        key: file
  fleet_dir:
    description:
      - Directory in which C(fleet.html) is written, and the records of the last runs below C(fleet.d).
      - The one that holds the folders of the clusters if left out; nothing is written if it is empty.
    type: str
    env:
      - name: KUBESCALE_FLEET_DIR
    ini:
      - section: callback_phases
        key: fleet_dir
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = kubescale.fleet.phases
#
# [callback_phases]
# heartbeat = 30
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import context
from ansible.plugins.callback import CallbackBase

from ..plugin_utils.common.runs import run_id
from ..plugin_utils.common.text import first_names
from ..plugin_utils.fleet import run_record
from ..plugin_utils.fleet.run_record import Phase, RunRecord
from ..plugin_utils.report import fleet_report

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.playbook import Playbook
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

NAMED_CLUSTERS = 4
#: Ansible's exit status for a wrong command line.
CLI_ERROR = 5
# Seconds without a new line after which a run looks as if it hangs.
LONGEST_SILENCE = 60


def clock(seconds: float) -> str:
    """Return a duration in seconds as minutes and seconds: 83 becomes 01:23."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


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
        self._playbooks = 0
        self._record = RunRecord("", "", self._started)
        self._path: Path | None = None  # of the record in the fleet's folder
        self._warned = False
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
            known = {name: value for group in host.get_groups() for name, value in group.vars.items()} | host.vars
            name = self._clusters[host.name] = str(known.get("cluster_name", host.name))
            if "cluster_name" in known:
                self._record.add_cluster(name, known.get("cluster_ring"), known.get("cluster_environment"))
                self._find_place(known.get("cluster_state_dir"))
        return self._clusters[host.name]

    def _find_place(self, state_dir: str | None) -> None:
        """Prepare the file of the run's record when the folder of a cluster is known."""
        fleet_dir = self.get_option("fleet_dir")
        if fleet_dir is None and state_dir:
            fleet_dir = str(Path(state_dir).parent)
        if not fleet_dir or self._path or self._warned:
            return
        try:
            self._path = run_record.prepare_run(Path(fleet_dir).expanduser(), self._record.ident)
        except OSError as error:
            self._warn(error)
        else:
            os.environ[run_record.CURRENT] = self.get_option("file") or str(self._path)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            self._display.warning(f"The record of this run cannot be written, and reports will lack it: {error}")

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
        """Refuse a wrong command line; start the clock and the heartbeat."""
        self._check_command_line(playbook)
        self._started = self._shown = self._now()
        self._playbooks += 1
        self._record = RunRecord("", str(getattr(playbook, "_file_name", "")), self._started)
        self._path, self._warned = None, False
        if file := self.get_option("file"):
            os.environ[run_record.CURRENT] = file
        self._clusters.clear()
        self._phases.clear()
        self._stop = threading.Event()
        interval = self.get_option("heartbeat")
        if interval > 0:
            threading.Thread(target=self._beat, args=(self._stop, interval), name="phases", daemon=True).start()

    def _check_command_line(self, playbook: Playbook) -> None:
        """End the program if a variable or tag of the command line is misspelled. An exception would be a warning."""
        arguments = context.CLIARGS
        given = {option: arguments.get(option) or () for option in ("tags", "skip_tags", "extra_vars")}
        if not any(set(value) - {"all"} for value in given.values()):
            return
        # Imported late: most runs do without.
        from ..plugin_utils.fleet import command_line

        problems = []
        if given["extra_vars"]:
            problems += command_line.check_variables(playbook._loader)
        if set(given["tags"]) - {"all"} or given["skip_tags"]:
            known = command_line.tags_of(playbook)
            problems += command_line.check_tags("tags", given["tags"], known)
            problems += command_line.check_tags("skip-tags", given["skip_tags"], known)
        if problems:
            self._display.error("\n".join(["Wrong command line, nothing was changed:", *problems]), wrap_text=False)
            raise SystemExit(CLI_ERROR)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Remember the play, for the names of its phases."""
        self._play = play
        self._plays += 1
        self._announced = None
        self._record.check = play.check_mode is True and (self._record.check or not self._phases)
        self._record.ident = self._record.ident or self._run_id(play)
        self._clusters_of_play()  # adds all clusters of the play to the record, even if no task reaches them
        # Write between plays as well, because the report of a later play shows the phases before it.
        self._write(None)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        """Record the start of a task, and show the start of a phase."""
        now = self._now()
        name, play = self._phase(task)
        if (name, play) != self._announced:
            self._announced = (name, play)
            self._show(
                f"[{clock(now - self._started)}] {name}: {first_names(self._clusters_of_play(), NAMED_CLUSTERS)}"
            )
        cluster = self._cluster(host)
        self._phases.setdefault((self._plays, name, cluster), Phase(name, play, cluster, now, now))
        self._running[host.name, task._uuid] = (now, task.get_name().strip(), host.name)

    def _finish(
        self, result: CallbackTaskResult, changed: bool = False, failed: str = "", skipped: bool = False
    ) -> None:
        now = self._now()
        host, task = result._host, result._task
        self._running.pop((host.name, task._uuid), None)
        name, play = self._phase(task)
        cluster = self._cluster(host)
        data = result._result
        if finding := data.get("fleet_result"):
            self._record.results.append({"cluster": cluster, **finding})
        if (path := data.get("run_record")) and (other := run_record.read(Path(path))):
            # The other record has the phases and failures of all clusters; this host only started that run.
            self._record.others.append(other)
            self._phases.pop((self._plays, name, cluster), None)
            return
        phase = self._phases.setdefault((self._plays, name, cluster), Phase(name, play, cluster, now, now))
        # A play may name a role again and skip it there; that does not extend the phase.
        phase.ended = phase.ended if skipped else now
        phase.tasks += 1
        phase.changed += changed
        phase.failed += bool(failed)
        if changed or failed:  # the stdout callback shows these
            self._shown = now
        secret = bool(getattr(task, "no_log", False)) or "censored" in data
        title = str(getattr(result, "task_name", None) or task.get_name()).strip()
        if changed:
            self._record.add_change(cluster, host.name, name if task._role else "", title, data, secret)
        if failed:
            message = str(data.get("censored" if secret else "msg") or "no message")
            # A failed run_once task stops all clusters of the play.
            concerned = self._clusters_of_play() if getattr(task, "run_once", False) else [cluster]
            for one in dict.fromkeys([cluster, *concerned]):
                self._record.add_failure(one, host.name, title, message, failed)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Record the end of a task."""
        self._finish(result, changed=bool(result._result.get("changed", False)))

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Record the end of a task."""
        self._finish(result, skipped=True)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Record the end of a task."""
        self._finish(result, failed="" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Record the end of a task."""
        self._finish(result, failed="unreachable")

    def still(self, now: float) -> str | None:
        """Return a line about the oldest running task, or None if no task runs."""
        running = sorted(dict(self._running).values())
        if not running:
            return None
        begun, task, _host = running[0]
        hosts = first_names((host for _begun, name, host in running if name == task), NAMED_CLUSTERS)
        return f"[{clock(now - self._started)}]   still at '{task}' on {hosts} ({now - begun:.0f} s)"

    def _beat(self, stop: threading.Event, interval: int) -> None:
        """Show what is still running whenever nothing was shown for ``interval`` seconds, until ``stop`` is set.

        The interval doubles up to a minute while the same task runs, so that long builds do not fill the screen.
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
        """Show the table of clusters and phases, and write the record and the fleet's page."""
        self._stop.set()
        self._running.clear()
        ended = self._now()
        self._forgive(stats)
        self._write(ended)
        record = self._record.document(ended)
        if record["phases"]:
            self._show("\n" + "\n".join(fleet_report.table(record)) + "\n")
        if self._path and not self._warned:
            try:
                fleet_report.write_page(self._path.parents[2])
            except OSError as error:
                self._warn(error)

    def _forgive(self, stats: AggregateStats) -> None:
        """Remove failures that a rescue has handled: only the statistics show that."""
        hosts = {failure["host"]: self._clusters.get(failure["host"], "") for failure in self._record.failures}
        rescued = {host for host in hosts if not (stats.failures.get(host) or stats.dark.get(host))}
        for host in rescued:
            others = any(cluster == hosts[host] for name, cluster in hosts.items() if name not in rescued)
            self._record.forgive(host, hosts[host], others)

    def _run_id(self, play: Play) -> str:
        """Return the id of this run. A second playbook of the same command gets an id of its own."""
        try:
            ident = run_id(play.get_variable_manager().extra_vars)
        except ValueError:  # the given id is invalid; the first task that needs it reports that
            ident = run_id()
        return ident if self._playbooks == 1 else f"{ident}-{self._playbooks}"

    def _write(self, ended: float | None) -> None:
        """Write the record to its files. A failed write does not stop the run."""
        self._record.phases = list(self._phases.values())
        paths = [Path(path) for path in (self.get_option("file"), self._path) if path]
        if self._warned or not paths:
            return
        record = self._record.document(ended)
        for path in paths:
            try:
                run_record.save(path, record)
            except OSError as error:
                self._warn(error)
