"""Faults and half-broken clusters: each is refused, named or repaired, as outcomes.py says; a plain re-run succeeds.

The tests of this file follow each other: machines are bare, become nodes in spite of everything, and are broken again.
"""

from __future__ import annotations

import functools
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import outcomes
import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from outcomes import CONTROL_PLANE, WORKER, Fault, Outcome, State
from playbook_runs import REPOSITORY, Run, run_playbook, start_playbook

KUBECONFIG = REPOSITORY / ".state" / "faults" / "kubeconfig"
# What never comes soon is not waited for: these runs meet what is broken for good.
IMPATIENT = ["--extra-vars", "site_ready_timeout=2 verify_timeout=2 load_scale_in_timeout=2"]
# No state that a test waits for takes longer to come.
LONGEST = 180.0
ADAPTER_API = "v1beta1.custom.metrics.k8s.io"
CRD_API = "apiextensions.k8s.io/v1"
SERVICE_MONITORS = "servicemonitors.monitoring.coreos.com"
# Signs of an error that nobody thought of.
RAW = ("Traceback", "MODULE FAILURE", "deserialization", "HTTPSConnectionPool", "Errno", "object has no attribute")


def shell(machine: str, command: str) -> str:
    """Run a command on a machine and return what it said."""
    return subprocess.run(
        ["podman", "exec", machine, "sh", "-c", command], capture_output=True, text=True, check=True, timeout=LONGEST
    ).stdout


def api() -> kube.Api:
    """The cluster's API, patient with a server that restarts."""
    return kube.connect(KUBECONFIG, patience=kube.RESTART)


def until(reached: Callable[[], Any]) -> None:
    """Wait for a state that several objects or a machine make up together; for one object there is `seen`."""
    deadline = time.monotonic() + LONGEST
    while not reached():
        assert time.monotonic() < deadline, f"not within {LONGEST:g} s: {reached}"
        time.sleep(0.1)


def seen(api_version: str, kind: str, name: str, reached: Callable[[dict[str, Any] | None], bool]) -> None:
    """Watch one object until it is as wanted; None stands for one that is not there."""
    deadline = time.monotonic() + LONGEST
    client = api()
    while (left := deadline - time.monotonic()) > 0:
        listing = client.list(api_version, kind, field_selector=f"metadata.name={name}")
        if reached(listing.items[0] if listing.items else None):
            return
        for event in client.watch(
            api_version, kind, None, None, f"metadata.name={name}", listing.resource_version, timeout=min(left, 30)
        ):
            if reached(None if event.type == "DELETED" else event.object):
                return
    pytest.fail(f"{kind} {name} did not come to the wanted state within {LONGEST:g} s")


def condition(name: str, status: str) -> Callable[[dict[str, Any] | None], bool]:
    """Tell whether an object has a condition with one of the statuses (words)."""

    def reached(item: dict[str, Any] | None) -> bool:
        conditions = (item or {}).get("status", {}).get("conditions") or []
        return any(entry["type"] == name and entry["status"] in status.split() for entry in conditions)

    return reached


def check(run: Run, outcome: Outcome) -> None:
    """Compare a run with what is said about it."""
    said = run.messages()
    assert (run.returncode == 0) == outcome.succeeds, said or run.output
    assert [word for word in outcome.said if word not in said] == [], said
    assert [word for word in RAW if word in said] == []
    assert bool(run.results("changed")) == outcome.changes, run.results("changed")


# -- machines that are no nodes yet --------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    """Put what faults are made with on the machines."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    for machine in (CONTROL_PLANE, WORKER):
        subprocess.run(["podman", "cp", str(library), f"{machine}:/usr/local/lib/"], check=True)
        shell(machine, "echo 0123456789abcdef0123456789abcdef > /usr/local/lib/machine-id")


def tags_of(state: State) -> list[Any]:
    """Parameters for the tags that leave a state as it is."""
    return [pytest.param(state, tag, id=f"{state.name}-{tag}") for tag in state.together]


