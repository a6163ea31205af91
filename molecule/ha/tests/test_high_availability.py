"""Scaling goes on while any single pod of the pipeline, or a worker, dies; and while metrics.k8s.io changes its owner.

The tests of this file follow each other: in the end a worker is dead.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from load import SYNC, Clicks, Conditions, Watched
from playbook_runs import REPOSITORY, Run, run_playbook

KUBECONFIG = REPOSITORY / ".state" / "ha" / "kubeconfig"
CONTROL_PLANE, DYING = "10.89.90.11", "ha-w2"
CLICKS, TARGET = 10, 2.5
# "At most two syncs of the autoscaler": one comes as usual, two fail, and the next one has the metric again.
LONGEST_GAP = 3 * SYNC
RESOURCE_METRICS = ("apiregistration.k8s.io/v1", "APIService", "v1beta1.metrics.k8s.io")
PODS = {
    "prometheus": ("monitoring", "app.kubernetes.io/name=prometheus", 2),
    "adapter": ("custom-metrics", "app.kubernetes.io/name=prometheus-adapter", 2),
    "alertmanager": ("monitoring", "app.kubernetes.io/name=alertmanager", 3),
    "metrics-server": ("kube-system", "k8s-app=metrics-server", 2),
    "operator": ("monitoring", "app.kubernetes.io/name=prometheus-operator", 1),
}

# What an autoscaler's question needs on its way, and the condition that says whether it is there.
WAY = {
    ("v1", "Node", None): "Ready",
    ("v1", "Pod", "custom-metrics"): "Ready",
    ("v1", "Pod", "monitoring"): "Ready",
    ("apiregistration.k8s.io/v1", "APIService", None): "Available",
}


@pytest.fixture(scope="module")
def api() -> kube.Api:
    """The cluster's API."""
    return kube.connect(KUBECONFIG)


@pytest.fixture(scope="module")
def autoscaler() -> Iterator[Watched]:
    """The demo app's autoscaler, under a constant load."""
    with (
        Clicks(CONTROL_PLANE, 30080, CLICKS),
        Watched(kube.connect(KUBECONFIG), "demo", "demo-app") as watched,
    ):
        until(lambda: watched.readings and watched.readings[-1].wanted >= CLICKS / TARGET, 180)
        yield watched


def until(reached: Callable[[], Any], longest: float, told: Callable[[], str] = lambda: "") -> None:
    """Wait for a state; `told` says what was seen meanwhile."""
    deadline = time.monotonic() + longest
    while not reached():
        assert time.monotonic() < deadline, f"not within {longest:g} s{told()}"
        time.sleep(0.2)


def ready_pods(api: kube.Api, kind: str) -> list[dict[str, Any]]:
    namespace, selector, _count = PODS[kind]
    return [
        pod
        for pod in api.list("v1", "Pod", namespace, selector).items
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            entry["type"] == "Ready" and entry["status"] == "True" for entry in pod["status"].get("conditions") or []
        )
    ]


@pytest.mark.parametrize("kind", PODS)
def test_there_are_as_many_as_there_shall_be_spread_over_both_workers(api: kube.Api, kind: str) -> None:
    count = PODS[kind][2]
    found = ready_pods(api, kind)
    assert len(found) == count
    nodes = Counter(pod["spec"]["nodeName"] for pod in found)
    assert len(nodes) == min(count, 2), nodes
    assert max(nodes.values()) - min(nodes.values()) <= 1
    budgets = [
        budget
        for budget in api.list("policy/v1", "PodDisruptionBudget", PODS[kind][0]).items
        if budget["spec"]["selector"]["matchLabels"].items() <= found[0]["metadata"]["labels"].items()
    ]
    assert [budget["status"]["disruptionsAllowed"] for budget in budgets] == [1] * (count > 1)


def test_the_control_plane_soon_gives_up_connecting_and_workers_are_left_alone() -> None:
    tries = ["sysctl", "--values", "net.ipv4.tcp_syn_retries"]
    for machine, expected in (("ha-cp1", 3), (DYING, 6)):
        found = subprocess.run(["podman", "exec", machine, *tries], check=True, capture_output=True, text=True)
        assert int(found.stdout) == expected, machine


