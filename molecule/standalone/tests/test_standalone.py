"""Prometheus without operator does all that the other one does; each takes the other's place on a living cluster.

The tests of this file follow each other: the last ones switch to the operator and back while an app is under load.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import OF_LABEL
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.chain import GENERAL
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import objects
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import SERVICES, prometheus_query
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report import dashboards
from playbook_runs import REPOSITORY, Run, run_playbook

STATE = REPOSITORY / ".state" / "standalone"
LONGEST = 240.0
# What Kubernetes makes by itself, and makes again.
DERIVED = {
    "CertificateSigningRequest",
    "ControllerRevision",
    "Endpoints",
    "EndpointSlice",
    "Event",
    "IPAddress",
    "Lease",
    "Pod",
    "ReplicaSet",
}
# The usual time that recommendations count for: a new Prometheus has no past, and reads rates too low for a minute.
PATIENT = {"demo_app_scale_down_stabilization": 300}
METRICS = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/*/demo_app_button_clicks_per_second"
SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
PRESSURE: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "pressure", "namespace": "demo"},
        "data": {"targets": "POST http://demo-app.demo.svc:8080/click-button\n"},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pressure", "namespace": "demo"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "attack",
                    "image": "localhost/kubescale/vegeta:v12.13.0",
                    "command": ["/vegeta"],
                    # As the role load has it; for as long as the pod is there.
                    "args": [
                        *["attack", "-rate=5/1s", "-duration=0", "-keepalive=false", "-timeout=5s"],
                        *["-targets=/pressure/targets", "-output=/dev/null"],
                    ],
                    "securityContext": SECURITY,
                    "volumeMounts": [{"name": "pressure", "mountPath": "/pressure"}],
                }
            ],
            "volumes": [{"name": "pressure", "configMap": {"name": "pressure"}}],
        },
    },
]


def api() -> kube.Api:
    """A fresh client: what the server serves is asked again."""
    return kube.connect(STATE / "kubeconfig", patience=kube.RESTART)


def until(reached: Callable[[], Any]) -> float:
    """Wait for a state, and say after how many seconds it was there."""
    start = time.monotonic()
    while not reached():
        assert time.monotonic() < start + LONGEST, f"not within {LONGEST:g} s: {reached}"
        time.sleep(0.2)
    return round(time.monotonic() - start, 1)


def everything() -> set[str]:
    """Every object of the cluster that somebody made, by kind and name; revisions are kept, and left out."""
    client = api()
    kinds = {
        resource.group_kind: resource
        for resource in client.resources().values()
        if "list" in resource.verbs and resource.kind not in DERIVED and not resource.group.endswith("metrics.k8s.io")
    }
    return {
        f"{name} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
        for name, resource in kinds.items()
        for item in client.list(resource.api_version, resource.kind, metadata_only=True).items
        if OF_LABEL not in item["metadata"].get("labels", {})
    }


def monitoring_kinds() -> list[str]:
    """Kinds of the operator that the API server knows."""
    return [kind for version, kind in api().resources() if version.startswith("monitoring.coreos.com/")]


def autoscaler() -> dict[str, Any]:
    """The demo app's autoscaler as it is."""
    found = api().get("autoscaling/v2", "HorizontalPodAutoscaler", "demo-app", "demo")
    assert found
    return found


def replicas() -> int:
    """Ready pods of the demo app."""
    found = api().get("apps/v1", "Deployment", "demo-app", "demo")
    assert found
    return int(found["status"].get("readyReplicas", 0))