@functools.cache
def runs_in(name: str) -> dict[str, Run]:
    """Break the cluster, and run every tag alone that leaves it so."""
    state = next(state for state in outcomes.STATES if state.name == name)
    BREAK[name]()
    extra = [] if state is outcomes.BARE else IMPATIENT

    def alone(tag: str) -> Run:
        playbook = outcomes.PLAYBOOKS.get(tag)
        return run_playbook(playbook, *extra) if playbook else run_playbook("site", "--tags", tag, *extra)

    # One at a time: a cluster refuses a second run.
    return {tag: alone(tag) for tag in state.together}


@pytest.mark.parametrize(("state", "tag"), tags_of(outcomes.BARE))
def test_a_tag_alone_on_bare_machines(state: State, tag: str) -> None:
    check(runs_in(state.name)[tag], state.together[tag])


@pytest.mark.parametrize("fault", outcomes.REFUSED, ids=lambda fault: fault.name)
def test_refused_before_any_change(fault: Fault) -> None:
    machines = fault.machine.split()
    for machine in machines:
        shell(machine, fault.inject)
    try:
        run = run_playbook("site")
        tolerant = run_playbook("site", "--check", *fault.tolerated) if fault.tolerated else None
    finally:
        for machine in machines:
            shell(machine, fault.heal)
    check(run, outcomes.fails("", *fault.said))
    assert tolerant is None or tolerant.returncode == 0, tolerant.messages()


def test_a_disk_that_becomes_full_is_named_and_nothing_half_written_stays() -> None:
    fault = outcomes.FULL
    shell(fault.machine, fault.inject)
    try:
        run = run_playbook("site", "--tags", "node_prep")
        left = shell(fault.machine, "ls --almost-all /usr/local/bin")
    finally:
        shell(fault.machine, fault.heal)
    check(run, outcomes.fails("", *fault.said, changes=True))
    assert ".new" not in left


def test_names_that_cannot_be_resolved_matter_only_to_what_needs_them() -> None:
    fault = outcomes.NO_NAMES
    shell(fault.machine, fault.inject)
    try:
        run = run_playbook("site", "--tags", "node_prep")
    finally:
        shell(fault.machine, fault.heal)
    check(run, outcomes.fails("", *fault.said))
    # The machines become what they shall be without any DNS.
    ((_tag, outcome),) = outcomes.BARE.then
    check(run_playbook("site", "--tags", "node_prep"), outcome)
    shell(fault.machine, outcomes.NO_NAMES_NEEDED.heal)


# -- a cluster comes up --------------------------------------------------------------------------------------------


def test_a_worker_that_restarts_in_the_middle_of_joining() -> None:
    finish = start_playbook("site", "--tags", "control_plane,worker")
    # kubeadm is held at a place where the machine is half a node.
    shell(WORKER, "until test -e /etc/kubernetes/pki/ca.crt; do sleep 0.02; done; kill -STOP $(pidof kubeadm)")
    subprocess.run(["podman", "restart", "--time", "0", WORKER], check=True, capture_output=True)
    check(finish(), outcomes.fails("", *outcomes.REBOOTED.said, changes=True))
    until(lambda: "running" in shell(WORKER, "systemctl is-system-running --wait || true"))


def test_an_api_server_that_restarts_while_objects_are_applied() -> None:
    finish = start_playbook("site")

    def first_set_is_begun() -> bool:
        try:
            return kube.connect(KUBECONFIG).get("v1", "ConfigMap", "prometheus", "kube-system") is not None
        except (kube.ApiError, kube.KubeconfigError):
            return False

    until(first_set_is_begun)
    shell(CONTROL_PLANE, "kill -KILL $(pidof kube-apiserver)")
    run = finish()
    assert run.returncode == 0, run.messages()
    pod = api().get("v1", "Pod", f"kube-apiserver-{CONTROL_PLANE}", "kube-system")
    assert pod is not None
    assert pod["status"]["containerStatuses"][0]["restartCount"] > 0


