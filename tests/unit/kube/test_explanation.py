# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What is said about broken objects, on objects as a cluster has them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError, Listing
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.explanation import (
    LENGTH,
    LINES,
    PODS,
    Explainer,
    is_bad,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import ref_of

JSON = dict[str, Any]
NOW = "2026-11-21T10:00:00Z"


class FakeApi:
    """Answers from a list of objects, as the server would."""

    def __init__(self, *objects: JSON, logs: dict[tuple[str, str, bool], str] | None = None) -> None:
        self.objects = list(objects)
        self.logs = logs or {}
        self.asked: list[tuple[str, str, bool]] = []

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> JSON | None:
        found = [item for item in self.list(api_version, kind, namespace).items if item["metadata"]["name"] == name]
        return found[0] if found else None

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Listing:
        assert label_selector != "", "all pods of a namespace were asked for"
        expression = re.fullmatch(r"(\w+) in \((.*)\)", label_selector or "")
        allowed = {expression[1]: expression[2].split(",")} if expression else {}
        equalities = "" if expression else label_selector or ""
        labels = dict(part.split("=") for part in equalities.split(",") if part)
        fields = dict(part.split("=") for part in (field_selector or "").split(",") if part)
        return Listing(
            [
                item
                for item in self.objects
                if (item["apiVersion"], item["kind"]) == (api_version, kind)
                and namespace in (None, item["metadata"].get("namespace"))
                and all(item["metadata"].get("labels", {}).get(name) in values for name, values in allowed.items())
                and labels.items() <= item["metadata"].get("labels", {}).items()
                and fields.get("involvedObject.uid") in (None, item.get("involvedObject", {}).get("uid"))
                and fields.get("type") in (None, item.get("type"))
            ],
            "1",
        )

    def raw(self, path: str, query: dict[str, str], timeout: float, accept: str) -> str:
        asked = (path.split("/")[-2], query["container"], query["previous"] == "true")
        self.asked.append(asked)
        if asked not in self.logs:
            raise ApiError("previous terminated container not found" if asked[2] else "container is waiting to start")
        return self.logs[asked]


def obj(kind: str, name: str, api_version: str = "v1", **content: Any) -> JSON:
    metadata = {"name": name, "namespace": "ns", "uid": f"{kind}-{name}", **content.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def event(about: JSON, reason: str, message: str, kind: str = "Warning", when: str = NOW) -> JSON:
    name = f"{about['metadata']['name']}.{reason}.{when}"
    involved = {"uid": about["metadata"]["uid"]}
    return obj("Event", name, type=kind, reason=reason, message=message, involvedObject=involved, lastTimestamp=when)


def node(name: str, **conditions: str) -> JSON:
    known = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True", **conditions}
    told = [{"type": kind, "status": status, "reason": f"Reason{kind}"} for kind, status in known.items()]
    return obj("Node", name, metadata={"namespace": None}, spec={}, status={"conditions": told})


def deployment() -> JSON:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}}
    return obj("Deployment", "a", "apps/v1", spec=spec, status={"observedGeneration": 0})


def pod(name: str = "a-1", on: str = "w1", *statuses: JSON, init: list[JSON] | None = None, **spec: Any) -> JSON:
    condition = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}
    if not on:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    status: JSON = {"phase": "Pending", "conditions": [condition]}
    status |= {"containerStatuses": list(statuses), "initContainerStatuses": init or []}
    place = {"nodeName": on} if on else {}
    return obj("Pod", name, metadata={"labels": {"app": "a"}}, spec={**place, "containers": [], **spec}, status=status)


def container(name: str = "app", restarts: int = 0, last: JSON | None = None, **state: JSON) -> JSON:
    before = {"terminated": last} if last else {}
    return {"name": name, "ready": False, "restartCount": restarts, "state": state, "lastState": before}


def explained(api: FakeApi, about: JSON) -> list[str]:
    return Explainer(api).explain(ref_of(about))  # type: ignore[arg-type]


def test_an_image_that_cannot_be_pulled() -> None:
    broken = pod("a-1", "w1", container(waiting={"reason": "ImagePullBackOff", "message": "not found"}))
    api = FakeApi(deployment(), broken, node("w1"), event(broken, "Failed", "no such image"))
    assert explained(api, deployment()) == [
        "pod a-1 on w1: Ready=False (ContainersNotReady)",
        "  event Failed: no such image",
        "  container app waits: ImagePullBackOff: not found",
    ]
    assert api.asked == []


