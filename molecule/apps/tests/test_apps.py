"""Apps of a user: an entry for each, one run, and they scale; the entry goes, and takes exactly its objects along.

The tests of this file follow each other, on one cluster.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import OF_LABEL
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from playbook_runs import REPOSITORY, Run, run_playbook, start_playbook
from watching import LONGEST, Objects, Witness, until, watched

FILES = Path(__file__).resolve().parents[1] / "files"
STATE = REPOSITORY / ".state" / "apps"
CUSTOM_METRICS = "/apis/custom.metrics.k8s.io/v1beta2"
AUTOSCALER = ("autoscaling/v2", "HorizontalPodAutoscaler")
DEPLOYMENT = ("apps/v1", "Deployment")
# Seconds that a user waits at most: from the run's begin until the metric is served, and from load to decision.
SERVED_WITHIN = 60
DECIDED_WITHIN = 30
# Requests per second for the shop: at 10 per pod they demand 8 pods. With 7 there are 11.3 for each, beyond the
# tolerance of a tenth: within it, an autoscaler that comes to one less may stay there. Less is decided upon too late.
LOAD = 79


@dataclass(frozen=True)
class Kind:
    """One way of scaling: what all pods of the app show first, what one pod shows then, and what that demands."""

    zero: dict[str, Any]
    values: dict[str, Any]
    replicas: int
    requests: dict[str, str] = field(default_factory=lambda: {"cpu": "5m", "memory": "24Mi"})
    # Whether its pods have another container, which does nothing.
    beside: bool = False
    # Name of the app that shows the values, if it is not the one that is scaled.
    shown_by: str = ""


NO_BACKLOG = {"gauges": {"first_backlog": 0, "second_backlog": 0}}
HALF_BUSY = {"millicores": 130}
REQUESTS = {"cpu": "100m", "memory": "24Mi"}
KINDS = {
    "rate": Kind({"counters": {"jobs_total": 0}}, {"counters": {"jobs_total": 35}}, 4),
    "irate": Kind({"counters": {"calls_total": 0}}, {"counters": {"calls_total": 25}}, 3),
    "gauge": Kind({"gauges": {"open_orders": 0}}, {"gauges": {"open_orders": 28}}, 3),
    # Observations of 0.4 are in the bucket from 0.25 to 0.5, and 95 % of it is 0.4875: twice the target, nearly.
    "quantile": Kind({"histograms": {"reply_seconds": [0, 0]}}, {"histograms": {"reply_seconds": [10, 0.4]}}, 2),
    "ratio": Kind({"gauges": {"busy_workers": 0, "workers": 10}}, {"gauges": {"busy_workers": 8}}, 3),
    "of-service": Kind({"gauges": {"service_backlog": 0}}, {"gauges": {"service_backlog": 18}}, 2),
    "of-namespace": Kind({"gauges": {"namespace_backlog": 0}}, {"gauges": {"namespace_backlog": 28}}, 3),
    "of-ingress": Kind(
        {"gauges": {'ingress_connections{ingress="front"}': 0}},
        {"gauges": {'ingress_connections{ingress="front"}': 18}},
        2,
    ),
    "external": Kind({}, {"gauges": {'queue_length{queue="orders"}': 12}}, 3, shown_by="broker"),
    # 130 of 100 millicores, half of that aimed at.
    "cpu": Kind({}, HALF_BUSY, 3, REQUESTS),
    "memory": Kind({}, {"mebibytes": 130}, 3, REQUESTS),
    # The one beside it has no request, so that only this container's can be looked at.
    "container": Kind({}, HALF_BUSY, 3, REQUESTS, beside=True),
    # Each metric alone demands less.
    "two": Kind(NO_BACKLOG, {"gauges": {"first_backlog": 18, "second_backlog": 28}}, 3),
    # 13 are more than 10, and less than half more.
    "tolerant": Kind({"gauges": {"visitors": 0}}, {"gauges": {"visitors": 13}}, 1),
}
RATIO = "busy_workers_over_workers"
NOTHING_TO_DIVIDE_BY = {"gauges": {"busy_workers": 8, "workers": 0}}
BROKER = {"gauges": {'queue_length{queue="orders"}': 0, 'queue_length{queue="returns"}': 500}}
ACTIVE = dict.fromkeys(KINDS, "True")
INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "front", "namespace": "kinds"},
    "spec": {"defaultBackend": {"service": {"name": "of-ingress", "port": {"name": "web"}}}},
}


@pytest.fixture(scope="module")
def api() -> kube.Api:
    """The cluster's API."""
    return kube.connect(STATE / "kubeconfig")