@dataclass
class Watch:
    """What an app under load went through: numbers of replicas, and the longest time without its metric, in seconds."""

    replicas: set[int] = field(default_factory=set)
    wanted: set[int] = field(default_factory=set)
    without_metric: float = 0.0


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Look at the demo app every half second, from another thread."""
    seen, ended = Watch(), threading.Event()
    # Impatient: an API that is away for a while is what is looked for.
    client = kube.connect(STATE / "kubeconfig")

    def look() -> None:
        last = time.monotonic()

        def gap() -> float:
            return max(seen.without_metric, round(time.monotonic() - last, 1))

        while not ended.wait(0.5):
            found = client.get("apps/v1", "Deployment", "demo-app", "demo")
            assert found
            seen.replicas.add(found["status"].get("readyReplicas", 0))
            seen.wanted.add(found["spec"]["replicas"])
            with contextlib.suppress(kube.ApiError):
                # An answer that was long in coming ends a gap as one after many refusals does.
                if client.raw(METRICS)["items"]:
                    seen.without_metric, last = gap(), time.monotonic()
        seen.without_metric = gap()

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield seen
        finally:
            ended.set()
        looking.result()


def site(**variables: Any) -> Run:
    """Run site.yml with other variables than the inventory has."""
    run = run_playbook("site", "--extra-vars", json.dumps(variables))
    assert run.returncode == 0, run.messages() or run.output
    return run


def test_every_check_of_the_chain_holds() -> None:
    run = run_playbook("verify")
    assert run.returncode == 0, run.messages()
    (result,) = [result for results in run.results("checks").values() for result in results]
    held = {check["id"]: check["ok"] for check in result["checks"]}
    assert set(held.values()) == {True}
    assert {name for name, link in GENERAL.items() if not link.advisory} | {"app_demo-app"} <= held.keys()


def test_there_is_no_trace_of_the_operator() -> None:
    assert monitoring_kinds() == []
    assert [name for name in everything() if "operator" in name or "monitoring.coreos.com" in name] == []


def test_every_query_of_every_dashboard_returns_series() -> None:
    queries = [query for page in dashboards.load_dashboards() for query in dashboards.panel_queries(page)]
    assert queries
    # Those of panels that say why they are empty on a healthy cluster may be: no alert is pending, no pod has a limit.
    needed = [query for query in queries if not query.nothing]
    # A rate over a minute has no value before the second scrape, for example of answers to a query that was new.
    for query in needed:
        until(partial(prometheus_query, api(), query.expr, SERVICES["standalone"]))


def test_a_changed_configuration_is_loaded_without_a_restart() -> None:
    (pod,) = api().list("v1", "Pod", "prom").items
    run = run_playbook("site", "--tags", "prometheus", "--extra-vars", '{"prometheus_scrape_interval": 14}')
    assert run.returncode == 0, run.messages()
    (changed,) = [
        [item["name"] for item in result["objects"] if item["action"] != "unchanged"]
        for results in run.results("changed").values()
        for result in results
    ]
    assert changed == ["prometheus-config"]
    # So that the kubelet looks at the pod's files at once, not within a minute.
    api().patch("v1", "Pod", pod["metadata"]["name"], {"metadata": {"annotations": {"test/reminder": "1"}}}, "prom")
    path = "/api/v1/namespaces/prom/services/prometheus:9090/proxy/api/v1/status/config"
    until(lambda: "scrape_interval: 14s" in api().raw(path)["data"]["yaml"])
    (same,) = api().list("v1", "Pod", "prom").items
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    assert same["status"]["containerStatuses"][0]["restartCount"] == 0
    assert run_playbook("site", "--tags", "prometheus").total("changed") == 1


def test_load_scales_the_app() -> None:
    run = run_playbook("load")
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}
    load = json.loads((STATE / "report.json").read_text(encoding="utf-8"))["load"]
    assert max(sample["ready"] for sample in load["samples"]) == load["demanded"] > 1
    assert load["received"], "the report has no load as Prometheus saw it"


@pytest.fixture(scope="module")
def _pressure() -> Iterator[None]:
    """Five clicks per second as long as flavours are switched, and the pods that this asks for."""
    site_run = run_playbook("site", "--tags", "hpa", "--extra-vars", json.dumps(PATIENT))
    assert site_run.returncode == 0, site_run.messages()
    for item in PRESSURE:
        api().apply(item, "test")
    until(lambda: replicas() == 5 and autoscaler()["status"]["desiredReplicas"] == 5)
    yield
    for item in PRESSURE:
        api().delete("v1", item["kind"], "pressure", "demo")


FIGURES: dict[str, Any] = {}


def switch(flavor: str) -> None:
    """Switch to a flavour; replicas stay, and the autoscaler works again."""
    with watched() as seen:
        start = time.monotonic()
        run = site(prometheus_flavor=flavor, **PATIENT)
        seconds = round(time.monotonic() - start, 1)
        until(lambda: objects.holds(autoscaler(), "ScalingActive"))
    assert run.results("changed")
    FIGURES[flavor] = {"seconds": seconds, "without_metric": seen.without_metric}
    print(FIGURES)
    assert (seen.replicas, seen.wanted) == ({5}, {5}), FIGURES


@pytest.fixture(scope="module")
def before(_pressure: None) -> set[str]:
    """All objects before the first switch."""
    return everything()


@pytest.mark.usefixtures("before")
def test_a_switch_to_the_operator_keeps_replicas_and_leaves_nothing() -> None:
    switch("operator")
    assert api().get("v1", "Namespace", "prom") is None
    assert [name for name in everything() if "prom/" in name or name.endswith("/prometheus-standalone")] == []
    assert site(prometheus_flavor="operator", **PATIENT).results("changed") == {}


def test_a_switch_back_keeps_replicas_and_leaves_nothing(before: set[str]) -> None:
    switch("standalone")
    assert monitoring_kinds() == []
    assert everything() == before
    assert site(**PATIENT).results("changed") == {}