@pytest.mark.parametrize("kind", ["operator", "alertmanager", "metrics-server", "adapter", "prometheus"])
def test_scaling_goes_on_when_a_pod_is_killed(api: kube.Api, autoscaler: Watched, kind: str) -> None:
    namespace, _selector, count = PODS[kind]
    victim = ready_pods(api, kind)[-1]["metadata"]
    died = time.monotonic()
    api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{victim['name']}", body={"gracePeriodSeconds": 0})
    # With two syncs lost, which is allowed, the third value comes with the fifth sync.
    autoscaler.wait_for(3, died, 8 * SYNC)
    until(lambda: len([pod for pod in ready_pods(api, kind) if pod["metadata"]["uid"] != victim["uid"]]) == count, 180)
    report(f"{kind} {victim['name']} killed", autoscaler, died)
    assert autoscaler.gap(died) <= LONGEST_GAP


def report(what: str, autoscaler: Watched, since: float) -> None:
    print(
        f"\n{what}: longest time between two values of the metric {autoscaler.gap(since):.1f} s "
        f"(a sync is {SYNC:g} s), ScalingActive not true for {autoscaler.inactive(since):.1f} s, whole again after "
        f"{time.monotonic() - since:.0f} s"
    )


# -- metrics.k8s.io changes its owner --

# Up and down between 70m and 130m within four minutes, as a metric that stays the same cannot be seen to be read.
BURNER = """
import time
while True:
    began, used = time.monotonic(), time.process_time()
    share = 0.7 + 0.6 * abs(1 - time.time() % 240 / 120)
    while time.process_time() - used < 0.01 * share:
        pass
    time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
"""


def burner(image: str) -> list[dict[str, Any]]:
    """Three pods that use about 100m of CPU each, and an autoscaler that is content with that."""
    labels, metadata = {"app": "burner"}, {"name": "burner", "namespace": "burner"}
    resources = {"requests": {"cpu": "50m", "memory": "32Mi"}}
    container = {"name": "burner", "image": image, "command": ["python3", "-c", BURNER], "resources": resources}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 0}
    target = {"type": "AverageValue", "averageValue": "100m"}
    # Whoever says that they use nothing, or twice as much, makes it scale at once.
    behavior = {"stabilizationWindowSeconds": 0, "tolerance": "0.6"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "burner"}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "burner"},
                "minReplicas": 1,
                "maxReplicas": 6,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
                "behavior": {"scaleDown": behavior, "scaleUp": behavior},
            },
        },
    ]