def test_after_all_that_a_run_has_nothing_to_do() -> None:
    check(run_playbook("site"), outcomes.NOTHING)


def test_another_cgroup_driver_is_repaired() -> None:
    fault = outcomes.CGROUP_DRIVER
    shell(fault.machine, fault.inject)
    check(run_playbook("site", "--tags", "node_prep"), outcomes.REPAIRS)
    settings = tomllib.loads(shell(fault.machine, "cat /etc/containerd/config.toml"))
    runc = settings["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"]
    assert runc["options"]["SystemdCgroup"] is True
    # A new pod starts there: kubelet and containerd agree again.
    pods = api().list("v1", "Pod", "node-exporter", field_selector=f"spec.nodeName={WORKER}").items
    for pod in pods:
        api().delete("v1", "Pod", pod["metadata"]["name"], "node-exporter")
    assert pods
    check(run_playbook("site", "--tags", "node_exporter"), outcomes.NOTHING)
    seen("v1", "Node", WORKER, condition("Ready", "True"))
    # containerd's restart took pods along: what is broken next shall be the only thing that is.
    check(run_playbook("site"), outcomes.NOTHING)


# -- a cluster that is partly broken -------------------------------------------------------------------------------


def metric_is_gone() -> None:
    """Wait until the autoscaler has noticed that it has no metric."""
    seen("autoscaling/v2", "HorizontalPodAutoscaler", "demo-app", condition("ScalingActive", "False"))


def scale_the_adapter_to_nothing() -> None:
    kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf --namespace custom-metrics"
    shell(CONTROL_PLANE, f"{kubectl} scale deployment prometheus-adapter --replicas 0")
    seen("apiregistration.k8s.io/v1", "APIService", ADAPTER_API, condition("Available", "False"))
    metric_is_gone()


def stop_the_kubelet() -> None:
    shell(WORKER, "systemctl stop kubelet")
    seen("v1", "Node", WORKER, condition("Ready", "Unknown False"))


def delete_prometheus() -> None:
    # A namespace goes only while every API answers.
    seen("apiregistration.k8s.io/v1", "APIService", ADAPTER_API, condition("Available", "True"))
    api().delete("v1", "Namespace", "monitoring")
    api().delete(CRD_API, "CustomResourceDefinition", SERVICE_MONITORS)
    seen(CRD_API, "CustomResourceDefinition", SERVICE_MONITORS, lambda item: item is None)
    seen("v1", "Namespace", "monitoring", lambda item: item is None)
    metric_is_gone()


BREAK: dict[str, Callable[[], None]] = {
    outcomes.BARE.name: lambda: None,
    outcomes.ADAPTER_GONE.name: scale_the_adapter_to_nothing,
    outcomes.KUBELET_STOPPED.name: stop_the_kubelet,
    outcomes.PROMETHEUS_DELETED.name: delete_prometheus,
}
BROKEN = [state for state in outcomes.STATES if state not in (outcomes.BARE, outcomes.CONVERGED)]
STEPS = [
    pytest.param(state, step, tag, outcome, id=f"{state.name}-{step}-{tag}")
    for state in BROKEN
    for step, (tag, outcome) in enumerate([*((tag, outcome) for tag, outcome in state.together.items()), *state.then])
]


@pytest.mark.parametrize(("state", "step", "tag", "outcome"), STEPS)
def test_a_tag_alone_on_a_partly_broken_cluster(state: State, step: int, tag: str, outcome: Outcome) -> None:
    runs = runs_in(state.name)
    if step < len(state.together):
        check(runs[tag], outcome)
    else:
        check(run_playbook("site", "--tags", tag), outcome)


def test_at_the_end_a_plain_run_has_nothing_to_do() -> None:
    check(run_playbook("site"), outcomes.NOTHING)