def test_pods_are_found_by_expressions_too_and_never_without_a_selector() -> None:
    broken = pod("a-1", "w1", container(waiting={"reason": "ImagePullBackOff"}))
    owner = deployment()
    owner["spec"]["selector"] = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}
    assert explained(FakeApi(owner, broken, node("w1")), owner)[0].startswith("pod a-1 on w1")
    owner["spec"]["selector"] = {"matchLabels": {}}
    assert explained(FakeApi(owner, broken, node("w1")), owner) == []


def test_a_container_that_crashes_shows_the_log_of_the_run_before() -> None:
    last = {"exitCode": 137, "reason": "OOMKilled"}
    broken = pod("a-1", "w1", container(restarts=3, last=last, waiting={"reason": "CrashLoopBackOff"}))
    logs = {("a-1", "app", True): "starting\nreading everything\n"}
    assert explained(FakeApi(deployment(), broken, node("w1"), logs=logs), deployment())[1:] == [
        "  container app waits: CrashLoopBackOff",
        "  container app ended before, 3 restarts: OOMKilled, exit code 137",
        "  last log lines of the run before:",
        "  | starting",
        "  | reading everything",
    ]


def test_a_container_that_runs_again_and_is_not_ready_shows_both_logs() -> None:
    broken = pod("a-1", "w1", container(restarts=1, last={"exitCode": 1}, running={"startedAt": NOW}))
    logs = {("a-1", "app", True): "panic", ("a-1", "app", False): "cannot reach the database"}
    said = explained(FakeApi(deployment(), broken, node("w1"), logs=logs), deployment())
    assert said[-4:-2] == ["  last log lines of the run before:", "  | panic"]
    assert said[-2:] == ["  last log lines:", "  | cannot reach the database"]


def test_of_a_pod_in_its_init_containers_only_these_are_shown() -> None:
    ended = container("migrate", terminated={"exitCode": 2, "reason": "Error", "message": "no schema"})
    fine = container("prepare", terminated={"exitCode": 0, "reason": "Completed"})
    waits = container(waiting={"reason": "PodInitializing"})
    broken = pod("a-1", "w1", waits, init=[fine, ended])
    api = FakeApi(deployment(), broken, node("w1"), logs={("a-1", "migrate", False): "error: no schema"})
    assert explained(api, deployment())[1:] == [
        "  container migrate ended: Error: no schema, exit code 2",
        "  last log lines:",
        "  | error: no schema",
    ]


def test_a_node_that_is_away_is_named_and_not_asked_for_logs() -> None:
    broken = pod("a-1", "w1", container(running={"startedAt": NOW}))
    api = FakeApi(deployment(), broken, node("w1", Ready="Unknown", DiskPressure="Unknown"), node("w2", Ready="False"))
    said = explained(api, deployment())
    assert "  node w1: Ready=Unknown (ReasonReady)" in said
    assert not any("w2" in line for line in said)
    assert api.asked == []


def test_a_pod_without_a_place_shows_what_is_wrong_with_all_nodes() -> None:
    broken = pod("a-1", "")
    cordoned = node("w2")
    cordoned["spec"]["unschedulable"] = True
    api = FakeApi(deployment(), broken, node("w1", MemoryPressure="True"), cordoned, node("w3"))
    api.objects.append(event(broken, "FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu."))
    assert explained(api, deployment()) == [
        "pod a-1: PodScheduled=False (Unschedulable: 0/1 nodes)",
        "  event FailedScheduling: 0/3 nodes are available: 3 Insufficient cpu.",
        "  node w1: MemoryPressure=True (ReasonMemoryPressure)",
        "  node w2: is cordoned",
    ]


def test_a_volume_claim_that_is_not_bound_says_why_even_if_that_is_a_normal_event() -> None:
    claim = obj("PersistentVolumeClaim", "data", spec={}, status={"phase": "Pending"})
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    volumes.append({"name": "other", "persistentVolumeClaim": {"claimName": "gone"}})
    broken = pod("a-1", "", volumes=volumes)
    api = FakeApi(deployment(), broken, claim, event(claim, "FailedBinding", "no storage class is set", "Normal"))
    assert explained(api, deployment())[1:] == [
        "  volume claim data: phase Pending",
        "    event FailedBinding: no storage class is set",
        "  volume claim gone does not exist",
    ]
    assert explained(api, claim) == ["event FailedBinding: no storage class is set"]