def say(**figures: float | str) -> None:
    """Print figures, for the one who runs the tests."""
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))


# -- a user's manifests --------------------------------------------------------------------------------------------


def manifests(namespace: str, apps: dict[str, Kind]) -> Iterable[dict[str, Any]]:
    """Yield what a user's apps consist of, without anything that is about scaling."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    code = (FILES / "app.py").read_text(encoding="utf-8")
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "app", "namespace": namespace},
        "data": {"app.py": code},
    }
    for name, kind in apps.items():
        yield service(namespace, name)
        yield deployment(namespace, name, kind)


def service(namespace: str, name: str) -> dict[str, Any]:
    ports = [{"name": "web", "port": 8080, "targetPort": "web"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def deployment(namespace: str, name: str, kind: Kind) -> dict[str, Any]:
    containers = [container("app", kind.zero, kind.requests), *([IDLE] if kind.beside else [])]
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": containers,
            "volumes": [{"name": "app", "configMap": {"name": "app"}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


def container(name: str, values: dict[str, Any], requests: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        # The collection's image with a Python; what runs in it is the test's own.
        "image": "localhost/kubescale/demo-app:0.1.0",
        "command": ["python3", "/app/app.py"],
        "env": [{"name": "VALUES", "value": json.dumps(values)}],
        "ports": [{"name": "web", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "web"}, "periodSeconds": 1, "timeoutSeconds": 5},
        "resources": {"requests": requests},
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }


IDLE = {
    "name": "idle",
    "image": "localhost/kubescale/demo-app:0.1.0",
    "command": ["python3", "-c", "import signal; signal.pause()"],
}


def deploy(api: kube.Api, objects: Iterable[dict[str, Any]]) -> None:
    """Apply manifests as a user does, and wait until their Deployments are available."""
    namespaces = set()
    for obj in objects:
        api.apply(obj, "kubectl")
        if obj["kind"] == "Deployment":
            namespaces.add(obj["metadata"]["namespace"])
    for namespace in namespaces:
        until(api, *DEPLOYMENT, namespace, lambda found: [name for name, item in found.items() if not ready(item)])


def ready(item: dict[str, Any], replicas: int | None = None) -> bool:
    """Tell whether a Deployment has the replicas that it shall have (or so many), and all are ready."""
    wanted = item["spec"]["replicas"]
    return replicas in (None, wanted) and item.get("status", {}).get("readyReplicas", 0) == wanted


def pods(api: kube.Api, namespace: str, name: str) -> list[str]:
    return [item["metadata"]["name"] for item in api.list("v1", "Pod", namespace, f"app={name}").items]


def show(api: kube.Api, namespace: str, pod: str, values: dict[str, Any]) -> None:
    """Have a pod show other values from now on."""
    api.request("PUT", f"/api/v1/namespaces/{namespace}/pods/{pod}:8000/proxy/values", body=values)


def scale_apps(entries: list[dict[str, Any]], *arguments: str) -> Run:
    """Do the user's one run."""
    run = run_playbook("site", "--tags", "hpa", "--extra-vars", json.dumps({"autoscaled_apps": entries}), *arguments)
    assert run.returncode == 0, run.messages() or run.output
    return run


