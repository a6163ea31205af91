"""What the roles that work on a cluster's API would apply, judged as objects."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.sample_apps import sample_entries
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import load_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import COMPONENTS

from tests import rendering
from tests.rendering import CERTIFICATE

FLAVORS = ["operator", "standalone"]
ROLES = Path(__file__).resolve().parents[3] / "roles"
PINS = load_pins()["components"]
#: Flannel needs more rights than the others, and is not labelled as they are.
NAMES = sorted({component.role for component in COMPONENTS} - {"cni"})
WORKLOADS = {"Deployment", "DaemonSet", "StatefulSet"}
# These only exist once the operator's custom resource definitions do, which the first of them brings.
NEED_OPERATOR = {"prometheus", "alertmanager"}


def render(role: str, **settings: Any) -> list[dict[str, Any]]:
    """Return the objects of a role on a cluster that has all sample apps."""
    samples = {"sample_apps": ["cpu_memory", "node", "spring"]} if role == "sample_apps" else {}
    return rendering.render(role, **{**samples, **settings})


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] in kinds]


def containers(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name of the workload, its pods' spec, and each container in them."""
    for workload in of_kind(objects, *WORKLOADS):
        spec = workload["spec"]["template"]["spec"]
        for container in spec["containers"]:
            yield workload["metadata"]["name"], spec, container


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_containers_have_no_more_rights_than_they_need(role: str, flavor: str) -> None:
    for _name, spec, container in containers(render(role, prometheus_flavor=flavor)):
        pod, own = spec["securityContext"], container["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("role", sorted(set(NAMES) - {"node_exporter"}))
@pytest.mark.parametrize("flavor", FLAVORS)
def test_pods_stay_off_the_host(role: str, flavor: str) -> None:
    for _name, spec, container in containers(render(role, prometheus_flavor=flavor)):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not any("hostPath" in volume for volume in spec.get("volumes", []))
        assert not any("hostPort" in port for port in container["ports"])


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_containers_are_probed_and_ask_for_little(role: str, flavor: str) -> None:
    for name, _spec, container in containers(render(role, prometheus_flavor=flavor)):
        assert {"livenessProbe", "readinessProbe"} <= container.keys(), name
        requests = container["resources"]["requests"]
        assert int(requests["cpu"].removesuffix("m")) <= 100, name
        assert requests["memory"].endswith("Mi"), name
        assert container["imagePullPolicy"] == "IfNotPresent", name


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_nothing_skips_verification(role: str, flavor: str) -> None:
    objects = render(role, prometheus_flavor=flavor)
    assert "insecure" not in yaml.safe_dump(objects).lower()
    for service in of_kind(objects, "APIService"):
        assert base64.b64decode(service["spec"]["caBundle"]).decode() == CERTIFICATE["ca"]


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_tokens_are_given_on_request_only(role: str, flavor: str) -> None:
    objects = render(role, prometheus_flavor=flavor)
    wanted = {spec["serviceAccountName"] for _name, spec, _container in containers(objects)}
    for account in of_kind(objects, "ServiceAccount"):
        if account["metadata"]["namespace"] == "kube-system":
            continue
        assert account["automountServiceAccountToken"] is False
    assert wanted <= {account["metadata"]["name"] for account in of_kind(objects, "ServiceAccount")}


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_services_and_monitors_find_what_they_are_for(role: str, flavor: str) -> None:
    objects = render(role, prometheus_flavor=flavor)
    pods = [workload["spec"]["template"] for workload in of_kind(objects, *WORKLOADS)]
    pods += [item["spec"]["podMetadata"] for item in of_kind(objects, "Prometheus", "Alertmanager")]
    labels = [pod.get("metadata", pod)["labels"] for pod in pods]
    services = of_kind(objects, "Service")
    for service in services:
        assert any(matches(service["spec"]["selector"], found) for found in labels), service["metadata"]["name"]
    for workload in of_kind(objects, *WORKLOADS):
        assert matches(workload["spec"]["selector"]["matchLabels"], workload["spec"]["template"]["metadata"]["labels"])
    for monitor in of_kind(objects, "ServiceMonitor"):
        selected = [
            service
            for service in services
            if matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"].get("labels", {}))
        ]
        assert len(selected) == 1, monitor["metadata"]["name"]
        ports = {port["name"] for port in selected[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
        assert monitor["spec"]["jobLabel"] in selected[0]["metadata"]["labels"]
        assert monitor["metadata"]["namespace"] == selected[0]["metadata"]["namespace"]


@pytest.mark.parametrize("role", NAMES)
def test_without_operator_none_of_its_kinds_is_used(role: str) -> None:
    objects = render(role, prometheus_flavor="standalone")
    assert not [item for item in objects if item["apiVersion"].startswith("monitoring.coreos.com/")]


@pytest.mark.parametrize("role", sorted(set(NAMES) - NEED_OPERATOR))
def test_without_prometheus_no_kind_of_its_operator_is_used(role: str) -> None:
    objects = render(role, prometheus_state="absent")
    assert not [item for item in objects if item["apiVersion"].startswith("monitoring.coreos.com/")]


def test_the_adapter_serves_exactly_the_series_named() -> None:
    rules = [{"series": "hits_total", "as": "hits_per_second", "window": 40, "function": "irate"}]
    objects = render("prometheus_adapter", prometheus_adapter_rules=rules)
    (config,) = of_kind(objects, "ConfigMap")
    _demo_app, rule = yaml.safe_load(config["data"]["config.yaml"])["rules"]
    assert rule["seriesQuery"] == 'hits_total{namespace!="",pod!=""}'
    assert rule["name"] == {"matches": "^hits_total$", "as": "hits_per_second"}
    assert rule["metricsQuery"] == "sum(irate(<<.Series>>{<<.LabelMatchers>>}[40s])) by (<<.GroupBy>>)"


def test_the_adapter_starts_again_when_its_rules_change_and_only_then() -> None:
    def annotation(**settings: Any) -> str:
        (deployment,) = of_kind(render("prometheus_adapter", **settings), "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]["kubescale.fleet/config"]

    rules = [{"series": "hits_total", "as": "hits_per_second", "window": 40, "function": "rate"}]
    assert annotation() == annotation(prometheus_adapter_certificate_days=90)
    assert annotation() != annotation(prometheus_adapter_rules=rules)


def test_sample_apps_are_there_when_they_are_named() -> None:
    (deployment,) = of_kind(render("sample_apps", sample_apps="[node]"), "Deployment")
    assert (deployment["metadata"]["namespace"], deployment["metadata"]["name"]) == ("sample-node", "node")
    assert "replicas" not in deployment["spec"]
    ours = render("sample_apps", artifacts_images={"sample-node": "registry.example/apps/sample-node"})
    images = {container["image"] for _name, _spec, container in containers(ours)}
    assert f"registry.example/apps/sample-node:{PINS['sample_node']['version']}" in images
    assert f"localhost/kubescale/sample-spring:{PINS['sample_spring']['version']}" in images


def test_what_scales_sample_apps_finds_them_and_their_ports() -> None:
    objects = render("sample_apps")
    deployments = {item["metadata"]["name"]: item for item in of_kind(objects, "Deployment")}
    apps = parse_apps(sample_entries(["cpu_memory", "node", "spring"], 300))
    assert {app.workload_name for app in apps} == set(deployments)
    for app in apps:
        deployment = deployments[app.workload_name]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert deployment["metadata"]["namespace"] == app.namespace
        if app.scrape:
            assert app.scrape.port in {port["name"] for port in container["ports"]}
        for metric in app.metrics:
            if metric.source == "resource":
                assert metric.resource in container["resources"]["requests"]


def test_an_autoscaled_deployment_leaves_its_replicas_to_the_autoscaler() -> None:
    (deployment,) = of_kind(render("demo_app"), "Deployment")
    (autoscaler,) = of_kind(render("hpa"), "HorizontalPodAutoscaler")
    assert "replicas" not in deployment["spec"]
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert autoscaler["metadata"]["namespace"] == deployment["metadata"]["namespace"]


def test_ports_of_nodes_are_closed_by_default() -> None:
    for role in ("prometheus", "grafana", "demo_app"):
        closed = of_kind(render(role), "Service")
        opened = of_kind(render(role, **{f"{role}_node_port": 30999}), "Service")
        assert [item["spec"]["type"] for item in opened if "type" in item["spec"]] == ["NodePort"]
        assert [item["spec"]["type"] for item in closed if "type" in item["spec"]] == ["ClusterIP"]
        assert "nodePort" not in yaml.safe_dump(closed)


def test_grafana_has_one_password_and_every_dashboard() -> None:
    objects = render("grafana")
    (secret,) = of_kind(objects, "Secret")
    assert len(base64.b64decode(secret["data"]["admin-password"])) == 24
    given = render("grafana", grafana_admin_password="given")  # noqa: S106
    assert base64.b64decode(of_kind(given, "Secret")[0]["data"]["admin-password"]) == b"given"
    (deployment,) = of_kind(objects, "Deployment")
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    mounted = {source["configMap"]["name"] for source in volumes["dashboards"]["projected"]["sources"]}
    files = {
        name: item["metadata"]["name"]
        for item in of_kind(objects, "ConfigMap")
        for name in item["data"]
        if name.endswith(".json")
    }
    assert set(files) == {path.name for path in (ROLES / "grafana" / "files" / "dashboards").glob("*.json")}
    assert set(files.values()) == mounted


def test_the_stand_in_says_what_it_is() -> None:
    (deployment,) = of_kind(render("grafana", grafana_stand_in=True), "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("localhost/kubescale/grafana-stand-in:")
    assert "not Grafana" in deployment["metadata"]["annotations"]["kubescale.fleet/stand-in"]


def test_prometheus_gets_every_file_of_rules_and_none_about_a_component_that_is_absent() -> None:
    files = sorted((ROLES / "prometheus/files/rules").glob("*.yaml"))
    found = {
        item["metadata"]["name"]: item["spec"]["groups"] for item in of_kind(render("prometheus"), "PrometheusRule")
    }
    written = {file.stem.replace("_", "-"): yaml.safe_load(file.read_text())["groups"] for file in files}
    assert found == written
    absent = {f"{name}_state": "absent" for name in ("alertmanager", "kube_state_metrics", "node_exporter")}
    rules = of_kind(render("prometheus", **absent), "PrometheusRule")
    assert {item["metadata"]["name"] for item in rules} == {"apiserver", "kubelet", "prometheus"}


@pytest.mark.parametrize("role", ["metrics_server", "prometheus_adapter"])
def test_the_end_of_a_serving_certificate_is_recorded(role: str) -> None:
    (item,) = of_kind(render(role), "PrometheusRule")
    (group,) = item["spec"]["groups"]
    (rule,) = group["rules"]
    assert rule["expr"] == "vector(1800000000)"
    assert of_kind(render(role, prometheus_flavor="standalone"), "PrometheusRule") == []


def test_alertmanager_tells_the_receiver_of_all_but_the_watchdog_and_keeps_it_in_a_secret() -> None:
    receiver = {"webhook_configs": [{"url": "https://hooks.example/secret"}]}

    def content(**settings: Any) -> dict[str, Any]:
        (secret,) = of_kind(render("alertmanager", **settings), "Secret")
        return yaml.safe_load(base64.b64decode(secret["data"]["alertmanager.yaml"]))

    assert content()["receivers"] == [{"name": "none"}]
    assert content()["route"]["receiver"] == "none"
    told = content(alertmanager_receiver=receiver)
    assert told["receivers"] == [{"name": "none"}, {"name": "receiver", **receiver}]
    assert told["route"]["receiver"] == "receiver"
    assert told["route"]["routes"] == [{"receiver": "none", "matchers": ['severity="none"']}]
    own = {"route": {"receiver": "mine"}, "receivers": [{"name": "mine"}]}
    assert content(alertmanager_config=own) == own
    others = [item for item in render("alertmanager", alertmanager_receiver=receiver) if item["kind"] != "Secret"]
    assert "hooks.example" not in str(others)


@pytest.mark.parametrize(
    ("flavor", "url"),
    [("operator", "http://prometheus-k8s.monitoring.svc:9090"), ("standalone", "http://prometheus.prom.svc:9090")],
)
def test_who_asks_prometheus_knows_where_it_is(flavor: str, url: str) -> None:
    provisioning = next(
        item["data"]["datasources.yaml"]
        for item in of_kind(render("grafana", prometheus_flavor=flavor), "ConfigMap")
        if "datasources.yaml" in item["data"]
    )
    assert [source["url"] for source in yaml.safe_load(provisioning)["datasources"]] == [url]
    (adapter,) = of_kind(render("prometheus_adapter", prometheus_flavor=flavor), "Deployment")
    assert f"--prometheus-url={url}" in adapter["spec"]["template"]["spec"]["containers"][0]["args"]
    name, _unused, namespace = url.removeprefix("http://").removesuffix(".svc:9090").partition(".")
    services = of_kind(render("prometheus", prometheus_flavor=flavor), "Service")
    assert (namespace, name) in {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in services}


def test_samples_are_on_a_volume_when_a_storage_class_is_named() -> None:
    named = {"prometheus_storage_class": "fast", "prometheus_storage_size": "20Gi"}
    (prometheus,) = of_kind(render("prometheus", **named), "Prometheus")
    objects = render("prometheus", prometheus_flavor="standalone", **named)
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    for spec in (prometheus["spec"]["storage"]["volumeClaimTemplate"]["spec"], claim["spec"]):
        assert (spec["storageClassName"], spec["resources"]["requests"]["storage"]) == ("fast", "20Gi")
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "prometheus"}} in volumes


def test_a_changed_configuration_does_not_restart_prometheus() -> None:
    (one,) = of_kind(render("prometheus", prometheus_flavor="standalone"), "Deployment")
    (other,) = of_kind(
        render(
            "prometheus",
            prometheus_flavor="standalone",
            prometheus_scrape_interval=30,
            prometheus_retention="1d",
            node_exporter_state="absent",
        ),
        "Deployment",
    )
    assert one == other


def test_several_of_each_without_operator_find_each_other() -> None:
    several = {"prometheus_flavor": "standalone", "high_availability": True}
    (alertmanager,) = of_kind(render("alertmanager", **several), "StatefulSet")
    container = alertmanager["spec"]["template"]["spec"]["containers"][0]
    peers = [argument.partition("=")[2] for argument in container["args"] if argument.startswith("--cluster.peer=")]
    assert peers == [f"alertmanager-{number}.alertmanager-peers:9094" for number in range(3)]
    assert alertmanager["spec"]["serviceName"] == "alertmanager-peers"
    objects = render("prometheus", **several)
    (deployment,) = of_kind(objects, "Deployment")
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2
    assert budget["spec"]["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("flavor", ["operator", "standalone"])
def test_adapters_prefer_the_nodes_of_prometheus(flavor: str) -> None:
    settings = {"prometheus_flavor": flavor, "high_availability": True}
    (adapter,) = of_kind(render("prometheus_adapter", **settings), "Deployment")
    (preferred,) = adapter["spec"]["template"]["spec"]["affinity"]["podAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    term = preferred["podAffinityTerm"]
    prometheus = of_kind(render("prometheus", **settings), "Deployment", "Prometheus")
    (server,) = [item for item in prometheus if item["metadata"]["name"] in ("prometheus", "k8s")]
    assert term["namespaces"] == [server["metadata"]["namespace"]]
    if flavor == "standalone":
        labels = server["spec"]["template"]["metadata"]["labels"]
        assert term["labelSelector"]["matchLabels"].items() <= labels.items()
