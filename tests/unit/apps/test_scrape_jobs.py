"""Scrape jobs are loaded into running Prometheus pods."""

from __future__ import annotations

import base64
import gzip
import threading
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps import scrape_jobs
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.scrape_jobs import (
    Job,
    ScrapeJobsError,
    load_jobs,
    load_jobs_meanwhile,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError, Event, Listing
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import Ref
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import NotReadyError

MONITOR = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": {"name": "shop", "namespace": "shop"},
    "spec": {
        "selector": {},
        "podMetricsEndpoints": [
            {
                "port": "web",
                "interval": "5s",
                "path": "/metrics",
                "relabelings": [
                    {
                        "action": "keep",
                        "sourceLabels": ["__meta_kubernetes_pod_controller_name"],
                        "regex": "shop-[a-z]+",
                    },
                    {"targetLabel": "job", "replacement": "shop"},
                ],
            }
        ],
    },
}
NAME = "podMonitor/shop/shop/0"
WANTED = Job(NAME, "5s", "/metrics", "", frozenset({"web", "shop-[a-z]+"}))
# As the operator writes it, and as Prometheus says it back: with all defaults.
CONFIGURED = {
    "job_name": NAME,
    "scrape_interval": "5s",
    "metrics_path": "/metrics",
    "scheme": "http",
    "relabel_configs": [
        {"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"},
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "web", "action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_controller_name"], "regex": "shop-[a-z]+", "action": "keep"},
        {"source_labels": ["namespace"], "regex": "(.*)", "target_label": "namespace", "action": "replace"},
    ],
}
OTHER = {"job_name": "kubelet", "scrape_interval": "15s"}


def configuration(*jobs: dict[str, Any]) -> str:
    return yaml.safe_dump({"global": {"scrape_interval": "15s"}, "scrape_configs": list(jobs)})


def service_monitor(**endpoint: Any) -> dict[str, Any]:
    metadata = {"name": "queue", "namespace": "shop"}
    spec = {"selector": {}, "endpoints": [endpoint]}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": metadata, "spec": spec}


def config_map(*jobs: dict[str, Any], name: str = "prometheus-apps") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "prom"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"scrape.yml": configuration(*jobs)},
    }


def test_what_a_monitor_asks_for():
    assert scrape_jobs.wanted_jobs([MONITOR]) == [WANTED]


@pytest.mark.parametrize(
    ("endpoint", "words"), [({"port": "web"}, {"web"}), ({"targetPort": 8080}, {"8080"}), ({"portNumber": 80}, {"80"})]
)
def test_a_port_has_a_name_or_a_number(endpoint, words):
    (job,) = scrape_jobs.wanted_jobs([service_monitor(**endpoint, scheme="HTTPS")])
    assert job == Job("serviceMonitor/shop/queue/0", scheme="https", words=frozenset(words))


def test_a_config_map_asks_for_the_jobs_it_has():
    found = scrape_jobs.wanted_jobs([config_map(CONFIGURED, OTHER), config_map(OTHER, name="prometheus-rules")])
    assert [job.name for job in found] == [NAME, "kubelet"]
    assert found[0].words == {"web", "shop-[a-z]+", "(.*)"}


def test_what_is_not_about_scraping_asks_for_nothing():
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "shop"}}
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "shop"}}
    assert scrape_jobs.wanted_jobs([autoscaler, rule]) == []


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"scrape_interval": "10s"}, False),
        ({"metrics_path": "/other"}, False),
        ({"relabel_configs": [{"regex": "web"}]}, False),
        ({"job_name": "podMonitor/shop/shop/1"}, False),
        # Not said by the monitor.
        ({"scheme": "https"}, True),
    ],
)
def test_a_job_is_there_when_it_is_as_asked_for(change, fits):
    jobs = scrape_jobs.jobs_of(configuration(OTHER, CONFIGURED | change))
    assert scrape_jobs.lacking([WANTED], jobs) == ([] if fits else [NAME])


@pytest.mark.parametrize(
    ("wanted", "loaded"), [("60s", "1m"), ("90s", "1m30s"), ("3600s", "1h"), ("1500ms", "1s500ms")]
)
def test_prometheus_writes_an_interval_in_its_own_units(wanted, loaded):
    jobs = scrape_jobs.jobs_of(configuration({"job_name": NAME, "scrape_interval": loaded}))
    assert scrape_jobs.lacking([Job(NAME, wanted)], jobs) == []
    assert scrape_jobs.lacking([Job(NAME, "5s")], jobs) == [NAME]


def test_a_configuration_without_jobs_has_none():
    assert scrape_jobs.jobs_of("") == scrape_jobs.jobs_of("global: {}") == {}


def pod(name: str, ready: bool = True, namespace: str = "monitoring") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {},
        "status": {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def secret(*jobs: dict[str, Any]) -> dict[str, Any]:
    packed = base64.b64encode(gzip.compress(configuration(*jobs).encode())).decode()
    metadata = {"name": "prometheus-k8s", "namespace": "monitoring", "resourceVersion": "7"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"prometheus.yaml.gz": packed}}


