# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What is predicted is what happens, object for object and field for field, whatever variable is edited."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.components import COMPONENTS
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import plan, run_record
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, ApiError, connect
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import parse_definition

import conftest

from .cluster import control_plane

#: All that need no machines, without those that bring an API that nobody serves here.
BASE = [
    role
    for role in dict.fromkeys(component.role for component in COMPONENTS)
    if role not in ("cni", "metrics_server", "prometheus_adapter")
]
SHOP = {
    "name": "shop",
    "namespace": "shop",
    "workload": "deployment/shop",
    "scale_on": {"metric": "http_requests_total", "target": 10},
    "scrape": {"port": "web"},
}
WORKER = {
    "name": "worker",
    "namespace": "shop",
    "workload": "statefulset/worker",
    "scale_on": {"metric": "queue_length", "target": 5, "external": True},
}
RULE = {"series": "hits_total", "as": "hits_per_second", "window": 60, "function": "rate"}
#: Name, roles that run, variables. Each starts from what the one before left. A namespace goes only while all APIs
#: answer, so what brings an API that nobody serves here comes last.
EDITS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("an image", ["node_exporter"], {"artifacts_images": {"node-exporter": "mirror.example/node-exporter"}}),
    ("resources", ["kube_state_metrics"], {"kube_state_metrics_resources": {"requests": {"cpu": "30m"}}}),
    ("resources gone", ["kube_state_metrics"], {"kube_state_metrics_resources": {}}),
    ("how long metrics are kept", ["prometheus"], {"prometheus_retention": "3d"}),
    ("storage", ["prometheus"], {"prometheus_storage_class": "fast", "prometheus_storage_size": "5Gi"}),
    ("replicas", ["prometheus"], {"prometheus_replicas": 2}),
    ("another interval", ["prometheus"], {"prometheus_scrape_interval": 30}),
    ("a node port", ["prometheus"], {"prometheus_node_port": 30999}),
    ("no node port", ["prometheus"], {"prometheus_node_port": 0}),
    ("the operator's image", ["prometheus"], {"artifacts_images": {"prometheus-operator": "mirror.example/operator"}}),
    ("high availability", ["prometheus", "alertmanager"], {"high_availability": True}),
    ("a receiver", ["alertmanager"], {"alertmanager_receiver": {"webhook_configs": [{"url": "http://example.com/"}]}}),
    ("no receiver", ["alertmanager"], {}),
    ("a password", ["grafana"], {"grafana_admin_password": "correct horse battery"}),
    ("another source", ["grafana"], {"grafana_prometheus_url": "http://elsewhere.example:9090"}),
    ("a version", ["grafana"], {"artifacts_images": {"grafana": "docker.io/grafana/grafana:12.0.0"}}),
    ("an app's bounds", ["demo_app", "hpa"], {"demo_app_max_replicas": 20, "demo_app_min_replicas": 2}),
    ("an app's target", ["demo_app", "hpa"], {"demo_app_target": "50m"}),
    ("an app's port", ["demo_app", "hpa"], {"demo_app_node_port": 30081}),
    ("an app's resources", ["demo_app", "hpa"], {"demo_app_resources": {"requests": {"cpu": "75m"}}}),
    ("two apps in a new namespace", ["hpa"], {"autoscaled_apps": [SHOP, WORKER]}),
    ("one of them changed", ["hpa"], {"autoscaled_apps": [{**SHOP, "replicas": {"max": 4}}, WORKER]}),
    ("one of them gone", ["hpa"], {"autoscaled_apps": [SHOP]}),
    ("both gone", ["hpa"], {}),
    ("sample apps", ["sample_apps", "hpa"], {"sample_apps": ["node", "cpu_memory"]}),
    ("a sample app gone", ["sample_apps", "hpa"], {"sample_apps": ["node"]}),
    ("no sample app", ["sample_apps", "hpa"], {}),
    ("a component gone", ["node_exporter"], {"node_exporter_state": "absent"}),
    ("a component back", ["node_exporter"], {}),
    ("an app gone", ["demo_app", "hpa"], {"demo_app_state": "absent"}),
    ("an app back", ["demo_app", "hpa"], {}),
    ("no Prometheus", ["kube_state_metrics", "node_exporter"], {"prometheus_state": "absent"}),
    ("Prometheus again", ["kube_state_metrics", "node_exporter"], {}),
    ("a metrics API", ["metrics_server"], {}),
    ("its resolution", ["metrics_server"], {"metrics_server_resolution": 30, "metrics_server_replicas": 2}),
    ("custom metrics", ["prometheus_adapter"], {}),
    ("a rule", ["prometheus_adapter"], {"prometheus_adapter_rules": [RULE]}),
    ("an app with an external metric", ["prometheus_adapter", "hpa"], {"autoscaled_apps": [WORKER]}),
    ("a new certificate", ["prometheus_adapter"], {
        "prometheus_adapter_certificate_days": 366,
        "prometheus_adapter_certificate_renew_before_days": 365,
    }),
    ("where the adapter asks", ["prometheus_adapter"], {"prometheus_adapter_prometheus_url": "http://a.example:1"}),
]  # fmt: skip
Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane of its own: what is set up here would disturb other tests."""
    with control_plane(tmp_path_factory.mktemp("truth")) as path:
        yield path


@pytest.fixture(scope="module")
def inventory(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory with that one cluster."""
    file = tmp_path_factory.mktemp("inventory") / "clusters.yml"
    content = {"plugin": "kubescale.fleet.clusters", "clusters": {"one": {"kubeconfig": str(kubeconfig)}}}
    file.write_text(yaml.safe_dump(content))
    return file


