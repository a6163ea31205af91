"""A run that is killed in the middle is repaired by running it again, wherever it was."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from playbook_runs import INVENTORY, REPOSITORY, run_playbook

COMMAND = ["ansible-playbook", f"--inventory={INVENTORY}", "playbooks/site.yml"]
KUBECONFIG = REPOSITORY / ".state" / "interrupted" / "kubeconfig"
# A run that has not come to the place where it shall be killed after this many seconds will not come there.
LONGEST = 300


def exists(machine: str, path: str) -> Callable[[], bool]:
    """Tell whether a file is on a machine."""
    return lambda: (
        subprocess.run(["podman", "exec", machine, "test", "-e", path], capture_output=True, check=False).returncode
        == 0
    )


def prometheus_is_applied() -> bool:
    """Tell whether the first component reached the cluster."""
    try:
        return kube.connect(str(KUBECONFIG)).get("v1", "Namespace", "monitoring") is not None
    except (kube.ApiError, kube.KubeconfigError):
        return False


PLACES = {
    "node_prep": exists("interrupted-w1", "/usr/local/bin/containerd"),
    "kubeadm_init": exists("interrupted-cp1", "/etc/kubernetes/manifests/kube-apiserver.yaml"),
    "kubeadm_join": exists("interrupted-w1", "/etc/kubernetes/pki/ca.crt"),
    "apply": prometheus_is_applied,
}


@pytest.mark.parametrize("place", PLACES)
def test_killed(place: str, tmp_path: Path) -> None:
    said = tmp_path / "output"
    with said.open("w", encoding="utf-8") as output:
        run = subprocess.Popen(COMMAND, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + LONGEST
    while not PLACES[place]():
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(timeout=0.2)
            pytest.fail(f"the run ended before {place}:\n{said.read_text(encoding='utf-8')}")
        assert time.monotonic() < deadline, f"the run never came to {place}"
    # Its workers have sessions of their own and would finish their task in peace.
    subprocess.run(["pkill", "--signal", "KILL", "--parent", str(run.pid)], check=False)
    run.kill()
    run.wait()


def test_the_next_run_completes_and_the_one_after_has_nothing_to_do() -> None:
    repaired = run_playbook("site")
    assert repaired.returncode == 0, repaired.messages()
    again = run_playbook("site")
    assert again.returncode == 0, again.messages()
    assert again.results("changed") == {}
