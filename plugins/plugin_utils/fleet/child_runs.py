# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Playbooks that a playbook runs: each an ansible-playbook of its own, which never outlives the one who wanted it."""

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
#: Seconds in which a playbook that is interrupted has to end, with its lease, before it is killed.
GRACE = 20.0
#: Seconds between two looks at what a child has said.
LOOK = 0.3
#: Seconds of silence after which a child says what it still does.
HEARTBEAT = 30
#: How a line of progress begins that callback `phases` shows.
PROGRESS = re.compile(r"\[\d\d+:\d\d\] ")
#: Lines and characters of a log that tell why a child ended that wrote down no reason.
LAST_LINES, LONGEST = 5, 1000
#: What a run was told on its command line that its children are told, too: Ansible's name for it, and the option.
TOLD_ONCE = {
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
TOLD_OFTEN = {
    "inventory": "--inventory",
    "extra_vars": "--extra-vars",
    "vault_ids": "--vault-id",
    "vault_password_files": "--vault-password-file",
}
FLAGS = {"diff": "--diff", "become": "--become"}
#: Passwords that a person is asked for, which children cannot be, and what to give instead.
ASKED = {
    "ask_vault_pass": ("--ask-vault-password", "--vault-password-file"),
    "ask_pass": ("--ask-pass", "--connection-password-file"),
    "become_ask_pass": ("--ask-become-pass", "--become-password-file"),
}


class ChildError(FleetError):
    """A child cannot be run; the message says what to do."""


INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """How a playbook on one cluster ended.

    ``state`` is passed, failed or interrupted; ``changed`` counts tasks, ``seconds`` is how long it took, ``reason``
    why it did not pass.
    """

    state: str
    changed: int = 0
    seconds: float = 0.0
    reason: str = ""


def child_options(told: Mapping[str, Any]) -> list[str]:
    """What a child is told of the command line of this run; ``told`` is Ansible's ``context.CLIARGS``.

    Raises ChildError if a person was asked for a password.
    """
    for name, (asked, instead) in ASKED.items():
        if told.get(name):
            raise ChildError(f"{asked}: clusters are worked on by processes that cannot ask; say {instead} instead")
    if prompts := [name for name in told.get("vault_ids") or () if name.endswith("@prompt")]:
        raise ChildError(f"--vault-id {prompts[0]}: clusters are worked on by processes that cannot ask; name a file")
    options = [f"{option}={told[name]}" for name, option in TOLD_ONCE.items() if told.get(name)]
    options += [f"{option}={value}" for name, option in TOLD_OFTEN.items() for value in told.get(name) or ()]
    options += [option for name, option in FLAGS.items() if told.get(name)]
    return options + (["-" + "v" * told["verbosity"]] if told.get("verbosity") else [])


def tag_options(told: Mapping[str, Any]) -> list[str]:
    """Tags of this run, as options of a child that does the same."""
    names = {"tags": "--tags", "skip_tags": "--skip-tags"}
    given = {option: list(told.get(name) or ()) for name, option in names.items()}
    return [f"{option}={','.join(tags)}" for option, tags in given.items() if tags and tags != ["all"]]


def child_environment(record: Path, callbacks: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """Environment of a child that writes its record to a file; ``own`` is that of this process."""
    return {
        "KUBESCALE_PHASES_HEARTBEAT": str(HEARTBEAT),
        **{name: value for name, value in own.items() if name != "ANSIBLE_FORCE_COLOR"},
        "KUBESCALE_PHASES_FILE": str(record),
        CURRENT: str(record),
        # Its part of the fleet's page comes with the record of the whole.
        "KUBESCALE_FLEET_DIR": "",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACKS_ENABLED": ",".join(dict.fromkeys([*callbacks, CALLBACK])),
    }


@dataclass(frozen=True)
class Files:
    """What a child leaves: ``log`` is what it said, ``record`` what it did."""

    log: Path
    record: Path


class Children:
    """Children of this process.

    ``say`` shows those of their lines that ``shows`` selects. ``kept_open`` are file descriptors that stay open until
    the last child has ended. ``grace`` is in seconds.
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
        """Have all children ended; the calls of ``run`` that wait for them return."""
        self._stop.set()

    def run(
        self, arguments: Sequence[str], cluster: str, title: str, files: Files, environment: Mapping[str, str],
        timeout: float,
    ) -> Outcome:  # fmt: skip
        """Run ansible-playbook with arguments on a cluster and wait for its end, for ``timeout`` seconds at most.

        ``title`` goes before each line that is shown. May be called in several threads at once. Never raises OSError: a
        child that could not be run has failed.
        """
        started = time.monotonic()
        command = [sys.executable, keeper.__file__, str(self.grace), sys.executable, "-m", "ansible", "playbook"]
        try:
            # One of an earlier run would tell of that.
            files.record.unlink(missing_ok=True)
            with files.log.open("ab") as log, files.log.open("rb") as said:
                said.seek(0, os.SEEK_END)
                with subprocess.Popen(
                    [*command, *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(environment),
                    pass_fds=self._kept_open, start_new_session=True,
                ) as child:  # fmt: skip
                    why = self._follow(child, title, said, started + timeout)
        except OSError as error:
            return Outcome("failed", 0, time.monotonic() - started, f"its playbook cannot be run: {error}")
        outcome = judge(cluster, child.returncode, read(files.record), files.log)
        seconds = time.monotonic() - started
        state, reason = outcome.state, outcome.reason
        if why and state != "passed":
            late = f"it had not ended after {timeout:g} s (rollout_timeout)"
            state, reason = (INTERRUPTED, INTERRUPTED) if why == INTERRUPTED else ("failed", late)
        return Outcome(state, outcome.changed, seconds, reason)

    def _follow(self, child: subprocess.Popen[bytes], title: str, said: BinaryIO, deadline: float) -> str:
        """Relay what a child says until it has ended; return why it was ended, nothing if it did so by itself."""
        why, rest = "", b""
        while True:
            try:
                child.wait(LOOK)
            except subprocess.TimeoutExpired:
                if not why and child.stdin and (self._stop.is_set() or time.monotonic() >= deadline):
                    why = INTERRUPTED if self._stop.is_set() else "late"
                    child.stdin.close()
            *lines, rest = (rest + said.read()).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if self.shows(text):
                    self.say(f"{title} {text}" if title else text)
            if child.returncode is not None:
                return why


def judge(cluster: str, status: int, record: Record | None, log: Path) -> Outcome:
    """What a child's exit status, record and log say: it has passed only if all of them say so."""
    if record is None or not record["ended"]:
        return Outcome("failed", reason=f"it ended (status {status}) without its record: {last_words(log)}")
    phases = [phase for phase in record["phases"] if phase["cluster"] == cluster]
    changed = sum(phase["changed"] for phase in phases)
    failures = [f"{entry['host']}, {entry['task']}: {entry['message']}" for entry in record["failures"]]
    state = record["clusters"].get(cluster, {}).get("state")
    if status == 0 and state == "ok" and not failures and phases:
        return Outcome("passed", changed)
    if status == 0 and not phases:
        return Outcome("failed", changed, reason="its playbook did nothing on this cluster")
    return Outcome("failed", changed, reason=failures[0] if failures else f"status {status}: {last_words(log)}")


def last_words(log: Path) -> str:
    """The end of what a child said."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        return f"its log cannot be read: {error}"
    return "\n".join([line for line in lines if line.strip()][-LAST_LINES:])[-LONGEST:] or "it said nothing"
