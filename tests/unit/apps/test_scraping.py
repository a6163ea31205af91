"""Scrape jobs of a Prometheus without operator: targets, each once, and their labels."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps import scraping
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import App
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import app_objects
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps

META = "__meta_kubernetes_"
ENTRY: dict[str, Any] = {
    "name": "shop",
    "namespace": "shop",
    "workload": "deployment/shop",
    "scrape": {"port": "web"},
    "scale_on": {"metric": "http_requests_total", "target": 10},
    "replicas": {"min": 1, "max": 20},
}
POD = {
    "namespace": "shop",
    "pod_name": "shop-5d9f-x2x7v",
    "pod_phase": "Running",
    "pod_controller_kind": "ReplicaSet",
    "pod_controller_name": "shop-5d9f",
    "pod_container_name": "shop",
    "pod_container_port_name": "web",
    "pod_container_port_number": "8080",
}
ENDPOINT = {**POD, "service_name": "shop", "endpointslice_port_name": "web", "endpointslice_port": "8080"}


def app(**changes: Any) -> App:
    (found,) = parse_apps([ENTRY | changes])
    return found


def target(job: dict[str, Any], discovered: dict[str, str], path: str = "/metrics") -> dict[str, str] | None:
    """Return the labels of a discovered target after a job's relabelings, or None if the job drops it."""
    labels = {f"{META}{name}": value for name, value in discovered.items()}
    labels |= {"job": job["job_name"], "__metrics_path__": job.get("metrics_path", path), "__scheme__": "http"}
    for rule in job["relabel_configs"]:
        joined = rule.get("separator", ";").join(labels.get(name, "") for name in rule.get("source_labels", []))
        found = re.fullmatch(rule.get("regex", "(.*)"), joined)
        match rule.get("action", "replace"):
            case "keep" if not found:
                return None
            case "drop" if found:
                return None
            case "keepequal" if joined != labels.get(rule["target_label"], ""):
                return None
            case "replace" if found:
                value = rule.get("replacement", "$1").replace("$1", found.group(1) if found.groups() else "")
                labels[rule["target_label"]] = value
    return {name: value for name, value in labels.items() if value and not name.startswith((META, "__tmp"))}


def job(name: str, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [entry for entry in jobs if entry["job_name"] == name]
    return found


def app_job(**changes: Any) -> dict[str, Any]:
    found = app(**changes)
    assert found.scrape
    return scraping.standalone_scrape_config(found, found.scrape)


def annotated(what: str, *apps: App) -> dict[str, Any]:
    return job(f"annotated-{what}", scraping.annotated_jobs(apps))


# -- an app's own job --


def test_an_app_is_scraped_with_the_labels_of_a_monitor() -> None:
    assert target(app_job(), POD) == {
        "job": "shop",
        "namespace": "shop",
        "pod": "shop-5d9f-x2x7v",
        "container": "shop",
        "endpoint": "web",
        "__metrics_path__": "/metrics",
        "__scheme__": "http",
    }


def test_how_an_app_is_scraped() -> None:
    found = app_job(scrape={"port": 8080, "path": "/m", "interval": 10, "scheme": "https"})
    assert (found["scrape_interval"], found["metrics_path"], found["scheme"]) == ("10s", "/m", "https")
    assert found["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["shop"]}}]
    assert target(found, POD) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"pod_controller_name": "shop-front-5d9f"},
        {"pod_controller_kind": "StatefulSet"},
        {"pod_container_port_name": "admin"},
        {"pod_phase": "Succeeded"},
    ],
)
def test_other_pods_and_ports_are_left_out(other: dict[str, str]) -> None:
    assert target(app_job(), POD | other) is None


def test_a_stateful_set_controls_its_pods_itself() -> None:
    found = app_job(workload="statefulset/shop")
    assert target(found, POD) is None
    assert target(found, POD | {"pod_controller_kind": "StatefulSet", "pod_controller_name": "shop"})


def test_an_app_behind_a_service() -> None:
    found = app_job(scrape={"port": "web", "service": "shop"})
    labels = target(found, ENDPOINT)
    assert labels
    assert (labels["service"], labels["job"], labels["pod"]) == ("shop", "shop", "shop-5d9f-x2x7v")
    assert target(found, ENDPOINT | {"service_name": "shop-headless"}) is None
    assert target(app_job(scrape={"port": 8080, "service": "shop"}), ENDPOINT)


# -- what is annotated --

ANNOTATED = {"pod_annotation_prometheus_io_scrape": "true"}
ANNOTATED_SERVICE = {"service_annotation_prometheus_io_scrape": "true"}


def test_annotated_pods_are_scraped() -> None:
    assert target(annotated("pods"), POD) is None
    labels = target(annotated("pods"), POD | ANNOTATED | {"pod_label_app_kubernetes_io_name": "store"})
    assert labels
    assert (labels["job"], labels["namespace"], labels["pod"]) == ("store", "shop", "shop-5d9f-x2x7v")


def test_annotated_services_are_scraped() -> None:
    assert target(annotated("services"), ENDPOINT) is None
    labels = target(annotated("services"), ENDPOINT | ANNOTATED_SERVICE)
    assert labels
    assert (labels["job"], labels["service"], labels["endpoint"]) == ("shop", "shop", "web")
    named = {"service_label_app_kubernetes_io_name": "store"}
    assert (target(annotated("services"), ENDPOINT | ANNOTATED_SERVICE | named) or {})["job"] == "store"