def run(inventory: Path, playbook: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook, with its state beside the inventory."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), f"--inventory={inventory}", str(playbook)]
    known = {**os.environ, "KUBESCALE_STATE_DIR": str(inventory.parent / "state"), **environment}
    return subprocess.run(
        [*command, *arguments], cwd=conftest.REPOSITORY, env=known, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def told(inventory: Path) -> dict[str, tuple[Objects, Objects]]:
    """For each edit what was predicted and what the run then reported: one playbook, a play for each."""

    def play(name: str, roles: list[str], variables: dict[str, Any], check: bool) -> dict[str, Any]:
        return {
            "name": name,
            "hosts": "clusters",
            "gather_facts": False,
            "check_mode": check,
            "module_defaults": {"kubescale.fleet.apply_set": {"wait": False}},
            "vars": variables,
            "roles": [f"kubescale.fleet.{role}" for role in roles],
        }

    edits = [("everything", BASE, {}), *EDITS]
    plays = [play(name, roles, variables, check) for name, roles, variables in edits for check in (True, False)]
    playbook = inventory.parent / "play.yml"
    playbook.write_text(json.dumps(plays))
    ended = run(inventory, playbook, ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    assert "{\n" in ended.stdout, ended.stdout + ended.stderr
    output, _unused = json.JSONDecoder().raw_decode(ended.stdout, ended.stdout.index("{\n"))
    results = [[task["hosts"]["one"] for task in found["tasks"]] for found in output["plays"]]
    failures = [result["msg"] for found in results for result in found if result.get("failed")]
    assert ended.returncode == 0, failures
    changes = [[entry for result in found for entry in changed(result.get("objects", []))] for found in results]
    return {edit[0]: (changes[2 * number], changes[2 * number + 1]) for number, edit in enumerate(edits)}


def changed(objects: Objects) -> Objects:
    """The objects that do not stay as they are."""
    return [entry for entry in objects if entry["action"] not in ("unchanged", "kept")]


def in_order(objects: Objects) -> list[str]:
    return sorted(json.dumps(entry, sort_keys=True) for entry in objects)


@pytest.mark.parametrize("name", ["everything", *(name for name, _roles, _variables in EDITS)])
def test_what_was_predicted_was_done(told: dict[str, tuple[Objects, Objects]], name: str) -> None:
    predicted, done = told[name]
    assert done, "this edit changes nothing, so it tests nothing"
    assert in_order(predicted) == in_order(done)


def test_the_edits_are_of_all_kinds(told: dict[str, tuple[Objects, Objects]]) -> None:
    entries = [entry for _predicted, done in told.values() for entry in done]
    assert len(EDITS) >= 30
    assert {entry["action"] for entry in entries} >= {"created", "configured", "pruned", "deleted"}
    assert any(entry.get("restarts") for entry in entries)
    assert all(entry["fields"] for entry in entries if entry["action"] == "configured" and entry["kind"] != "Namespace")


DOCUMENT = conftest.REPOSITORY / "docs" / "plan.md"
PLANNER = "kubescale-planner"


@pytest.fixture(scope="module")
def planner(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubeconfig of the planner that the documentation describes."""
    api = connect(kubeconfig)
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    for obj in sorted(parse_definition(blocks), key=lambda obj: "Policy" not in obj["kind"]):
        if obj["metadata"].get("namespace") != "monitoring":
            api.apply(obj, "admin")
    path = f"/api/v1/namespaces/kube-system/serviceaccounts/{PLANNER}/token"
    token = api.request("POST", path, body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})[1]
    content = yaml.safe_load(kubeconfig.read_text())
    content["users"] = [{"name": "admin", "user": {"token": token["status"]["token"]}}]
    file = tmp_path_factory.mktemp("planner") / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    # The API server takes up a policy within a second or so.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            connect(file).apply(config_map("try"), "planner")
        except ApiError as error:
            if "dry runs only" in str(error):
                break
        threading.Event().wait(0.2)
    return file


def config_map(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"a": "b"},
    }


def test_planner_may_try_everything_and_do_nothing(planner: Path, kubeconfig: Path) -> None:
    admin, trier = connect(kubeconfig), connect(planner)
    admin.apply(config_map("there"), "admin")
    assert trier.apply(config_map("new"), "planner", dry_run=True)[0]["data"] == {"a": "b"}
    assert trier.delete("v1", "ConfigMap", "there", "default", dry_run=True) is None
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    powers = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "powers"},
        "rules": [rule],
    }
    assert trier.apply(powers, "planner", dry_run=True)
    change = {"data": {"a": "c"}}
    for attempt in (
        lambda: trier.apply(config_map("new"), "planner"),
        lambda: trier.apply(powers, "planner"),
        lambda: trier.patch("v1", "ConfigMap", "there", change, "default"),
        lambda: trier.delete("v1", "ConfigMap", "there", "default"),
    ):
        with pytest.raises(ApiError, match="the planner may write in dry runs only"):
            attempt()
    for path in (
        f"/api/v1/namespaces/kube-system/serviceaccounts/{PLANNER}/token",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    ):
        with pytest.raises(ApiError) as refused:
            trier.request("POST", path, body={})
        assert refused.value.status == 403
    assert admin.get("v1", "ConfigMap", "new", "default") is None
    found = admin.get("v1", "ConfigMap", "there", "default")
    assert found is not None
    assert found["data"] == {"a": "b"}


@pytest.mark.usefixtures("told")
def test_plan_of_a_planner_is_what_site_then_does(inventory: Path, planner: Path, tmp_path: Path) -> None:
    edits = {"grafana_node_port": 30301, "alertmanager_replicas": 2, "sample_apps": ["node"], "demo_app_target": "30m"}
    edits |= {"prometheus_retention": "2d", "artifacts_images": {"node-exporter": "mirror.example/other"}}
    # A namespace would never go here, where nobody serves the aggregated APIs.
    edits |= {"autoscaled_apps": [SHOP]}
    given = [f"--extra-vars={json.dumps(edits)}"]
    before = versions(connect(planner))
    file = tmp_path / "plan.json"
    asked = [f"--extra-vars=cluster_kubeconfig={planner}", f"--extra-vars=output_file={file}"]
    planned = run(inventory, conftest.REPOSITORY / "playbooks/plan.yml", *given, *asked)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert versions(connect(planner)) == before
    components = conftest.REPOSITORY / "playbooks/components.yml"
    done = run(inventory, components, *given, KUBESCALE_PHASES_FILE=str(tmp_path / "run.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    record = run_record.read(tmp_path / "run.json")
    assert record is not None
    expected = plan.document(record)["clusters"]["one"]
    found = json.loads(file.read_text())["clusters"]["one"]
    assert found == expected
    assert len(found["changes"]) > 5
    assert found["restarts"] > 2
    # And then nothing is left to do.
    again = run(
        inventory, conftest.REPOSITORY / "playbooks/plan.yml", *given, *asked, "--extra-vars=detailed_exit=true"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "one: nothing to do" in again.stdout


def versions(api: Api) -> set[tuple[str, str]]:
    """Every object of the cluster, with its version."""
    return {
        (
            f"{resource.kind} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}",
            item["metadata"].get("resourceVersion", ""),
        )
        for resource in api.resources().values()
        if "list" in resource.verbs
        and resource.kind not in ("Event", "Lease")
        and "metrics.k8s.io" not in resource.group
        for item in api.list(resource.api_version, resource.kind).items
    }