def test_pods_that_cannot_even_be_made() -> None:
    owners = [{"uid": deployment()["metadata"]["uid"]}]
    sets = [
        obj("ReplicaSet", f"a-{number}", "apps/v1", metadata={"ownerReferences": owners}, spec={"replicas": wanted})
        for number, wanted in enumerate((0, 1))
    ]
    forbidden = event(sets[1], "FailedCreate", "pods is forbidden: exceeded quota: small")
    assert explained(FakeApi(deployment(), *sets, forbidden), deployment()) == [
        "ReplicaSet a-1:",
        "  event FailedCreate: pods is forbidden: exceeded quota: small",
    ]


def api_service() -> JSON:
    condition = {"type": "Available", "status": "False", "reason": "MissingEndpoints"}
    spec = {"service": {"name": "a", "namespace": "ns"}}
    made = obj("APIService", "v1.x", "apiregistration.k8s.io/v1", spec=spec, status={"conditions": [condition]})
    del made["metadata"]["namespace"]
    return made


@pytest.mark.parametrize(
    ("objects", "logs", "said"),
    [
        ([], {}, ["Service ns/a does not exist"]),
        ([obj("Service", "a", spec={"selector": {"app": "a"}})], {}, ["Service ns/a has no pods (selector app=a)"]),
        (
            [
                obj("Service", "a", spec={"selector": {"app": "a"}}),
                obj(
                    "Pod",
                    "a-1",
                    metadata={"labels": {"app": "a"}},
                    spec={"containers": [{"name": "app"}]},
                    status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
                ),
            ],
            {("a-1", "app", False): "no answer from Prometheus"},
            ["pod a-1 is ready", "last log lines:", "| no answer from Prometheus"],
        ),
    ],
)
def test_what_is_behind_an_api_service(objects: list[JSON], logs: Any, said: list[str]) -> None:
    found = explained(FakeApi(api_service(), *objects, logs=logs), api_service())
    assert found == ["Available=False (MissingEndpoints)", *said]


def test_each_broken_pod_is_explained_once() -> None:
    broken = pod("a-1", "w1", container(waiting={"reason": "CreateContainerConfigError", "message": "no secret"}))
    service = obj("Service", "a", spec={"selector": {"app": "a"}})
    api = FakeApi(deployment(), api_service(), service, broken, node("w1"))
    explainer = Explainer(api)  # type: ignore[arg-type]
    assert len(explainer.explain(ref_of(deployment()))) > 1
    assert explainer.explain(ref_of(api_service()))[1:] == ["pod a-1: see above"]


def test_the_length_is_bounded_and_says_where_more_is() -> None:
    last, waiting = {"exitCode": 1}, {"reason": "CrashLoopBackOff"}
    statuses = [container(f"c{n}", restarts=1, waiting=waiting, last=last) for n in range(9)]
    pods = [pod(f"a-{number}", "w1", *statuses) for number in range(PODS + 2)]
    logs = {
        (item["metadata"]["name"], status["name"], True): "\n".join(["x" * 1000] * 10)
        for item in pods
        for status in statuses
    }
    said = explained(FakeApi(deployment(), *pods, node("w1"), logs=logs), deployment())
    assert len(said) == LINES
    assert max(map(len, said)) == LENGTH
    assert said[-1] == "(and more: kubectl --namespace ns describe deployment a)"
    short = explained(FakeApi(deployment(), *(pod(f"a-{n}", "w1") for n in range(PODS + 2)), node("w1")), deployment())
    assert short[-1] == "and 2 more pods"


@pytest.mark.parametrize(
    ("kind", "status", "bad"),
    [
        ("Ready", "True", False),
        ("Ready", "Unknown", True),
        ("MemoryPressure", "False", False),
        ("NetworkUnavailable", "False", False),
        ("NetworkUnavailable", "True", True),
        ("ReplicaFailure", "True", True),
    ],
)
def test_which_conditions_are_bad(kind: str, status: str, bad: bool) -> None:
    assert is_bad({"type": kind, "status": status}) == bad