def entries(file: str) -> list[dict[str, Any]]:
    return yaml.safe_load((FILES / file).read_text(encoding="utf-8"))["autoscaled_apps"]


def untouched(witness: Witness, *changing: str) -> None:
    """Require that nothing was done to the replicas of any app, but for those that are named."""
    for seen in (witness.replicas, witness.desired):
        moved = {name: values for name, values in seen.items() if len(values) > 1 and name[1] not in changing}
        assert moved == {}


# -- six lines and one run -----------------------------------------------------------------------------------------


def test_six_lines_and_one_run_from_an_empty_namespace_to_a_metric(api: kube.Api) -> None:
    lines = (FILES / "shop.yml").read_text(encoding="utf-8").splitlines()[2:]
    assert len(lines) == 6
    deploy(api, manifests("shop", {"shop": Kind({}, {}, 1)}))
    served: list[float] = []
    start = time.monotonic()

    def ask() -> None:
        asked(lambda: values(api, "shop", "http_requests_per_second"))
        served.append(time.monotonic() - start)

    asking = threading.Thread(target=ask)
    asking.start()
    with watched(api) as witness:
        run = scale_apps(entries("shop.yml"))
    took = time.monotonic() - start
    asking.join()
    assert served
    say(seconds_to_the_metric=round(served[0], 1), seconds_of_the_run=round(took, 1))
    assert run.results("changed")
    assert served[0] < SERVED_WITHIN
    # The demo app was there before, and did not notice.
    assert witness.desired[("demo", "demo-app")] == [1]
    untouched(witness, "shop")


def asked(answer: Callable[[], object]) -> None:
    """Ask until the answer is yes: what the metrics APIs serve cannot be watched."""
    deadline = time.monotonic() + LONGEST
    while not answer() and time.monotonic() < deadline:
        threading.Event().wait(0.2)
    assert answer()


def values(api: kube.Api, namespace: str, metric: str) -> list[dict[str, Any]]:
    """Values of a metric for the pods of a namespace; none while the API does not serve it."""
    try:
        return api.raw(f"{CUSTOM_METRICS}/namespaces/{namespace}/pods/*/{metric}")["items"]
    except kube.ApiError as error:
        if error.status not in (404, 503):
            raise
        return []


def test_load_is_decided_upon_and_gets_the_replicas_that_it_demands(api: kube.Api) -> None:
    variables = {
        "autoscaled_apps": entries("shop.yml"),
        "load_app": "shop",
        "load_request": "GET http://shop.shop.svc:8080/",
        "load_series": 'http_requests_total{namespace="shop"}',
        "load_rate": LOAD,
        "load_hold": 5,
    }
    finish = start_playbook("load", "--extra-vars", json.dumps(variables))
    demanded = math.ceil(LOAD / 10)
    until(api, *DEPLOYMENT, "shop", lambda found: not ready(found["shop"], demanded))
    # After the load nothing waits for 300 s: with the entries of the next tests the shop gets a behavior.
    deploy(api, [*manifests("kinds", {**KINDS, "broker": Kind(BROKER, {}, 1)}), INGRESS])
    started = time.monotonic()
    scale_apps(entries("kinds.yml"))
    took = time.monotonic() - started
    run = finish()
    assert run.returncode == 0, run.messages()
    load = json.loads((STATE / "report.json").read_text(encoding="utf-8"))["load"]
    say(seconds_to_the_decision=load["steps"]["decision"], seconds_to_all_replicas=load["steps"]["demanded_ready"])
    say(seconds_of_the_run_with_16_apps=round(took, 1))
    assert load["demanded"] == demanded
    assert max(sample["ready"] for sample in load["samples"]) == demanded
    assert load["steps"]["decision"] < DECIDED_WITHIN


# -- every kind of scale_on ----------------------------------------------------------------------------------------