class Asking:
    """Asks metrics.k8s.io for all nodes twice a second, and remembers what was not answered in full."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.asked = 0
        self.problems: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        api = kube.connect(KUBECONFIG)
        while not self._stop.wait(0.5):
            self.asked += 1
            try:
                found = len(api.raw("/apis/metrics.k8s.io/v1beta1/nodes")["items"])
                if found != self.nodes:
                    self.problems.append(f"{found} nodes")
            except kube.ApiError as error:
                self.problems.append(str(error))

    def end(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join()


def switch(owner: str, *arguments: str) -> Run:
    tags = "metrics_server,prometheus_adapter,verify"
    return run_playbook("site", "--tags", tags, "--extra-vars", f"resource_metrics_owner={owner}", *arguments)


def owner(api: kube.Api) -> str:
    found = api.get(*RESOURCE_METRICS)
    assert found is not None
    return found["spec"]["service"]["name"]


def deployment(api: kube.Api, namespace: str, name: str) -> dict[str, Any] | None:
    return api.get("apps/v1", "Deployment", name, namespace)


@pytest.fixture(scope="module")
def burning(api: kube.Api) -> Iterator[Watched]:
    """An autoscaler on CPU that has its metric."""
    app = deployment(api, "demo", "demo-app")
    assert app is not None
    for obj in burner(app["spec"]["template"]["spec"]["containers"][0]["image"]):
        api.apply(obj, "test")
    with Watched(kube.connect(KUBECONFIG), "burner", "burner") as watched:
        until(lambda: watched.readings and watched.readings[-1].active, 120)
        watched.wait_for(2, time.monotonic(), 90)
        yield watched
    api.delete("v1", "Namespace", "burner")


@pytest.mark.parametrize("to", ["adapter", "metrics_server"])
def test_metrics_k8s_io_changes_its_owner_and_nobody_notices(api: kube.Api, burning: Watched, to: str) -> None:
    workload = ("kube-system", "metrics-server")
    assert owner(api) == ("metrics-server" if to == "adapter" else "prometheus-adapter")
    uid = api.get(*RESOURCE_METRICS)["metadata"]["uid"]  # type: ignore[index]
    predicted = switch(to, "--check")
    assert predicted.returncode == 0, predicted.messages()
    asking, began = Asking(len(api.list("v1", "Node").items)), time.monotonic()
    run = switch(to)
    assert run.returncode == 0, run.messages()
    burning.wait_for(3, time.monotonic(), 5 * SYNC)
    asking.end()
    print(f"\nto {to}: {asking.asked} questions, {len(asking.problems)} not answered in full")
    report(f"metrics.k8s.io to {to}", burning, began)
    assert asking.problems == []
    assert burning.gap(began) <= LONGEST_GAP
    assert {reading.wanted for reading in burning.readings if reading.at >= began} == {3}
    assert owner(api) == ("prometheus-adapter" if to == "adapter" else "metrics-server")
    assert api.get(*RESOURCE_METRICS)["metadata"]["uid"] == uid  # type: ignore[index]
    assert (deployment(api, *workload) is None) == (to == "adapter")
    assert len(top("nodes")) == asking.nodes
    assert len(top("pods", "--namespace=burner")) == 3
    assert actions(predicted) == actions(run)
    again = switch(to)
    assert again.returncode == 0, again.messages()
    assert again.results("changed") == {}


def top(*arguments: str) -> list[str]:
    """Lines of kubectl top."""
    kubectl = ["podman", "exec", "ha-cp1", "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]
    found = subprocess.run([*kubectl, "top", *arguments, "--no-headers"], check=True, capture_output=True, text=True)
    return found.stdout.splitlines()


def actions(run: Run) -> dict[str, str]:
    """What a run did, or would do, with each object."""
    return {
        f"{entry['kind']} {entry['namespace']}/{entry['name']}": entry["action"]
        for results in run.results("objects").values()
        for result in results
        for entry in result["objects"]
        if entry["action"] not in ("unchanged", "kept")
    }


# -- a worker dies --


def test_scaling_goes_on_when_a_worker_dies(api: kube.Api, autoscaler: Watched) -> None:
    nodes = {kind: sorted(pod["spec"]["nodeName"] for pod in ready_pods(api, kind)) for kind in PODS}
    print(f"\npods are on {nodes}")
    autoscaler.wait_for(2, time.monotonic(), 4 * SYNC)
    before = autoscaler.readings[-1].wanted
    with Conditions(api, WAY) as way:
        died = time.monotonic()
        subprocess.run(["podman", "kill", DYING], check=True, capture_output=True)

        def told() -> str:
            return f"\nthe autoscaler:\n{autoscaler.trail(died)}\non the way to its metric:\n{way.trail(died)}"

        # What would be too much for those that are left comes on top: it has to be seen, and acted upon.
        with Clicks(CONTROL_PLANE, 30080, CLICKS):
            until(lambda: autoscaler.readings[-1].wanted > before, 120, told)
            decided = time.monotonic() - died
            until(lambda: autoscaler.count(died) >= 4, 8 * SYNC, told)
    print(f"\n{DYING} dead: {before} pods were wanted, more after {decided:.0f} s{told()}")
    report(f"{DYING} dead", autoscaler, died)
    assert autoscaler.gap(died) <= LONGEST_GAP
