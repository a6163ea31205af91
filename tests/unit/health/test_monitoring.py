"""The check of Prometheus' targets where no operator says what there should be."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.checks.monitoring import prometheus_targets
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.facts import PODS, Facts
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.link import Finding
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.settings import Seen, Settings
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import service_path

PROMETHEUS = "prom/prometheus:9090"
SERVICES = "/api/v1/services"
ANNOTATED = {"prometheus.io/scrape": "true"}


def item(name: str, annotated: bool, **more: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": name, "annotations": ANNOTATED if annotated else {}}
    return {"metadata": metadata, **more}


def target(pool: str, url: str, **labels: str) -> dict[str, Any]:
    return {"scrapePool": pool, "scrapeUrl": url, "health": "up", "labels": {"namespace": "shop", **labels}}


class Cluster:
    """A cluster whose answers are these."""

    def __init__(self) -> None:
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        self.targets = [
            target("app/shop/shop", "http://10.0.0.1:8080/metrics", pod="shop-1"),
            target("annotated-services", "http://10.0.0.2:9102/metrics", pod="store-1", service="store"),
            target("annotated-pods", "http://10.0.0.3:9102/metrics", pod="queue-1"),
        ]
        self.jobs = ["app/shop/shop", "annotated-services", "annotated-pods"]
        self.services = [item("store", True), item("shop", False)]
        self.pods = [item("queue-1", True, **ready), item("ended", True), item("shop-1", False, **ready)]

    def raw(self, path: str) -> Any:
        answers: dict[str, Any] = {
            "/api/v1/targets?state=active": {"activeTargets": self.targets},
            "/api/v1/scrape_pools": {"scrapePools": self.jobs},
        }
        for end, data in answers.items():
            if path == service_path(PROMETHEUS, end):
                return {"status": "success", "data": data}
        return {"items": {SERVICES: self.services, PODS: self.pods}[path]}


def look(cluster: Any, *pools: str) -> Finding:
    now = datetime.datetime.now(datetime.UTC)
    settings = Settings(now, PROMETHEUS, "standalone", {}, Seen(now), pools=frozenset(pools))
    return prometheus_targets.look(Facts(cluster), settings)


def test_all_that_is_to_be_scraped_is_scraped() -> None:
    finding = look(Cluster())
    assert (finding.state, finding.evidence) == ("ok", "3 targets up in 3 pools")


def test_the_job_of_an_app_is_for_the_links_of_the_app() -> None:
    cluster = Cluster()
    cluster.targets.pop(0)
    assert look(cluster).evidence == "job app/shop/shop has no target"
    assert look(cluster, "app/shop/shop").state == "ok"


def test_nothing_needs_to_be_annotated() -> None:
    cluster = Cluster()
    cluster.targets, cluster.services, cluster.pods = cluster.targets[:1], [], []
    assert look(cluster).state == "ok"


@pytest.mark.parametrize(
    ("gone", "evidence"),
    [
        (0, "job app/shop/shop has no target"),
        (1, "service shop/store is annotated, and has no target"),
        (2, "pod shop/queue-1 is annotated, and has no target"),
    ],
)
def test_what_has_no_target_is_named(gone: int, evidence: str) -> None:
    cluster = Cluster()
    del cluster.targets[gone]
    finding = look(cluster)
    assert finding.state == "broken"
    assert evidence in finding.evidence


def test_what_is_scraped_twice_is_named() -> None:
    cluster = Cluster()
    cluster.targets.append(target("annotated-pods", "http://10.0.0.1:8080/metrics", pod="shop-1"))
    finding = look(cluster)
    assert finding.cause == "scraped_twice"
    assert "http://10.0.0.1:8080/metrics is scraped by annotated-pods and by app/shop/shop" in finding.evidence


def test_a_target_that_is_down_is_named() -> None:
    cluster = Cluster()
    cluster.targets[0] |= {"health": "down", "lastError": "connection refused"}
    assert "app/shop/shop http://10.0.0.1:8080/metrics is down: connection refused" in look(cluster).evidence