def missing_kinds(replicas: dict[str, int]) -> Callable[[Objects], list[str]]:
    """Name the autoscalers that do not ask for the given replicas yet, with what they say."""

    def missing(found: Objects) -> list[str]:
        return [
            f"{name}: {desired(found.get(name))} in place of {wanted}; {found.get(name, {}).get('status')}"
            for name, wanted in replicas.items()
            if desired(found.get(name)) != wanted
        ]

    return missing


def desired(item: dict[str, Any] | None) -> int | None:
    return (item or {}).get("status", {}).get("desiredReplicas")


def condition(item: dict[str, Any] | None, name: str) -> dict[str, Any]:
    conditions = (item or {}).get("status", {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == name), {})


def test_every_kind_scales_to_what_its_values_demand(api: kube.Api) -> None:
    started = time.monotonic()
    for name, kind in KINDS.items():
        (pod,) = pods(api, "kinds", kind.shown_by or name)
        show(api, "kinds", pod, kind.values)
    demanded = {name: kind.replicas for name, kind in KINDS.items()}
    found = until(api, *AUTOSCALER, "kinds", missing_kinds(demanded))
    say(seconds_to_all_decisions=round(time.monotonic() - started, 1))
    found = until(api, *AUTOSCALER, "kinds", missing_average("tolerant", "13"))
    assert desired(found["tolerant"]) == 1
    assert {name: condition(item, "ScalingActive")["status"] for name, item in found.items()} == ACTIVE
    until(
        api,
        *DEPLOYMENT,
        "kinds",
        lambda found: [name for name, wanted in demanded.items() if not ready(found[name], wanted)],
    )


@pytest.fixture(scope="module")
def next_values(api: kube.Api) -> Iterator[Witness]:
    """Have three apps show other values, all at once, and see what happens to their replicas."""
    with watched(api) as witness:
        (tolerant,), (broker,) = pods(api, "kinds", "tolerant"), pods(api, "kinds", "broker")
        # 3 pods are demanded. The policy allows one more at a time, and then 14 per pod are within the tolerance.
        show(api, "kinds", tolerant, {"gauges": {"visitors": 28}})
        show(api, "kinds", broker, {"gauges": {'queue_length{queue="orders"}': 0}})
        # The one that is busy goes last: without it the others would have a value, and that would be 0.
        ratios = values(api, "kinds", RATIO)
        (busy,) = [item["describedObject"]["name"] for item in ratios if item["value"] != "0"]
        for pod in pods(api, "kinds", "ratio"):
            if pod != busy:
                show(api, "kinds", pod, NOTHING_TO_DIVIDE_BY)
        asked(lambda: len(values(api, "kinds", RATIO)) == 1)
        show(api, "kinds", busy, NOTHING_TO_DIVIDE_BY)
        yield witness


def test_tolerance_and_behavior_arrive(api: kube.Api, next_values: Witness) -> None:
    found = until(api, *AUTOSCALER, "kinds", missing_average("tolerant", "14"))
    # Whatever is demanded, none goes.
    for pod in pods(api, "kinds", "tolerant"):
        show(api, "kinds", pod, {"gauges": {"visitors": 1}})
    behavior = found["tolerant"]["spec"]["behavior"]
    assert behavior["scaleUp"]["tolerance"] == "500m"
    assert behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 15}]
    assert behavior["scaleDown"]["selectPolicy"] == "Disabled"
    until(api, *AUTOSCALER, "kinds", missing_average("tolerant", "1"))
    assert next_values.replicas[("kinds", "tolerant")] == [1, 2]


def test_a_queue_scales_to_zero_and_back(api: kube.Api, next_values: Witness) -> None:
    until(api, *DEPLOYMENT, "kinds", lambda found: not ready(found["external"], 0))
    (broker,) = pods(api, "kinds", "broker")
    show(api, "kinds", broker, {"gauges": {'queue_length{queue="orders"}': 7}})
    until(api, *DEPLOYMENT, "kinds", lambda found: not ready(found["external"], 2))
    assert next_values.replicas[("kinds", "external")] == [3, 0, 2]


