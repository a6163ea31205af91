# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The roles that work on a cluster's API, on a real one without nodes: what a run changes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.drift import describe, examine
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import Options
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.parent import sets_of
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import OF_LABEL, History
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.rollback import Target, plan_rollback, roll_back
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import COMPONENTS
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import connect

import conftest

from .cluster import BINARIES, control_plane, deployments_become_ready, find_binary

APPLIED = list(dict.fromkeys(component.role for component in COMPONENTS))
BINARIES.setdefault("promtool", ("prometheus", "promtool"))

# Nothing answers behind an APIService here, and a namespace only goes away while all of them answer: the two that bring
# one are removed first.
AGGREGATED = ["metrics_server", "prometheus_adapter"]
#: Flannel is for clusters made of machines, and sample apps are there only where they are named.
ROLES = [role for role in APPLIED if role not in (*AGGREGATED, "cni", "sample_apps")]
KINDS = [
    ("v1", "Namespace"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apiregistration.k8s.io/v1", "APIService"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
]
# What Kubernetes puts into every namespace.
OF_NAMESPACES = [("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane of its own: what these roles set up would disturb other tests."""
    with control_plane(tmp_path_factory.mktemp("roles")) as path:
        yield path


@pytest.fixture(scope="module")
def run(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run roles on the control plane; gives the changed objects and the diffs by role."""
    folder = tmp_path_factory.mktemp("play")
    inventory = {"plugin": "kubescale.fleet.clusters", "clusters": {"roles": {"kubeconfig": str(kubeconfig)}}}
    (folder / "clusters.yml").write_text(yaml.safe_dump(inventory))

    def run(*roles: str, check: bool = False, **variables: Any) -> dict[str, Any]:
        play = {
            "hosts": "clusters",
            "gather_facts": False,
            "module_defaults": {"kubescale.fleet.apply_set": {"wait": False}},
            "roles": [f"kubescale.fleet.{role}" for role in roles],
        }
        (folder / "play.yml").write_text(json.dumps([play]))
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"--inventory={folder}/clusters.yml",
            "--diff",
        ]
        command += [*(["--check"] if check else []), f"--extra-vars={json.dumps(variables)}", str(folder / "play.yml")]
        environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        ended = subprocess.run(
            command, cwd=conftest.REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        output, _ = json.JSONDecoder().raw_decode(ended.stdout, ended.stdout.index("{\n"))
        results = [task["hosts"]["roles"] for task in output["plays"][0]["tasks"]]
        return {
            f"{found['kind']} {found['namespace']}/{found['name']}": found["action"]
            for result in results
            for found in result.get("objects", [])
            if found["action"] not in ("unchanged", "kept")
        }

    return run


@pytest.fixture
def everything(kubeconfig: Path) -> Callable[[], set[str]]:
    """Function that names every object of the kinds that roles make, but for parents of sets and revisions."""

    def names() -> set[str]:
        api = connect(kubeconfig)
        return {
            f"{kind} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
            for version, kind in KINDS
            if (version, kind) in api.resources()
            for item in api.list(version, kind).items
            if (kind, item["metadata"]["name"]) not in OF_NAMESPACES
            and item["metadata"].get("labels", {}).keys().isdisjoint(["applyset.kubernetes.io/id", OF_LABEL])
        }

    return names


@pytest.fixture(scope="module")
def applied(run: Run) -> None:
    """All roles, applied twice: the second time nothing may change."""
    first = run(*ROLES, *AGGREGATED)
    assert "created" in first.values()
    assert run(*ROLES, *AGGREGATED) == {}


@pytest.mark.usefixtures("applied")
def test_check_mode_agrees_that_nothing_is_to_do(run: Run) -> None:
    assert run(*ROLES, *AGGREGATED, check=True) == {}


@pytest.mark.usefixtures("applied")
def test_a_changed_rule_is_the_only_change(run: Run) -> None:
    rules = [{"series": "hits_total", "as": "hits_per_second", "window": 60, "function": "rate"}]
    assert run(*ROLES, *AGGREGATED, check=True, prometheus_adapter_rules=rules) == {
        "ConfigMap custom-metrics/adapter-config": "configured",
        "Deployment custom-metrics/prometheus-adapter": "configured",
    }


@pytest.mark.usefixtures("applied")
def test_what_roles_apply_is_in_sync_and_has_a_small_revision(kubeconfig: Path) -> None:
    api = connect(kubeconfig)
    drift = examine(api)
    assert drift.in_sync, describe("roles", drift)
    assert {component.name.replace("-", "_") for component in drift.components} == {*ROLES, *AGGREGATED}
    for secret in api.list("v1", "Secret", "kube-system", OF_LABEL).items:
        assert sum(map(len, secret["data"].values())) < 150_000, secret["metadata"]["name"]


@pytest.mark.usefixtures("applied", "_deployments_become_ready")
def test_a_rule_that_breaks_the_metric_is_taken_back(run: Run, kubeconfig: Path) -> None:
    api = connect(kubeconfig)

    def rules() -> str:
        found = api.get("v1", "ConfigMap", "adapter-config", "custom-metrics")
        assert found is not None
        return str(found["data"]["config.yaml"])

    good = rules()
    broken = [{"series": "no_such_total", "as": "demo_app_button_clicks", "window": 60, "function": "rate"}]
    run("prometheus_adapter", prometheus_adapter_rules=broken)
    assert "no_such_total" in rules()
    done = roll_back(api, plan_rollback(api, Target("prometheus_adapter")).steps, Options(timeout=3.0))
    # It is never ready here, as nothing answers behind the APIServices.
    assert not any("cannot be rolled back" in problem for problem in done.problems)
    assert rules() == good
    assert run("prometheus_adapter") == {}
    assert examine(api, ["prometheus_adapter"]).in_sync


@pytest.mark.usefixtures("applied")
def test_no_set_says_how_many_replicas_an_autoscaled_app_has(kubeconfig: Path) -> None:
    """So neither a rollback nor any other run can take replicas away."""
    api = connect(kubeconfig)
    scalers = api.list("autoscaling/v2", "HorizontalPodAutoscaler").items
    assert scalers
    targets = {(item["metadata"]["namespace"], item["spec"]["scaleTargetRef"]["name"]) for item in scalers}
    seen = set()
    for name in sets_of(api):
        for content in History(api, name, "kube-system").contents().values():
            for key, obj in content.by_key.items():
                if key.kind == "Deployment" and (key.namespace, key.name) in targets:
                    assert "replicas" not in obj["spec"], key
                    seen.add((key.namespace, key.name))
    assert seen == targets


@pytest.mark.usefixtures("applied")
def test_the_certificate_is_renewed_before_it_ends(run: Run) -> None:
    due = {"prometheus_adapter_certificate_days": 366, "prometheus_adapter_certificate_renew_before_days": 365}
    renewed = run("prometheus_adapter", **due)
    assert renewed == {
        "Secret custom-metrics/cm-adapter-serving-certs": "configured",
        # A CA of its own, as the cluster's is out of reach here.
        "APIService /v1beta1.custom.metrics.k8s.io": "configured",
        "APIService /v1beta2.custom.metrics.k8s.io": "configured",
        # It knows when the certificate ends.
        "PrometheusRule custom-metrics/prometheus-adapter-certificate": "configured",
    }
    assert run("prometheus_adapter") == {}


@pytest.mark.usefixtures("applied")
def test_without_prometheus_its_monitors_go_and_nothing_else(run: Run) -> None:
    gone = run("node_exporter", "kube_state_metrics", "demo_app", "hpa", prometheus_state="absent")
    assert gone == {
        "ServiceMonitor node-exporter/node-exporter": "pruned",
        "ServiceMonitor monitoring/kube-state-metrics": "pruned",
        "PodMonitor demo/demo-app": "pruned",
        "PrometheusRule demo/demo-app": "pruned",
    }
    run("node_exporter", "kube_state_metrics", "demo_app", "hpa")


@pytest.mark.usefixtures("applied")
def test_each_component_goes_alone_and_comes_back(run: Run, everything: Callable[[], set[str]]) -> None:
    run(*AGGREGATED, **{f"{role}_state": "absent" for role in AGGREGATED})
    before = everything()
    absent = {f"{role}_state": "absent" for role in ROLES[1:]}
    left = before
    for role in reversed(ROLES[1:]):
        deleted = run(role, **absent)
        assert left - everything() == deleted.keys() & before, role
        left = everything()
        assert deleted, role
    assert run(*ROLES[1:], **absent) == {}
    run(*ROLES)
    assert everything() == before


@pytest.mark.usefixtures("applied")
def test_aggregated_apis_come_and_go_without_a_trace(run: Run, everything: Callable[[], set[str]]) -> None:
    run(*AGGREGATED, **{f"{role}_state": "absent" for role in AGGREGATED})
    before = everything()
    for role in AGGREGATED:
        run(role)
        assert any(name.startswith("APIService") for name in everything() - before), role
        run(role, **{f"{role}_state": "absent"})
        assert everything() == before, role


@pytest.mark.usefixtures("applied")
def test_sample_apps_go_with_their_names(run: Run, everything: Callable[[], set[str]]) -> None:
    run(*AGGREGATED, **{f"{role}_state": "absent" for role in AGGREGATED})
    before = everything()
    roles = ("sample_apps", "hpa")
    run(*roles, sample_apps=["node", "cpu_memory"])
    assert run(*roles, sample_apps=["node", "cpu_memory"]) == {}
    both = everything() - before
    gone = run(*roles, sample_apps=["cpu_memory"])
    assert gone.keys() == both - everything()
    assert {name.split("/")[0] for name in gone} >= {"Deployment sample-node", "HorizontalPodAutoscaler sample-node"}
    run(*roles)
    assert everything() == before


def app(name: str, namespace: str, *scale_on: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "workload": f"deployment/{name}", "scale_on": list(scale_on), **more}


SHOP = app(
    "shop",
    "shop",
    {"metric": "http_requests_total", "target": 10},
    {"metric": "busy", "target": "500m"},
    {"metric": "http_request_duration_seconds_bucket", "target": "250m"},
    {"metric": "http_request_duration_seconds_sum", "over": "http_request_duration_seconds_count", "target": "250m"},
    {"resource": "cpu", "target": "60%"},
    {"resource": "memory", "target": "50Mi", "container": "web"},
    scrape={"port": "web"},
    behavior={"scaleUp": {"tolerance": 0.05}},
)
QUEUE = app(
    "worker",
    "queue",
    {"metric": "queue_length", "external": True, "selector": {"queue": "orders"}, "target": 30},
    {"metric": "ingress_requests_total", "object": "ingress/worker", "target": 5, "target_type": "value"},
    {"metric": "http_requests_total", "object": "namespace/queue", "target": 10},
    {
        "metric": "jobs",
        "query": "max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        "as": "jobs_max",
        "target": 1,
    },
    scrape={"port": 9090, "service": "worker"},
    replicas={"min": 0, "max": 5},
)


@pytest.mark.usefixtures("applied")
def test_apps_come_and_go_each_with_exactly_its_own(
    run: Run, kubeconfig: Path, everything: Callable[[], set[str]]
) -> None:
    api = connect(kubeconfig)
    mine = {"metadata": {"name": "queue", "labels": {"team": "queues"}}}
    api.request("POST", "/api/v1/namespaces", body=mine)
    before = everything()
    both = {"autoscaled_apps": [SHOP, QUEUE]}
    shops = {"PodMonitor shop/shop", "HorizontalPodAutoscaler shop/shop", "PrometheusRule shop/shop", "Namespace /shop"}
    workers = {f"{kind} queue/worker" for kind in ("ServiceMonitor", "HorizontalPodAutoscaler", "PrometheusRule")}
    assert run("hpa", check=True, **both).keys() == shops | workers
    assert everything() == before
    assert set(run("hpa", **both).values()) == {"created"}
    assert everything() - before == shops | workers
    assert run("hpa", **both) == {}
    live = api.get("autoscaling/v2", "HorizontalPodAutoscaler", "shop", "shop")
    assert live is not None
    assert [metric["type"] for metric in live["spec"]["metrics"]] == [*["Pods"] * 4, "Resource", "ContainerResource"]
    assert live["spec"]["behavior"]["scaleUp"]["tolerance"] == "50m"
    live = api.get("autoscaling/v2", "HorizontalPodAutoscaler", "worker", "queue")
    assert live is not None
    assert live["spec"]["minReplicas"] == 0
    namespace = api.get("v1", "Namespace", "queue")
    assert namespace is not None
    assert namespace["metadata"]["labels"] == {"team": "queues", "kubernetes.io/metadata.name": "queue"}

    gone = run("hpa", autoscaled_apps=[QUEUE])
    assert gone.keys() == shops
    assert everything() == before | workers
    gone = run("hpa")
    assert gone.keys() == workers
    assert everything() == before
    assert api.get("v1", "Namespace", "queue") is not None
    api.delete("v1", "Namespace", "queue")


@pytest.mark.usefixtures("applied")
def test_an_autoscaler_made_by_hand_is_taken_over_only_when_that_is_asked_for(run: Run, kubeconfig: Path) -> None:
    api = connect(kubeconfig)
    autoscaler = ("autoscaling/v2", "HorizontalPodAutoscaler", "shop", "by-hand")
    body = {
        "metadata": {"name": "shop"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
            "maxReplicas": 8,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
                }
            ],
        },
    }
    api.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "by-hand"}})
    api.request("POST", "/apis/autoscaling/v2/namespaces/by-hand/horizontalpodautoscalers", body=body)
    entry = {"autoscaled_apps": [{**SHOP, "namespace": "by-hand"}]}
    with pytest.raises(AssertionError, match="these objects have other owners"):
        run("hpa", **entry)
    found = api.get(*autoscaler)
    assert found is not None
    assert found["spec"]["maxReplicas"] == 8
    assert run("hpa", adopt=["hpa"], **entry)["HorizontalPodAutoscaler by-hand/shop"] == "adopted"
    found = api.get(*autoscaler)
    assert found is not None
    assert len(found["spec"]["metrics"]) == len(SHOP["scale_on"])
    assert run("hpa", **entry) == {}
    run("hpa")
    assert api.get(*autoscaler) is None
    api.delete("v1", "Namespace", "by-hand")


@pytest.mark.usefixtures("applied")
def test_a_namespace_that_somebody_uses_outlives_its_app(run: Run, kubeconfig: Path) -> None:
    api = connect(kubeconfig)
    run("hpa", autoscaled_apps=[SHOP])
    api.request("POST", "/api/v1/namespaces/shop/configmaps", body={"metadata": {"name": "theirs"}})
    run("hpa")
    assert api.get("v1", "Namespace", "shop") is not None
    assert api.get("v1", "ConfigMap", "theirs", "shop") is not None
    api.delete("v1", "Namespace", "shop")


@pytest.mark.usefixtures("applied")
def test_without_an_app_there_is_no_set_and_no_api_of_the_adapter(run: Run, kubeconfig: Path) -> None:
    run("hpa", "prometheus_adapter", demo_app_state="absent")
    api = connect(kubeconfig)
    assert api.get("v1", "ConfigMap", "hpa", "kube-system") is None
    assert api.get("apiregistration.k8s.io/v1", "APIService", "v1beta1.custom.metrics.k8s.io") is None
    assert api.get("apps/v1", "Deployment", "prometheus-adapter", "custom-metrics") is not None
    assert run("hpa", "prometheus_adapter", demo_app_state="absent") == {}
    run("hpa", "prometheus_adapter")


@pytest.mark.usefixtures("applied")
def test_one_run_gives_the_adapter_the_rules_of_an_app(run: Run, kubeconfig: Path) -> None:
    assert run("prometheus_adapter", autoscaled_apps=[SHOP]).keys() == {
        "ConfigMap custom-metrics/adapter-config",
        "Deployment custom-metrics/prometheus-adapter",
    }
    found = connect(kubeconfig).get("v1", "ConfigMap", "adapter-config", "custom-metrics")
    assert found is not None
    rules = yaml.safe_load(found["data"]["config.yaml"])["rules"]
    assert [rule["name"]["as"] for rule in rules] == [
        "http_requests_per_second",
        "busy",
        "http_request_duration_seconds_p95",
        "http_request_duration_seconds_sum_over_http_request_duration_seconds_count",
        "demo_app_button_clicks_per_second",
    ]
    run("prometheus_adapter")


# All but the role prometheus itself, in the order of the playbooks.
OTHERS = ROLES[1:]
STANDALONE = {"prometheus_flavor": "standalone"}
MONITORING = "monitoring.coreos.com/v1"


@pytest.fixture
def _with_operator(applied: None, run: Run) -> Iterator[None]:
    """A cluster with the operator before and after; without aggregated APIs, as a namespace goes away meanwhile."""
    run(*AGGREGATED, **{f"{role}_state": "absent" for role in AGGREGATED})
    yield
    run(*AGGREGATED, **STANDALONE, **{f"{role}_state": "absent" for role in AGGREGATED})
    run("prometheus", *OTHERS)


def kinds_of_the_operator(kubeconfig: Path) -> set[str]:
    return {kind for version, kind in connect(kubeconfig).resources() if version == MONITORING}


@pytest.mark.usefixtures("_with_operator")
def test_flavours_of_prometheus_follow_each_other_without_a_trace(
    run: Run, everything: Callable[[], set[str]], kubeconfig: Path
) -> None:
    with_operator = everything()
    predicted = run(*OTHERS, "prometheus", check=True, **STANDALONE)
    changed = run(*OTHERS, "prometheus", **STANDALONE)
    # Several sets live in that namespace: the first one makes it, the others add what is theirs.
    assert predicted["Namespace /prom"] == changed["Namespace /prom"]
    assert changed["Service prom/prometheus"] == "created"
    assert predicted.items() <= changed.items()
    # As long as others' objects are not really gone, their kinds would be kept.
    assert {name.partition(" ")[0] for name in changed.keys() - predicted.keys()} == {"CustomResourceDefinition"}
    assert run(*OTHERS, "prometheus", **STANDALONE) == {}
    assert kinds_of_the_operator(kubeconfig) == set()
    run("prometheus", *OTHERS)
    assert run("prometheus", *OTHERS) == {}
    assert everything() == with_operator
    assert connect(kubeconfig).get("v1", "Namespace", "prom") is None


@pytest.mark.usefixtures("_with_operator")
def test_others_monitors_are_not_lost_by_a_switch(run: Run, kubeconfig: Path) -> None:
    monitor = (MONITORING, "PodMonitor", "theirs", "default")
    metadata = {"name": "theirs", "namespace": "default"}
    spec = {"selector": {}, "podMetricsEndpoints": [{"port": "web"}]}
    theirs = {"apiVersion": MONITORING, "kind": "PodMonitor", "metadata": metadata, "spec": spec}
    connect(kubeconfig).apply(theirs, "somebody")
    run(*OTHERS, "prometheus", **STANDALONE)
    assert kinds_of_the_operator(kubeconfig) == {"PodMonitor"}
    connect(kubeconfig).delete(*monitor)
    assert run("prometheus", **STANDALONE) == {"CustomResourceDefinition /podmonitors.monitoring.coreos.com": "pruned"}


@pytest.mark.usefixtures("_with_operator")
def test_promtool_accepts_the_configuration_without_operator(run: Run, kubeconfig: Path, tmp_path: Path) -> None:
    run(*OTHERS, *AGGREGATED, "prometheus", **STANDALONE)
    api = connect(kubeconfig)
    deployment = api.get("apps/v1", "Deployment", "prometheus", "prom")
    assert deployment
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    # As the kubelet writes them: of files with the same name, the last one counts.
    for source in volumes["config"]["projected"]["sources"]:
        found = api.get("v1", "ConfigMap", source["configMap"]["name"], "prom")
        assert found, source
        for name, text in found["data"].items():
            (tmp_path / name).write_text(text)
    # Only the syntax: the service account's token and CA are not here. It leaves out rules.
    rules = ["rules.yml", *(file.name for file in tmp_path.glob("*.yaml"))]
    assert {"metrics-server.yaml", "prometheus-adapter.yaml", "kubelet.yaml"} < set(rules)
    for arguments in (["config", "--syntax-only", "prometheus.yml"], ["rules", "--lint=all", "--lint-fatal", *rules]):
        command = [str(find_binary("promtool")), "check", *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    jobs = yaml.safe_load((tmp_path / "scrape.yml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["app/demo/demo-app"]


@pytest.fixture
def _deployments_become_ready(kubeconfig: Path) -> Iterator[None]:
    with deployments_become_ready(kubeconfig):
        yield


RESOURCE_METRICS = ("apiregistration.k8s.io/v1", "APIService", "v1beta1.metrics.k8s.io")


@pytest.mark.usefixtures("applied", "_deployments_become_ready")
def test_metrics_k8s_io_changes_its_owner_in_place(run: Run, kubeconfig: Path) -> None:
    def served() -> tuple[str, str]:
        found = connect(kubeconfig).get(*RESOURCE_METRICS)
        assert found is not None
        return found["spec"]["service"]["name"], found["metadata"]["uid"]

    run(*AGGREGATED)
    name, uid = served()
    assert name == "metrics-server"
    predicted = run(*AGGREGATED, check=True, resource_metrics_owner="adapter")
    done = run(*AGGREGATED, resource_metrics_owner="adapter")
    assert predicted == done
    assert served() == ("prometheus-adapter", uid)
    moved = {"APIService /v1beta1.metrics.k8s.io", "ClusterRole /system:aggregated-metrics-reader"}
    assert {key for key, action in done.items() if action == "configured"} == {
        *moved,
        "ClusterRole /prometheus-adapter",
        "ConfigMap custom-metrics/adapter-config",
        "Deployment custom-metrics/prometheus-adapter",
    }
    gone = {key for key, action in done.items() if action == "deleted"}
    assert "Deployment kube-system/metrics-server" in gone
    assert not any("prometheus-adapter" in key or "v1beta1" in key for key in gone)
    assert run(*AGGREGATED, resource_metrics_owner="adapter") == {}
    assert run("metrics_server", resource_metrics_owner="adapter") == {}
    # Back, but the adapter alone: nobody would serve the API.
    for check in (True, False):
        with pytest.raises(AssertionError, match=r"v1beta1.metrics.k8s.io is to go to set metrics-server"):
            run("prometheus_adapter", check=check)
    assert served() == ("prometheus-adapter", uid)
    predicted = run(*AGGREGATED, check=True)
    assert predicted == run(*AGGREGATED)
    assert served() == ("metrics-server", uid)
    assert run(*AGGREGATED) == {}


@pytest.mark.usefixtures("applied", "_deployments_become_ready")
def test_external_metrics_are_served_by_the_adapter_when_there_are_some_and_nobody_else(
    run: Run, kubeconfig: Path
) -> None:
    name = "v1beta1.external.metrics.k8s.io"
    app = {
        "name": "worker",
        "namespace": "default",
        "workload": "deployment/worker",
        "scale_on": {"metric": "queue_length", "target": 5, "external": True},
    }
    run(*AGGREGATED)
    with_rule = run("prometheus_adapter", autoscaled_apps=[app])
    assert with_rule[f"APIService /{name}"] == with_rule["ClusterRole /external-metrics-reader"] == "created"
    without = run("prometheus_adapter", autoscaled_apps=[app], external_metrics_owner="none")
    assert without[f"APIService /{name}"] == without["ClusterRole /external-metrics-reader"] == "pruned"
    # Somebody else serves them now.
    theirs = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "keda", "namespace": "keda", "port": 443},
        },
    }
    api = connect(kubeconfig)
    api.apply(theirs, "keda")
    with pytest.raises(AssertionError, match=f"APIService {name} was made with keda"):
        run("prometheus_adapter", autoscaled_apps=[app])
    assert run("prometheus_adapter", autoscaled_apps=[app], external_metrics_owner="none") == {}
    found = api.get("apiregistration.k8s.io/v1", "APIService", name)
    assert found is not None
    assert found["spec"]["service"]["name"] == "keda"
    api.delete("apiregistration.k8s.io/v1", "APIService", name)