class FakeApi:
    """A cluster whose operator has written the ``secrets`` one after the other, and whose pods load when changed.

    ``looks`` is how often a changed pod is asked before it has loaded; None: it never does.
    """

    def __init__(self, *pods: dict[str, Any], secrets: list[dict[str, Any]], looks: int | None = 2) -> None:
        self.pods, self.secrets, self.looks = pods, secrets, looks
        self.namespace = pods[0]["metadata"]["namespace"] if pods else ""
        self.loaded = {pod["metadata"]["name"]: configuration(OTHER) for pod in pods}
        self.changed: dict[str, int] = {}
        self.asked: list[str] = []

    def list(self, api_version, kind, namespace=None, label_selector=None):
        if kind == "Secret":
            assert label_selector == "managed-by=prometheus-operator"
            return Listing(self.secrets[:1], "7")
        assert kind == "Pod"
        self.asked.append(f"{namespace} {label_selector}")
        return Listing(list(self.pods), "7")

    def watch(self, api_version, kind, label_selector=None, resource_version=None, timeout=0):
        assert (kind, resource_version) == ("Secret", "7")
        for item in self.secrets[1:]:
            yield Event("MODIFIED", item)

    def get(self, *_identity):
        return None

    def patch(self, api_version, kind, name, body, namespace):
        assert (kind, namespace) == ("Pod", self.namespace)
        assert list(body["metadata"]["annotations"]) == ["fleet.kubescale.io/reminder"]
        self.changed[name] = 0

    def raw(self, path):
        name = path.split("/")[6].removesuffix(":9090")
        assert path.startswith(f"/api/v1/namespaces/{self.namespace}/pods/{name}:9090/proxy/api/v1/")
        if name in self.changed:
            self.changed[name] += 1
            if self.looks is not None and self.changed[name] > self.looks:
                self.loaded[name] = configuration(OTHER, CONFIGURED)
        if path.endswith("/status/config"):
            return {"status": "success", "data": {"yaml": self.loaded[name]}}
        assert path.endswith("/scrape_pools")
        return {"status": "success", "data": {"scrapePools": [*scrape_jobs.jobs_of(self.loaded[name])]}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(scrape_jobs, "_POLL_INTERVAL", 0.001)


def test_pods_that_lack_a_job_are_changed_once_the_operator_has_written_it():
    api = FakeApi(pod("prometheus-k8s-0"), pod("prometheus-k8s-1"), secrets=[secret(OTHER), secret(CONFIGURED)])
    api.loaded["prometheus-k8s-1"] = configuration(CONFIGURED)
    outcome = load_jobs(api, [MONITOR])
    assert (outcome.jobs, outcome.pods) == ([NAME], ["prometheus-k8s-0"])
    assert api.changed == {"prometheus-k8s-0": 3}
    assert api.asked == ["monitoring app.kubernetes.io/name=prometheus,app.kubernetes.io/instance=k8s"]


def test_without_an_operator_nobody_writes_and_the_names_of_the_jobs_have_to_do():
    api = FakeApi(pod("prometheus-a", namespace="prom"), secrets=[])
    outcome = load_jobs(api, [config_map(CONFIGURED)], "standalone")
    assert outcome.pods == ["prometheus-a"]
    assert api.changed == {"prometheus-a": 3}
    assert api.asked == ["prom app.kubernetes.io/name=prometheus"]
    assert load_jobs(api, [config_map(CONFIGURED)], "standalone").pods == []


def test_who_has_all_jobs_is_left_alone():
    api = FakeApi(pod("prometheus-k8s-0"), secrets=[])
    api.loaded["prometheus-k8s-0"] = configuration(CONFIGURED)
    assert load_jobs(api, [MONITOR]).pods == []
    assert api.changed == {}


def test_who_is_not_ready_yet_is_left_alone():
    api = FakeApi(pod("prometheus-k8s-0", ready=False), secrets=[])
    assert load_jobs(api, [MONITOR]).pods == []
    assert api.changed == {}


def test_nothing_to_scrape_asks_nobody():
    api = FakeApi(secrets=[])
    assert load_jobs(api, []).pods == []
    assert api.asked == []


def test_check_mode_names_the_pods_and_changes_none():
    api = FakeApi(pod("prometheus-k8s-0"), secrets=[])
    assert load_jobs(api, [MONITOR], check=True).pods == ["prometheus-k8s-0"]
    assert api.changed == {}


def test_an_operator_that_writes_nothing_is_named_with_the_jobs():
    api = FakeApi(pod("prometheus-k8s-0"), secrets=[secret(OTHER)])
    with pytest.raises(NotReadyError, match=f"the operator has not written {NAME}"):
        load_jobs(api, [MONITOR], timeout=0.2)
    assert api.changed == {}


def test_a_prometheus_that_loads_nothing_is_named_with_the_jobs():
    api = FakeApi(pod("prometheus-k8s-0"), secrets=[secret(CONFIGURED)], looks=None)
    with pytest.raises(ScrapeJobsError, match=f"pod monitoring/prometheus-k8s-0 did not load {NAME}"):
        load_jobs(api, [MONITOR], timeout=0.2)


def test_a_long_wait_says_what_for(monkeypatch):
    monkeypatch.setattr(scrape_jobs, "_NEXT_LINE", 0.0)
    said: list[str] = []
    load_jobs(FakeApi(pod("prometheus-k8s-0"), secrets=[secret(CONFIGURED)]), [MONITOR], say=said.append)
    assert set(said) == {f"prometheus-k8s-0 has not loaded {NAME} yet"}


AUTOSCALER = Ref("autoscaling/v2", "HorizontalPodAutoscaler", "shop", "shop")
WAIT = 10.0


class Starting(FakeApi):
    """A cluster whose Prometheus becomes ready during a watch and lacks the job."""

    def __init__(self, name: str = "prometheus-k8s-0", namespace: str = "monitoring", refusals: int = 0) -> None:
        super().__init__(pod(name, False, namespace), secrets=[secret(CONFIGURED)])
        self.refusals = refusals
        self.before_ready: dict[str, int] | None = None
        self.config_map: dict[str, Any] | None = None
        self.may_start, self.looked, self.over, self.left = (threading.Event() for _ in range(4))
        self.may_start.set()

    def watch(self, api_version, kind, namespace=None, label_selector=None, resource_version=None, timeout=0):
        if kind == "Secret":
            yield from super().watch(api_version, kind, label_selector, resource_version)
            return
        assert (kind, resource_version) == ("Pod", None)
        self.asked.append(f"{namespace} {label_selector}")
        try:
            yield Event("ADDED", dict(self.pods[0]))
            self.before_ready = dict(self.changed)
            assert self.may_start.wait(WAIT)
            self.pods = (pod(self.pods[0]["metadata"]["name"], namespace=self.namespace),)
            yield Event("MODIFIED", dict(self.pods[0]))
            self.looked.set()
            self.over.wait(WAIT)
        finally:
            self.left.set()

    def raw(self, path):
        if self.refusals:
            self.refusals -= 1
            raise ApiError("no route to the pod")
        return super().raw(path)

    def get(self, api_version, kind, name, namespace=None):
        assert (api_version, kind, namespace, name) == ("v1", "ConfigMap", "prom", "prometheus-apps")
        return self.config_map


def wait_meanwhile(api: Starting, *members: dict[str, Any], pending: Ref = AUTOSCALER) -> list[str]:
    """Return the progress lines of a wait that ends after Prometheus was examined."""
    said: list[str] = []
    try:
        with load_jobs_meanwhile(api, members, [pending], said.append):
            assert api.looked.wait(WAIT)
    finally:
        api.over.set()
    return said


def test_a_prometheus_that_starts_without_the_jobs_loads_them_as_soon_as_it_is_ready():
    api = Starting()
    said = wait_meanwhile(api, MONITOR)
    assert api.before_ready == {}
    assert api.changed == {"prometheus-k8s-0": 3}
    assert NAME in scrape_jobs.jobs_of(api.loaded["prometheus-k8s-0"])
    assert set(api.asked) == {"monitoring app.kubernetes.io/name=prometheus,app.kubernetes.io/instance=k8s"}
    assert said == ["scrape jobs were missing and are loaded now: prometheus-k8s-0"]


def test_a_prometheus_that_starts_with_the_jobs_is_left_alone():
    api = Starting()
    api.loaded["prometheus-k8s-0"] = configuration(CONFIGURED)
    assert wait_meanwhile(api, MONITOR) == []
    assert api.changed == {}


def test_without_an_operator_the_jobs_are_those_of_the_config_map():
    api = Starting("prometheus-a", "prom")
    api.config_map = config_map(CONFIGURED)
    wait_meanwhile(api)
    assert api.changed == {"prometheus-a": 3}
    assert set(api.asked) == {"prom app.kubernetes.io/name=prometheus"}


@pytest.mark.parametrize(
    ("members", "pending"),
    [([MONITOR], Ref("apps/v1", "Deployment", "shop", "shop")), ([], AUTOSCALER)],
    ids=["no autoscaler is waited for", "autoscalers need no job"],
)
def test_who_needs_no_jobs_asks_no_prometheus(members, pending):
    api = Starting()
    with load_jobs_meanwhile(api, members, [pending]):
        pass
    assert (api.asked, api.changed) == ([], {})


def test_a_prometheus_that_cannot_be_asked_yet_is_asked_again(monkeypatch):
    monkeypatch.setattr(scrape_jobs, "_NEXT_LINE", 0.001)
    api = Starting(refusals=2)
    said = wait_meanwhile(api, MONITOR)
    assert NAME in scrape_jobs.jobs_of(api.loaded["prometheus-k8s-0"])
    assert [line for line in said if "no route to the pod" in line] == said[:2]


def test_nothing_is_loaded_any_more_when_the_wait_has_ended():
    api = Starting()
    api.may_start.clear()
    with pytest.raises(NotReadyError, match="not in time"), load_jobs_meanwhile(api, [MONITOR], [AUTOSCALER]):
        raise NotReadyError("not in time", [])
    api.may_start.set()
    assert api.left.wait(WAIT)
    assert api.changed == {}