def test_a_ratio_to_nothing_scales_neither_out_nor_in(api: kube.Api, next_values: Witness) -> None:
    until(api, *AUTOSCALER, "kinds", missing_activity("ratio", "False"))
    assert next_values.replicas[("kinds", "ratio")] == [3]
    for pod in pods(api, "kinds", "ratio"):
        show(api, "kinds", pod, {"gauges": {"busy_workers": 3, "workers": 10}})
    until(api, *AUTOSCALER, "kinds", missing_activity("ratio", "True"))
    assert next_values.replicas[("kinds", "ratio")] == [3]


def missing_activity(name: str, status: str) -> Callable[[Objects], str]:
    """Say what an autoscaler says of its metrics while that is not the given status."""

    def missing(found: Objects) -> str:
        active = condition(found[name], "ScalingActive")
        return "" if active.get("status") == status else f"{name}: {active}"

    return missing


def missing_average(name: str, average: str) -> Callable[[Objects], str]:
    """Say what an autoscaler reads of its first metric while that is not the given average per pod."""

    def missing(found: Objects) -> str:
        metrics = found[name]["status"].get("currentMetrics") or [{}]
        seen = metrics[0].get("pods", {}).get("current", {}).get("averageValue")
        return "" if seen == average else f"{name} reads {seen}, not {average}"

    return missing


# -- runs that change nothing, or one thing ------------------------------------------------------------------------


def test_a_second_run_changes_nothing(api: kube.Api) -> None:
    with watched(api) as witness:
        started = time.monotonic()
        run = scale_apps(entries("kinds.yml"))
        say(seconds_of_the_run=round(time.monotonic() - started, 1))
    assert run.results("changed") == {}
    untouched(witness)


# What comes and goes by itself.
FLEETING = {"Event", "Lease", "EndpointSlice", "Endpoints", "Pod", "ReplicaSet", "PodMetrics", "NodeMetrics"}


def everything(api: kube.Api) -> set[tuple[str, str, str]]:
    """Every object of the cluster, by kind, namespace and name."""
    kinds = {
        (resource.group, kind): version
        for (version, kind), resource in api.resources().items()
        if "list" in resource.verbs and kind not in FLEETING and not resource.group.endswith("metrics.k8s.io")
    }
    return {
        (kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for (_group, kind), version in kinds.items()
        for item in api.list(version, kind, metadata_only=True).items
        # What a set was to be is kept; each run that wants something else adds to that.
        if OF_LABEL not in item["metadata"].get("labels", {})
    }


def test_an_entry_that_goes_takes_exactly_its_objects_and_leaves_all_replicas(api: kube.Api) -> None:
    before = everything(api)
    left = [entry for entry in entries("kinds.yml") if entry["name"] != "rate"]
    predicted = scale_apps(left, "--check")
    with watched(api) as witness:
        started = time.monotonic()
        run = scale_apps(left)
        say(seconds_of_the_run=round(time.monotonic() - started, 1))
    assert {*predicted.results("changed")} == {*run.results("changed")} != set()
    after = everything(api)
    gone = before - after
    assert after - before == set()
    assert {(namespace, name) for _kind, namespace, name in gone} == {("kinds", "rate")}
    assert {"HorizontalPodAutoscaler", "PodMonitor"} <= {kind for kind, _namespace, _name in gone}
    assert not {"Deployment", "Service"} & {kind for kind, _namespace, _name in gone}
    # The adapter restarted meanwhile, as one of its rules went: no replicas moved, nor did those of the app that left.
    untouched(witness)
    say(
        autoscalers_that_missed_a_value=sum("False" in values for values in witness.active.values()),
        of=len(witness.active),
    )
