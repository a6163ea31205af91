"""Each sample app reads what its callers do, and scales as its load demands; figures are printed (pytest -s)."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.observer import metric_by_pod
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import prometheus_query
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.quantity import quantity
from playbook_runs import REPOSITORY, Run, run_playbook, start_playbook

APPS = {"node": "sample-node", "spring": "sample-spring"} | dict.fromkeys(
    ["cpu", "memory", "cpu-and-memory"], "sample-cpu-memory"
)
HOME = REPOSITORY / ".state" / "samples"
# Seconds between two scrapes of the Spring app, and between those of who read it first.
SCRAPE, FIRST_SCRAPE = 15, 30


@pytest.fixture(scope="module")
def api() -> kube.Api:
    """The cluster's API."""
    return kube.connect(str(HOME / "kubeconfig"))


def load(app: str) -> Callable[[], Run]:
    """Start the usual load on an app; the result is a function that waits for its end."""
    return start_playbook("load", "--extra-vars", json.dumps({"load_app": app}))


def watched(run: Run) -> dict[str, Any]:
    """What a load's observation said."""
    (result,) = [
        result
        for play in run.report["plays"]
        for task in play["tasks"]
        for result in task["hosts"].values()
        if task["task"]["name"].endswith("begin to scale in")
    ]
    return result


def values(api: kube.Api, app: str, metric: str) -> dict[str, float]:
    found = metric_by_pod(api, APPS[app], metric, f"app.kubernetes.io/name={app}")
    return {pod: quantity(value) for pod, value in found.items()}


def test_every_app_is_ready_and_serves_its_metric(api: kube.Api) -> None:
    for app, namespace in APPS.items():
        deployment = api.get("apps/v1", "Deployment", app, namespace)
        assert deployment
        assert deployment["status"]["readyReplicas"] == deployment["status"]["replicas"] >= 1, app
    # Both are at 0 before anybody has called them.
    assert list(values(api, "node", "http_requests_per_second").values()) == [0]
    assert list(values(api, "spring", "hello_counter_per_second").values()) == [0]


class Caller(threading.Thread):
    """Calls the Spring app, waits, calls again, as who read it first did; knows when each call was answered."""

    def __init__(self, api: kube.Api, pause: float) -> None:
        super().__init__(daemon=True)
        self.api, self.pause = api, pause
        self.moments: list[float] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            said = self.api.raw("/api/v1/namespaces/sample-spring/services/spring:8080/proxy/hello")
            assert said == "hello"
            self.moments.append(time.time())
            self.stopped.wait(self.pause)

    def rate(self, start: float, end: float) -> float:
        """Calls per second between two moments."""
        return sum(start < moment <= end for moment in self.moments) / (end - start)


@contextmanager
def calling(api: kube.Api, pause: float) -> Iterator[Caller]:
    caller = Caller(api, pause)
    caller.start()
    try:
        yield caller
    finally:
        caller.stopped.set()
        caller.join()


def scrapes(api: kube.Api, since: float) -> list[tuple[float, float]]:
    """What Prometheus has kept of the counter since a moment: when, and how much."""
    window = int(time.time() - since)
    (series,) = prometheus_query(api, f'hello_counter_total{{namespace="sample-spring"}}[{window}s]')
    return [(float(moment), float(value)) for moment, value in series["values"]]


def test_spring_reads_what_its_callers_do_while_others_are_scaled(api: kube.Api) -> None:
    loads = {app: load(app) for app in ("node", "cpu", "memory")}
    try:
        for pause in (1.0, 0.5):
            check_readings(api, pause)
    finally:
        runs = {app: finish() for app, finish in loads.items()}
    for app, run in runs.items():
        check(app, run)


def check_readings(api: kube.Api, pause: float) -> None:
    """Call the Spring app for a while, and compare what the API says with what was done."""
    with calling(api, pause) as caller:
        began = time.time()
        # Both scrapes that a reading is made of must lie in the time of the calls.
        first = began + 2 * SCRAPE + 2
        seen: list[float] = []
        while (now := time.time()) < first + 2 * SCRAPE:
            assert caller.is_alive(), "a call failed"
            if now > first:
                seen += values(api, "spring", "hello_counter_per_second").values()
            time.sleep(1)
        kept = scrapes(api, began)
    readings = [value for number, value in enumerate(seen) if number == 0 or value != seen[number - 1]]
    made = caller.rate(kept[0][0], kept[-1][0])
    # What a scrape every 30 s would have read.
    slow = [
        (value - earlier) / FIRST_SCRAPE
        for (before, earlier), (moment, value) in zip(kept, kept[2:], strict=False)
        if round(moment - before) == FIRST_SCRAPE
    ]
    print(f"\nspring, {pause:g} s between calls: {made:.3f} calls/s")
    print(f"  read, scraped every {SCRAPE} s: {', '.join(f'{1000 * value:.0f}m' for value in readings)}")
    print(f"  scraped every {FIRST_SCRAPE} s: {', '.join(f'{1000 * value:.0f}m' for value in slow)}")
    assert seen
    assert slow
    # A whole number of calls, by the seconds between two scrapes that follow each other.
    pairs = [(value - earlier) / (moment - before) for (before, earlier), (moment, value) in pairwise(kept)]
    for value in seen:
        assert min(abs(value - pair) for pair in pairs) < 0.002, (value, pairs)
    assert statistics.mean(seen) == pytest.approx(made, abs=1.5 / SCRAPE)
    assert statistics.mean(slow) == pytest.approx(made, abs=1.5 / FIRST_SCRAPE)
    assert made == pytest.approx(1 / pause, rel=0.2)


def check(app: str, run: Run) -> None:
    assert run.returncode == 0, f"{app}: {run.messages()}"
    said = watched(run)
    print(f"{app}: {said['demanded']} replicas demanded; {said['steps']}")
    assert said["demanded"] >= 2, f"{app}: this load proves nothing"
    assert said["steps"]["demanded_ready"] is not None
    assert said["steps"]["scale_in"] is not None


def test_the_others_follow_their_load_and_the_report_shows_it() -> None:
    loads = {app: load(app) for app in ("spring", "cpu-and-memory")}
    for app, finish in loads.items():
        check(app, finish())
    report = json.loads((HOME / "report.json").read_text(encoding="utf-8"))
    assert report["load"]["autoscaler"] in ("sample-spring/spring", "sample-cpu-memory/cpu-and-memory")
    assert report["load"]["ok"]


def test_a_name_that_is_none_is_refused_before_anything_changes() -> None:
    run = run_playbook("site", "--tags", "sample_apps", "--extra-vars", "sample_apps=[node,sprnig]")
    assert run.returncode != 0
    assert "sample_apps[1] = 'sprnig': must be one of cpu_memory, node, spring; did you mean spring?" in run.messages()
    assert run.total("changed") == 0


def test_a_name_that_goes_takes_its_app_along_and_nothing_else(api: kube.Api) -> None:
    before = api.get("apps/v1", "Deployment", "node", "sample-node")
    run = run_playbook("site", "--tags", "sample_apps,hpa", "--extra-vars", "sample_apps=[node]")
    assert run.returncode == 0, run.messages()
    namespaces = {item["metadata"]["name"] for item in api.list("v1", "Namespace").items}
    assert {name for name in namespaces if name.startswith("sample-")} == {"sample-node"}
    autoscalers = api.list("autoscaling/v2", "HorizontalPodAutoscaler").items
    assert {item["metadata"]["name"] for item in autoscalers} == {"demo-app", "node"}
    after = api.get("apps/v1", "Deployment", "node", "sample-node")
    assert before
    assert after
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