@pytest.mark.parametrize(("what", "found"), [("pod", POD | ANNOTATED), ("service", ENDPOINT | ANNOTATED_SERVICE)])
def test_annotations_say_where_and_how(what: str, found: dict[str, str]) -> None:
    its = annotated(f"{what}s")
    note = f"{what}_annotation_prometheus_io_"
    assert target(its, found | {f"{note}port": "8080"})
    assert target(its, found | {f"{note}port": "9102"}) is None
    labels = target(its, found | {f"{note}path": "/m", f"{note}scheme": "https"})
    assert labels
    assert (labels["__metrics_path__"], labels["__scheme__"]) == ("/m", "https")


@pytest.mark.parametrize("scrape", [{"port": "web"}, {"port": 8080}, {"port": "http", "service": "shop"}])
def test_what_an_apps_own_job_scrapes_is_not_scraped_twice(scrape: dict[str, Any]) -> None:
    known = app(scrape=scrape)
    for what, found in (("pods", POD | ANNOTATED), ("services", ENDPOINT | ANNOTATED_SERVICE)):
        assert target(annotated(what), found)
        assert target(annotated(what, known), found) is None
        assert target(annotated(what, known), found | {"namespace": "other"})


def test_other_ports_of_an_app_are_scraped_when_annotated() -> None:
    other = {"pod_container_port_name": "exporter", "pod_container_port_number": "9102"}
    assert target(annotated("pods", app()), POD | ANNOTATED | other)


def test_an_annotated_pod_behind_an_annotated_service_is_scraped_once() -> None:
    both = ENDPOINT | ANNOTATED | ANNOTATED_SERVICE
    assert target(annotated("pods"), both)
    assert target(annotated("services"), both) is None


def test_ports_that_a_service_does_not_lead_to_are_not_scraped() -> None:
    beside = {name: value for name, value in ENDPOINT.items() if not name.startswith("endpointslice")}
    assert target(annotated("services"), beside | ANNOTATED_SERVICE) is None


# -- components --

COMPONENTS = ["node_exporter", "kube_state_metrics", "metrics_server", "prometheus_adapter"]


def component_jobs() -> list[dict[str, Any]]:
    return scraping.component_jobs(COMPONENTS, "up;")


def test_only_components_that_are_there_have_jobs() -> None:
    names = [entry["job_name"] for entry in scraping.component_jobs(["node_exporter"], "up;")]
    assert names == ["kubelet", "kubelet-cadvisor", "apiserver", "node-exporter"]


def test_kubelets_are_scraped_as_by_the_operator() -> None:
    for name, path in (("kubelet", "/metrics"), ("kubelet-cadvisor", "/metrics/cadvisor")):
        labels = target(job(name, component_jobs()), {"node_name": "n1"})
        assert labels == {
            "job": "kubelet",
            "node": "n1",
            "metrics_path": path,
            "__metrics_path__": path,
            "__scheme__": "http",
        }


def test_nodes_go_by_their_names() -> None:
    found = {
        **ENDPOINT,
        "service_name": "node-exporter",
        "endpointslice_port_name": "http",
        "pod_node_name": "n1",
    }
    labels = target(job("node-exporter", component_jobs()), found)
    assert labels
    assert (labels["instance"], labels["job"]) == ("n1", "node-exporter")


def test_samples_about_other_pods_keep_their_labels() -> None:
    kept = {entry["job_name"] for entry in component_jobs() if entry.get("honor_labels")}
    assert kept == {"kubelet", "kubelet-cadvisor", "kube-state-metrics"}


def test_the_token_is_shown_only_to_what_is_verified() -> None:
    for entry in [*component_jobs(), *scraping.annotated_jobs(), app_job()]:
        if "authorization" in entry:
            assert entry["scheme"] == "https"
            assert entry["tls_config"]["ca_file"]
            assert "insecure_skip_verify" not in entry["tls_config"]
    with_token = {entry["job_name"] for entry in component_jobs() if "authorization" in entry}
    assert with_token == {"kubelet", "kubelet-cadvisor", "apiserver", "metrics-server", "prometheus-adapter"}


# -- the ConfigMap of apps --


def test_jobs_and_rules_of_apps_are_in_one_config_map() -> None:
    apps = parse_apps([ENTRY, ENTRY | {"name": "shop-2", "namespace": "other"}])
    (found,) = [item for item in app_objects(apps, "standalone") if item["kind"] != "HorizontalPodAutoscaler"]
    assert (found["metadata"]["namespace"], found["metadata"]["name"]) == ("prom", "prometheus-apps")
    files = {name: yaml.safe_load(text) for name, text in found["data"].items()}
    names = [entry["job_name"] for entry in files["scrape.yml"]["scrape_configs"]]
    assert names == ["app/shop/shop", "app/other/shop-2"]
    groups = [group["name"] for group in files["rules.yml"]["groups"]]
    assert groups == ["autoscaled-app-shop", "autoscaled-app-shop-2"]
    assert target(job("annotated-pods", files["annotated.yml"]["scrape_configs"]), POD | ANNOTATED) is None
    assert not any("&id" in text for text in found["data"].values())


def test_without_apps_there_is_no_config_map() -> None:
    cpu = {"resource": "cpu", "target": "60%"}
    entry = {name: value for name, value in ENTRY.items() if name != "scrape"} | {"scale_on": cpu}
    kinds = {item["kind"] for item in app_objects(parse_apps([entry]), "standalone")}
    assert kinds == {"HorizontalPodAutoscaler"}
