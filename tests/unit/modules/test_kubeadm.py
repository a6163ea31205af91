# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The module kubeadm: its files while kubeadm runs, and after it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.modules import kubeadm

JOIN = {
    "action": "join",
    "cluster": "berlin",
    "config": [{"kind": "JoinConfiguration"}],
    "token": "abcdef.0123456789abcdef",
    "ca_hash": "sha256:1",
    "endpoint": "10.0.0.1:6443",
}

FIRST_KINDS = ("InitConfiguration", "JoinConfiguration")


class FailedError(Exception):
    """The module failed."""


class Machine:
    """A module whose kubeadm looks at its files."""

    def __init__(self, code: int = 0) -> None:
        self.params = JOIN
        self.code = code
        self.during: dict[str, tuple[int, str]] = {}
        self.arguments: list[str] = []

    def run_command(self, command: list[str], **_options: Any) -> tuple[int, str, str]:
        if "version" in command:
            return 0, "v1.37.0\n", ""
        self.arguments += command
        for path in (kubeadm.CONFIG, kubeadm.STATE / kubeadm.UNFINISHED):
            self.during[path.name] = path.stat().st_mode & 0o777, path.read_text()
        return self.code, "", ""

    def fail_json(self, msg: str) -> None:
        raise FailedError(msg)


@pytest.fixture(autouse=True)
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCK", "CONFIG", "STATE", "KUBELET_CONFIG"):
        monkeypatch.setattr(kubeadm, name, tmp_path / name.lower())
    kubeadm.STATE.mkdir()


def test_only_root_can_read_the_token_and_only_while_kubeadm_runs() -> None:
    machine = Machine()
    kubeadm.Kubeadm(machine).make("none")  # type: ignore[arg-type]
    mode, text = machine.during[kubeadm.CONFIG.name]
    assert mode == 0o600
    assert JOIN["token"] in text
    assert JOIN["token"] not in " ".join(machine.arguments)
    assert not kubeadm.CONFIG.exists()


def test_an_attempt_is_marked_as_unfinished_until_it_has_ended() -> None:
    machine = Machine()
    kubeadm.Kubeadm(machine).make("none")  # type: ignore[arg-type]
    mode, text = machine.during[kubeadm.UNFINISHED]
    assert (mode, json.loads(text)["action"]) == (0o600, "join")
    assert {path.name for path in kubeadm.STATE.iterdir()} == {kubeadm.FINISHED}
    finished = json.loads((kubeadm.STATE / kubeadm.FINISHED).read_text())
    assert finished == {"cluster": "berlin", "version": "1.37.0", "action": "join"}


def test_a_failed_attempt_leaves_its_mark_and_no_token() -> None:
    with pytest.raises(FailedError, match="kubeadm join failed"):
        kubeadm.Kubeadm(Machine(code=1)).make("none")  # type: ignore[arg-type]
    assert not kubeadm.CONFIG.exists()
    assert {path.name for path in kubeadm.STATE.iterdir()} == {kubeadm.UNFINISHED}


def test_slow_machines_have_time_for_each_call() -> None:
    roles = Path(__file__).resolve().parents[3] / "roles"
    control_plane = yaml.safe_load((roles / "control_plane/vars/main.yml").read_text())
    worker = yaml.safe_load((roles / "worker/vars/main.yml").read_text())
    configurations = [
        *control_plane["__control_plane_init"],
        *control_plane["__control_plane_join"],
        *worker["__worker_join"],
    ]
    kubeadms = [one for one in configurations if isinstance(one, dict) and str(one["kind"]) in FIRST_KINDS]
    assert len(kubeadms) == 3
    for one in kubeadms:
        timeouts = control_plane["__control_plane_timeouts"] if isinstance(one["timeouts"], str) else one["timeouts"]
        assert timeouts["kubernetesAPICall"] == "4m0s"
