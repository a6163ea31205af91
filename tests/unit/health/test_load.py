"""What is read from the samples of a load: goals, steps, and why it stopped."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import load as scale_run
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.goal import (
    Goal,
    Run,
    Sample,
    ScalingError,
    find_steps,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.load import Terms, as_data, observe, wait_for_rest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.observer import Observer, seen_by
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError, Listing

METRIC = "demo_app_button_clicks_per_second"
TERMS = Terms(rate=5, duration=100, hold=3, scale_in=30)
GOAL = Goal("demo", "demo-app", METRIC, 1.0, 1, 10, 0.1)


@pytest.mark.parametrize(
    ("total", "demanded", "enough"),
    [(5, 5, 5), (5.000000000001, 5, 5), (0, 1, 1), (50, 10, 10), (10.5, 10, 10), (8.2, 9, 8), (2.1, 3, 2)],
)
def test_replicas_that_a_load_demands(total, demanded, enough):
    assert (GOAL.replicas(total), GOAL.enough(total)) == (demanded, enough)


def test_goal_of_an_autoscaler_takes_its_own_tolerance():
    found = Goal.of(autoscaler(1), {})
    assert (found.metric, found.target, found.minimum, found.maximum, found.tolerance) == (METRIC, 1.0, 1, 10, 0.1)
    other = autoscaler(1)
    other["spec"]["behavior"] = {"scaleUp": {"tolerance": "50m"}}
    assert Goal.of(other, {}).tolerance == pytest.approx(0.05)
    other["spec"]["metrics"] = [{"type": "Object"}]
    with pytest.raises(ScalingError, match="demo/demo-app has no metric of type Pods or Resource"):
        Goal.of(other, {})


def requesting(*requests: dict[str, str]) -> dict[str, Any]:
    containers = [{"resources": {"requests": entry}} for entry in requests]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


@pytest.mark.parametrize(
    ("name", "target", "metric", "value"),
    [
        ("cpu", {"type": "Utilization", "averageUtilization": 60}, "cpu in millicores", 42),
        ("memory", {"type": "Utilization", "averageUtilization": 60}, "memory in MiB", 38.4),
        ("memory", {"type": "AverageValue", "averageValue": "50Mi"}, "memory in MiB", 50),
    ],
)
def test_goal_of_a_resource_is_told_in_the_unit_of_people(name, target, metric, value):
    scaled = autoscaler(1)
    scaled["spec"]["metrics"] = [{"type": "Resource", "resource": {"name": name, "target": target}}]
    found = Goal.of(scaled, requesting({"cpu": "50m", "memory": "64Mi"}, {"cpu": "20m"}), 25)
    assert (found.metric, found.resource, found.weight) == (metric, name, 25)
    assert found.target == pytest.approx(value)


@pytest.mark.parametrize(
    ("rate", "base", "demanded", "enough"), [(4, 0, 4, 4), (4, 10, 5, 5), (0, 10, 1, 1), (4, 30, 8, 8), (4, 31, 8, 8)]
)
def test_what_a_pod_takes_at_rest_is_not_there_for_requests(rate, base, demanded, enough):
    goal = Goal("demo", "cpu", "cpu in millicores", 30, 1, 8, 0.1, 25, base, "cpu")
    assert (goal.replicas(rate), goal.enough(rate)) == (demanded, enough)


def test_the_average_of_a_resource_is_the_one_the_autoscaler_saw():
    goal = Goal("demo", "memory", "memory in MiB", 38.4, 1, 5, 0.1, 35, 12, "memory")
    seen = {"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "20Mi"}}}
    status = {"status": {"currentMetrics": [{"type": "Pods"}, seen]}}
    assert seen_by(status, goal) == pytest.approx(20)
    assert seen_by({}, goal) is None


def sample(t, load, metric, desired, ready) -> Sample:
    return Sample(float(t), load, metric, metric, ready, ready, ready, desired)


def test_steps_are_found_in_the_order_of_the_chain():
    samples = [
        sample(0, False, 0.0, 1, 1),
        sample(1, True, 0.0, 1, 1),
        sample(10, True, 1.05, 1, 1),
        sample(20, True, 1.2, 1, 1),
        sample(30, True, 2.0, 3, 1),
        sample(35, True, 2.0, 3, 3),
        sample(60, True, 1.5, 5, 3),
        sample(65, True, 1.0, 5, 5),
        sample(80, False, 1.0, 5, 5),
        sample(120, False, 0.1, 2, 5),
    ]
    assert find_steps(samples, GOAL, 5) == {
        "load_start": 1,
        "metric_over_target": 20,
        "decision": 30,
        "first_new_pod_ready": 35,
        "demanded_ready": 65,
        "load_end": 80,
        "scale_in": 120,
    }


def test_steps_that_did_not_happen_are_none():
    steps = find_steps([sample(0, False, None, 1, 1)], GOAL, 5)
    assert set(steps.values()) == {None}


def autoscaler(desired: int, metric: float = 0.0) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "demo", "name": "demo-app"},
        "spec": {
            "minReplicas": 1,
            "maxReplicas": 10,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-app"},
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": METRIC}, "target": {"averageValue": "1"}}}],
        },
        "status": {
            "desiredReplicas": desired,
            "currentReplicas": desired,
            "conditions": [{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "ok"}],
            "currentMetrics": [
                {
                    "type": "Pods",
                    "pods": {"metric": {"name": METRIC}, "current": {"averageValue": f"{metric * 1000:.0f}m"}},
                }
            ],
        },
    }


class World:
    """A cluster whose clock is the number of samples taken: each look at the autoscaler is one second."""

    def __init__(self, desired, ready=None, loaded=range(2, 40), rate=5.0):
        self.desired, self.ready, self.loaded, self.rate = desired, ready or desired, loaded, rate
        self.second, self.stopped = 0, False

    def get(self, api_version, kind, name, namespace=None):
        if kind == "Deployment":
            return {"spec": {"selector": {"matchLabels": {"app": "demo-app"}}}}
        self.second += 1
        return autoscaler(self.desired(self.second), self.metric())

    def metric(self):
        return self.rate / self.ready(self.second) if self.loading() else 0.0

    def loading(self):
        return self.second in self.loaded and not self.stopped

    def list(self, api_version, kind, namespace=None, label_selector=None, field_selector=None):
        if kind == "Event":
            return Listing([], "1")
        pods = [
            self.pod(f"app-{number}", number < self.ready(self.second)) for number in range(self.desired(self.second))
        ]
        state = {"running": {}} if self.loading() else {"terminated": {"exitCode": 0}}
        load = {
            "metadata": {"name": "load-x", "namespace": "demo", "labels": {"batch.kubernetes.io/job-name": "load"}},
            "spec": {"initContainers": [{"name": "attack"}], "containers": [{"name": "report"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [{"name": "attack", "state": state}]},
        }
        return Listing([*pods, load], "1")

    @staticmethod
    def pod(name, ready):
        state = "True" if ready else "False"
        problem = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
        return {
            "metadata": {"name": name, "namespace": "demo", "labels": {"app": "demo-app"}},
            "status": {"conditions": [{"type": "Ready", "status": state}] + ([] if ready else [problem])},
        }

    def raw(self, path, query=None):
        if "/log" in path:
            return {"requests": 100, "success": 0.0, "errors": ["connection refused"]}
        count = self.ready(self.second)
        value = f"{self.metric() * 1000:.0f}m"
        return {"items": [{"describedObject": {"name": f"app-{number}"}, "value": value} for number in range(count)]}

    def stop(self):
        self.stopped = True


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(scale_run.time, "sleep", lambda seconds: None)
    # Time as the samples count it, so that a run of minutes takes none.
    seconds = itertools.count(1000)
    monkeypatch.setattr(scale_run.time, "time", lambda: float(next(seconds)))


def observed(world):
    said: list[str] = []
    observer = Observer(world, "demo", "demo-app", "load")
    run, failure = observe(observer, TERMS, 1, world.stop, said.append)
    return run, failure, said


class Chosen(World):
    """A workload with another selector."""

    def __init__(self, selector):
        super().__init__(lambda second: 1)
        self.selector, self.asked = selector, []

    def get(self, api_version, kind, name, namespace=None):
        found = super().get(api_version, kind, name, namespace)
        return {"spec": {"selector": self.selector}} if kind == "Deployment" else found

    def raw(self, path, query=None):
        self.asked.append(path)
        return super().raw(path, query)


def test_the_metric_is_asked_for_with_all_of_a_workloads_selector():
    world = Chosen({"matchExpressions": [{"key": "app", "operator": "In", "values": ["demo-app"]}]})
    with ThreadPoolExecutor(1) as pool:
        observer = Observer(world, "demo", "demo-app")
        sample = observer.sample(pool, Run(observer.goal, 5, observer.began))
    assert sample.pods == 1
    assert [path.partition("?")[2] for path in world.asked] == ["labelSelector=app+in+%28demo-app%29"]


@pytest.mark.parametrize("selector", [None, {}])
def test_a_workload_without_a_selector_is_not_observed(selector):
    with pytest.raises(ScalingError, match=r"Deployment demo/demo-app: .*chooses no pods in particular"):
        Observer(Chosen(selector), "demo", "demo-app")


def test_a_load_that_scales_out_is_ended_early_and_watched_until_scale_in():
    world = World(lambda second: 1 if second < 10 else 5 if second < 25 else 4, loaded=range(3, 90))
    run, failure, said = observed(world)
    assert not failure and world.stopped
    steps = run.steps()
    assert steps["demanded_ready"] < steps["load_end"] < steps["scale_in"]
    assert any("load 5/s  metric 5.00/1  desired 1  ready 1" in line for line in said)
    data = as_data(run, TERMS, [(10.0, 4.9)], failure)
    assert data["steps"]["load_start"] == 0 and data["samples"][0]["t"] < 0
    assert data["demanded"] == 5 and len(data["pods"]) == 5


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (World(lambda second: 1, rate=0.0), ["never exceeded its target", "0% succeeded", "connection refused"]),
        (World(lambda second: 1), ["never asked for more", "it complains about nothing"]),
        (
            World(lambda second: 5 if second > 10 else 1, ready=lambda second: 1),
            ["did not become ready", "Unschedulable: Insufficient cpu"],
        ),
        (
            World(lambda second: 3 if second > 10 else 1),
            ["demand 5 replicas; 3 were ready when the load ended after", "asked for 3 at most"],
        ),
        (World(lambda second: 1, loaded=range(0)), ["the load did not start within 60 s"]),
        (World(lambda second: 5 if second > 10 else 1), ["did not scale in within 30 s after the load"]),
    ],
)
def test_failure_names_the_step_and_the_reason(world, words):
    _, failure, _ = observed(world)
    for word in words:
        assert word in failure


def test_rest_is_waited_for_and_missed_with_a_reason():
    wait_for_rest(
        Observer(World(lambda second: 1 if second > 5 else 4, loaded=range(0)), "demo", "demo-app"),
        1,
        60,
        print,
    )
    with pytest.raises(ScalingError, match=r"did not come to rest within 20 s: 4 replicas desired \(minimum 1\)"):
        wait_for_rest(Observer(World(lambda second: 4), "demo", "demo-app"), 1, 20, print)


def test_missing_autoscaler_says_what_to_run():
    world = World(lambda second: 1)
    world.get = lambda *_: None
    with pytest.raises(ScalingError, match="with --tags hpa"):
        Observer(world, "demo", "demo-app")


def test_metric_api_that_refuses_is_no_accident():
    world = World(lambda second: 1)

    def refuse(path, query=None):
        raise ApiError("the server is currently unable to handle the request", 503)

    world.raw = refuse
    _, failure, _ = observed(world)
    assert "unable to handle the request" in failure


def test_a_sample_that_took_too_long_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is later than the one before, as on a busy machine."""
    clock, slept = itertools.count(0.0, 0.7), []
    monkeypatch.setattr(scale_run.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(scale_run.time, "sleep", slept.append)
    observer = SimpleNamespace(sample=lambda _pool, _run: None)
    list(itertools.islice(scale_run.ticks(observer, None, None, 0.5), 4))
    assert len(slept) == 3
    assert min(slept) >= 0
