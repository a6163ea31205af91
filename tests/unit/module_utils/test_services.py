# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What is said about a node's services, on what systemd, journald and the kubelet wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ansible_collections.kubescale.fleet.plugins.module_utils.services import (
    ERROR_LINES,
    JOURNAL_LINES,
    ended_containers,
    journal_errors,
    service_troubles,
)

RUNS = "ActiveState=active\nSubState=running\nResult=success\nExecMainStatus=0\nNRestarts=0\n"
CRASHES = "ActiveState=activating\nSubState=auto-restart\nResult=exit-code\nExecMainStatus=1\nNRestarts=14\n"
KUBELET_LOG = """\
I1121 10:00:00.100000     812 server.go:1] "Kubelet version" kubeletVersion="v1.37.0"
E1121 10:00:01.100000     812 kubelet.go:2] "Container runtime network not ready"
E1121 10:00:02.100000     812 pod_workers.go:3] "Error syncing pod, skipping" err="back-off"
E1121 10:00:03.100000     812 kubelet.go:2] "Container runtime network not ready"
"""


def machine(units: dict[str, str], logs: dict[str, str]) -> Callable[[list[str]], str]:
    """A machine whose systemd and journal say this."""

    def run(command: list[str]) -> str:
        if command[:2] == ["systemctl", "show"]:
            return units[command[2]]
        assert command[0] == "journalctl"
        count = next(int(part.partition("=")[2]) for part in command if part.startswith("--lines="))
        return "\n".join(logs.get(command[command.index("--unit") + 1], "").splitlines()[-count:])

    return run


def test_a_machine_in_order_has_nothing_to_say() -> None:
    units = {"containerd.service": RUNS, "kubelet.service": RUNS}
    noise = {"containerd.service": 'level=error msg="old"', "kubelet.service": KUBELET_LOG.splitlines()[0]}
    assert service_troubles(machine(units, noise)) == []


def test_a_service_that_does_not_run_says_why_and_the_other_is_left_out() -> None:
    units = {"containerd.service": RUNS, "kubelet.service": CRASHES}
    log = "\n".join([*(f"line {n}" for n in range(50)), "Error: failed to parse kubelet flag: unknown flag: --x"])
    said = service_troubles(machine(units, {"kubelet.service": log, "containerd.service": log}))
    assert said[0] == "kubelet.service is activating (auto-restart), restarts: 14, last exit status 1:"
    assert said[-1] == "Error: failed to parse kubelet flag: unknown flag: --x"
    assert len(said) == 1 + JOURNAL_LINES


def test_of_the_last_words_what_is_only_information_is_left_out() -> None:
    units = {"containerd.service": RUNS, "kubelet.service": CRASHES}
    ended = KUBELET_LOG.splitlines()[:2]
    assert service_troubles(machine(units, {"kubelet.service": "\n".join(ended)}))[1:] == ended[1:]
    assert service_troubles(machine(units, {"kubelet.service": ended[0]}))[1:] == ended[:1]


def test_a_service_that_runs_shows_each_error_once() -> None:
    units = {"containerd.service": RUNS, "kubelet.service": RUNS}
    assert service_troubles(machine(units, {"kubelet.service": KUBELET_LOG})) == [
        "kubelet.service runs; its last errors:",
        'pod_workers.go:3] "Error syncing pod, skipping" err="back-off"',
        'kubelet.go:2] "Container runtime network not ready"',
    ]
    many = [f"E1121 10:00:01.100000     812 x.go:{n}] problem" for n in range(50)]
    assert len(journal_errors(many)) == ERROR_LINES


def test_containers_of_the_control_plane_that_ended(tmp_path: Path) -> None:
    def log(pod: str, container: str, start: int, text: str, at: float) -> None:
        file = tmp_path / f"kube-system_{pod}_uid" / container / f"{start}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (at, at))

    def said(text: str) -> str:
        return f"2026-11-21T10:00:00.1Z stderr F {text}\n"

    log("etcd-cp1", "etcd", 0, said("fine"), 200)
    log("kube-apiserver-cp1", "kube-apiserver", 1, said("starting") + said("bind: address already in use"), 200)
    # It was started a moment ago and has said nothing yet.
    log("kube-apiserver-cp1", "kube-apiserver", 2, "", 200)
    # Of an attempt before this one.
    log("kube-scheduler-cp1", "kube-scheduler", 3, said("old"), 50)
    assert ended_containers(100, tmp_path) == [
        "container kube-apiserver ended and was started 2 times more; last log lines:",
        "starting",
        "bind: address already in use",
    ]
