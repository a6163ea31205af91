"""On a cluster where others serve metrics, a run changes nothing, unless it is told to adopt what is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import Ref
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import present, wait_for
from playbook_runs import REPOSITORY, Run, run_playbook

MANAGED = Path(__file__).resolve().parents[1] / "managed"
KUBECONFIG = REPOSITORY / ".state" / "existing" / "kubeconfig"
ADOPT = ["--extra-vars", "adopt=metrics_server,prometheus_adapter"]
RESOURCE_METRICS, CUSTOM_METRICS = "v1beta1.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io"
WORKLOADS = {"metrics-server": "kube-system", "their-adapter": "monitoring"}


def site(*arguments: str) -> Run:
    return run_playbook("site", *arguments, inventory=MANAGED)


@pytest.fixture(scope="module")
def api() -> kube.Api:
    """The cluster's API."""
    return kube.connect(str(KUBECONFIG))


def api_service(api: kube.Api, name: str) -> dict[str, Any]:
    found = api.get("apiregistration.k8s.io/v1", "APIService", name)
    assert found is not None
    return found


def is_available(item: dict[str, Any]) -> bool:
    return any(entry["type"] == "Available" and entry["status"] == "True" for entry in item["status"]["conditions"])


def pods(api: kube.Api, *names: str) -> set[str]:
    """The uids of the pods of Deployments; another uid is another pod."""
    return {
        item["metadata"]["uid"]
        for name in names
        for item in api.list("v1", "Pod", WORKLOADS[name]).items
        if item["metadata"]["name"].startswith(f"{name}-")
    }


@pytest.fixture(scope="module")
def their_pods(api: kube.Api) -> set[str]:
    """What ran before us; theirs serves both APIs."""
    apis = [Ref("apiregistration.k8s.io/v1", "APIService", "", name) for name in (RESOURCE_METRICS, CUSTOM_METRICS)]
    wait_for(api, apis, present, time.monotonic() + 180)
    found = pods(api, *WORKLOADS)
    assert len(found) == len(WORKLOADS)
    return found


def foreign(run: Run) -> dict[str, str]:
    """Objects of others that a run met, with their owners."""
    return {
        entry["name"]: entry["owner"]
        for results in run.results("foreign").values()
        for result in results
        for entry in result["foreign"]
    }


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["run", "check"])
def test_a_run_names_the_owners_and_changes_nothing(api: kube.Api, their_pods: set[str], arguments: list[str]) -> None:
    run = site(*arguments)
    assert run.returncode != 0
    assert run.results("changed") == {}
    assert foreign(run) == {
        RESOURCE_METRICS: "was made with kubectl-client-side-apply",
        CUSTOM_METRICS: "belongs to Helm release monitoring/their-adapter",
    }
    assert pods(api, *WORKLOADS) == their_pods
    assert api.get("v1", "ConfigMap", "prometheus", "kube-system") is None


def test_a_role_alone_refuses_before_its_first_object(api: kube.Api, their_pods: set[str]) -> None:
    run = run_playbook("metrics", "--tags", "metrics_server", inventory=MANAGED)
    assert run.returncode != 0
    assert run.results("changed") == {}
    assert {"metrics-server", "system:metrics-server", RESOURCE_METRICS} <= foreign(run).keys()
    assert api.get("v1", "ConfigMap", "metrics-server", "kube-system") is None
    assert pods(api, *WORKLOADS) == their_pods


def actions(run: Run) -> dict[str, str]:
    """What a run did, or would do, with the objects of the two components."""
    return {
        f"{entry['kind']} {entry['name']}": entry["action"]
        for results in run.results("objects").values()
        for result in results
        for entry in result["objects"]
        if entry["kind"] in ("APIService", "Deployment") and "operator" not in entry["name"]
    }


def test_what_is_told_to_be_adopted_is_ours_then(api: kube.Api, their_pods: set[str]) -> None:
    before = api.get("apps/v1", "Deployment", "metrics-server", "kube-system")
    their_adapter = pods(api, "their-adapter")
    predicted = site("--check", *ADOPT)
    assert predicted.returncode == 0, predicted.messages()
    assert pods(api, *WORKLOADS) == their_pods
    run = site(*ADOPT)
    assert run.returncode == 0, run.messages()
    assert (
        actions(predicted)
        == actions(run)
        == {
            "Deployment metrics-server": "adopted",
            f"APIService {RESOURCE_METRICS}": "adopted",
            "Deployment prometheus-adapter": "created",
            f"APIService {CUSTOM_METRICS}": "adopted",
            "APIService v1beta2.custom.metrics.k8s.io": "created",
        }
    )
    unused = [entry for results in run.results("unused").values() for result in results for entry in result["unused"]]
    assert {(entry["kind"], entry["namespace"], entry["name"]) for entry in unused} == {
        ("Deployment", "monitoring", "their-adapter"),
        ("Service", "monitoring", "their-adapter"),
    }
    # Theirs goes on running, though nobody asks it any more.
    assert pods(api, "their-adapter") == their_adapter
    after = api.get("apps/v1", "Deployment", "metrics-server", "kube-system")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [item["name"] for item in after["spec"]["template"]["spec"]["containers"]] == ["metrics-server"]


def test_the_apis_answer_from_ours_and_are_verified(api: kube.Api) -> None:
    for name, namespace in ((RESOURCE_METRICS, "kube-system"), (CUSTOM_METRICS, "custom-metrics")):
        service = api_service(api, name)
        assert is_available(service)
        assert service["spec"]["service"]["namespace"] == namespace
        assert service["spec"]["caBundle"]
        assert not service["spec"].get("insecureSkipTLSVerify", False)
    nodes = {item["metadata"]["name"] for item in api.list("v1", "Node").items}
    measured = api.raw("/apis/metrics.k8s.io/v1beta1/nodes")
    assert {item["metadata"]["name"] for item in measured["items"]} == nodes
    assert api.raw("/apis/custom.metrics.k8s.io/v1beta1")["kind"] == "APIResourceList"


def test_a_second_run_has_nothing_to_do_nor_to_adopt() -> None:
    for arguments in (ADOPT, []):
        run = site(*arguments)
        assert run.returncode == 0, run.messages()
        assert run.results("changed") == {}


def test_what_is_switched_off_takes_what_is_ours_and_leaves_theirs(api: kube.Api) -> None:
    their_adapter = pods(api, "their-adapter")
    states = ["--extra-vars", "metrics_server_state=absent prometheus_adapter_state=absent"]
    run = run_playbook("metrics", "--tags", "metrics_server,prometheus_adapter", *states, inventory=MANAGED)
    assert run.returncode == 0, run.messages()
    assert api.get("apps/v1", "Deployment", "metrics-server", "kube-system") is None
    assert api.get("apiregistration.k8s.io/v1", "APIService", CUSTOM_METRICS) is None
    assert pods(api, "their-adapter") == their_adapter
