# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Child runs: each one is an ansible-playbook process of its own, which ends when this process ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..common.errors import FleetError
from . import keeper
from .run_record import CURRENT, Record, read

CALLBACK = "kubescale.fleet.phases"
#: Seconds that an interrupted playbook has to end and to release its lease. Then it is killed.
GRACE = 20.0
#: Seconds between two reads of a child's output.
LOOK = 0.3
#: Seconds without output after which a child reports its running tasks.
HEARTBEAT = 30
#: Start of a progress line of callback `phases`.
PROGRESS = re.compile(r"\[\d\d+:\d\d\] ")
#: Lines and characters of the log that are reported for a child without a complete record.
LAST_LINES, LONGEST = 5, 1000
#: Options of this run that its children get as well: Ansible's name of the option, and the option.
SINGLE_OPTIONS = {
    "forks": "--forks",
    "remote_user": "--user",
    "private_key_file": "--private-key",
    "connection": "--connection",
    "timeout": "--timeout",
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
    "become_method": "--become-method",
    "become_user": "--become-user",
    "connection_password_file": "--connection-password-file",
    "become_password_file": "--become-password-file",
}
REPEATED_OPTIONS = {
    "inventory": "--inventory",
    "extra_vars": "--extra-vars",
    "vault_ids": "--vault-id",
    "vault_password_files": "--vault-password-file",
}
FLAGS = {"diff": "--diff", "become": "--become"}
#: Options that make Ansible prompt for a password (children have no terminal), and the option to use instead.
PROMPTS = {
    "ask_vault_pass": ("--ask-vault-password", "--vault-password-file"),
    "ask_pass": ("--ask-pass", "--connection-password-file"),
    "become_ask_pass": ("--ask-become-pass", "--become-password-file"),
}


class ChildError(FleetError):
    """A child run cannot start. The message names the remedy."""


INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a playbook on one cluster.

    ``state`` is passed, failed or interrupted; ``changed`` is the number of changed tasks, ``seconds`` the duration,
    ``reason`` the reason of a state other than passed.
    """

    state: str
    changed: int = 0
    seconds: float = 0.0
    reason: str = ""


def child_options(arguments: Mapping[str, Any]) -> list[str]:
    """Return the options of this run that a child needs as well; ``arguments`` is Ansible's ``context.CLIARGS``.

    Raise ChildError if an option prompts for a password.
    """
    for name, (prompt, instead) in PROMPTS.items():
        if arguments.get(name):
            raise ChildError(f"{prompt}: child runs have no terminal and cannot prompt. Use {instead} instead")
    if prompts := [name for name in arguments.get("vault_ids") or () if name.endswith("@prompt")]:
        raise ChildError(f"--vault-id {prompts[0]}: child runs have no terminal and cannot prompt. Name a file instead")
    options = [f"{option}={arguments[name]}" for name, option in SINGLE_OPTIONS.items() if arguments.get(name)]
    options += [f"{option}={value}" for name, option in REPEATED_OPTIONS.items() for value in arguments.get(name) or ()]
    options += [option for name, option in FLAGS.items() if arguments.get(name)]
    return options + (["-" + "v" * arguments["verbosity"]] if arguments.get("verbosity") else [])


def tag_options(arguments: Mapping[str, Any]) -> list[str]:
    """Return the tag options of this run for a child; ``arguments`` is Ansible's ``context.CLIARGS``."""
    names = {"tags": "--tags", "skip_tags": "--skip-tags"}
    tags_of = {option: list(arguments.get(name) or ()) for name, option in names.items()}
    return [f"{option}={','.join(tags)}" for option, tags in tags_of.items() if tags and tags != ["all"]]


def child_environment(record: Path, callbacks: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that writes its record to a file; ``own`` is that of this process."""
    return {
        "KUBESCALE_PHASES_HEARTBEAT": str(HEARTBEAT),
        **{name: value for name, value in own.items() if name != "ANSIBLE_FORCE_COLOR"},
        "KUBESCALE_PHASES_FILE": str(record),
        CURRENT: str(record),
        # Empty: the parent writes fleet.html from the merged record.
        "KUBESCALE_FLEET_DIR": "",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACKS_ENABLED": ",".join(dict.fromkeys([*callbacks, CALLBACK])),
    }


@dataclass(frozen=True)
class Files:
    """Files of a child: ``log`` holds its output, ``record`` its run record."""

    log: Path
    record: Path


class Children:
    """Children of this process.

    ``say`` shows the output lines that ``shows`` selects. ``kept_open`` are file descriptors that children inherit, so
    they stay open until the last child has ended. ``grace`` is in seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        kept_open: Sequence[int] = (),
        grace: float = GRACE,
        shows: Callable[[str], object] = PROGRESS.match,
    ) -> None:
        self.say = say
        self.shows = shows
        self.grace = grace
        self._kept_open = tuple(kept_open)
        self._stop = threading.Event()

    def end_all(self) -> None:
        """Interrupt all children. Their calls of ``run`` return when the children have ended."""
        self._stop.set()

    def run(
        self, arguments: Sequence[str], cluster: str, title: str, files: Files, environment: Mapping[str, str],
        timeout: float,
    ) -> Outcome:  # fmt: skip
        """Run ansible-playbook with arguments on a cluster, wait for its end, return its outcome.

        A child that still runs after ``timeout`` seconds is ended. ``title`` is the prefix of shown lines. Threads may
        call this at the same time. An OSError becomes the outcome "failed".
        """
        started = time.monotonic()
        command = [sys.executable, keeper.__file__, str(self.grace), sys.executable, "-m", "ansible", "playbook"]
        try:
            # A record of an earlier run would be taken for the record of this one.
            files.record.unlink(missing_ok=True)
            with files.log.open("ab") as log, files.log.open("rb") as output:
                output.seek(0, os.SEEK_END)
                with subprocess.Popen(
                    [*command, *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(environment),
                    pass_fds=self._kept_open, start_new_session=True,
                ) as child:  # fmt: skip
                    why = self._follow(child, title, output, started + timeout)
        except OSError as error:
            return Outcome("failed", 0, time.monotonic() - started, f"its playbook cannot start: {error}")
        outcome = judge(cluster, child.returncode, read(files.record), files.log)
        seconds = time.monotonic() - started
        state, reason = outcome.state, outcome.reason
        if why and state != "passed":
            late = f"it had not ended after {timeout:g} s (rollout_timeout)"
            state, reason = (INTERRUPTED, INTERRUPTED) if why == INTERRUPTED else ("failed", late)
        return Outcome(state, outcome.changed, seconds, reason)

    def _follow(self, child: subprocess.Popen[bytes], title: str, output: BinaryIO, deadline: float) -> str:
        """Show a child's output until the child ends. Return why it was stopped, or "" if it ended by itself."""
        why, rest = "", b""
        while True:
            try:
                child.wait(LOOK)
            except subprocess.TimeoutExpired:
                if not why and child.stdin and (self._stop.is_set() or time.monotonic() >= deadline):
                    why = INTERRUPTED if self._stop.is_set() else "late"
                    child.stdin.close()
            *lines, rest = (rest + output.read()).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if self.shows(text):
                    self.say(f"{title} {text}" if title else text)
            if child.returncode is not None:
                return why


def judge(cluster: str, status: int, record: Record | None, log: Path) -> Outcome:
    """Return the outcome of a child. It passed only if exit status and record agree on that."""
    if record is None or not record["ended"]:
        return Outcome("failed", reason=f"it ended (status {status}) without its record: {log_tail(log)}")
    phases = [phase for phase in record["phases"] if phase["cluster"] == cluster]
    changed = sum(phase["changed"] for phase in phases)
    failures = [f"{entry['host']}, {entry['task']}: {entry['message']}" for entry in record["failures"]]
    state = record["clusters"].get(cluster, {}).get("state")
    if status == 0 and state == "ok" and not failures and phases:
        return Outcome("passed", changed)
    if status == 0 and not phases:
        return Outcome("failed", changed, reason="its playbook did nothing on this cluster")
    return Outcome("failed", changed, reason=failures[0] if failures else f"status {status}: {log_tail(log)}")


def log_tail(log: Path) -> str:
    """Return the last lines of a child's log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        return f"its log cannot be read: {error}"
    return "\n".join([line for line in lines if line.strip()][-LAST_LINES:])[-LONGEST:] or "no output"
