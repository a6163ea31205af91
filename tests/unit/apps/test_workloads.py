"""Checks of the workloads of autoscaled apps."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_pairs
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.workloads import examine_workloads
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.entry import Findings, Source
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError

WORKLOAD = "/apis/apps/v1/namespaces/shop/deployments/shop"
LIMITS = "/api/v1/namespaces/shop/limitranges"
REQUEST = {"requests": {"cpu": "100m", "memory": "64Mi"}}


class Api:
    """An API with one answer per path. It records the requested paths."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def raw(self, path: str) -> Any:
        self.asked.append(path)
        if path not in self.answers:
            raise ApiError(f"{path} not found", 404)
        if isinstance(answer := self.answers[path], Exception):
            raise answer
        return answer


def workload(*resources: Any, **pod: Any) -> dict[str, Any]:
    """Return an answer with a workload of containers a, b, ... with these resources."""
    containers = [{"name": chr(97 + number), "resources": item} for number, item in enumerate(resources)]
    return {WORKLOAD: {"spec": {"template": {"spec": {"containers": containers, **pod}}}}}


def examine(answers: dict[str, Any], *scale_on: dict[str, Any], users: bool = True) -> Findings:
    entry = {"name": "shop", "namespace": "shop", "workload": "deployment/shop", "scale_on": list(scale_on)}
    source = Source("autoscaled_apps[0]", where=lambda path: f"all.yml:{len(path)}", from_user=users)
    return examine_workloads(Api(**answers), parse_pairs([(entry, source)]))


CPU = {"resource": "cpu", "target": "60%"}


def test_a_workload_that_is_missing_is_a_warning() -> None:
    found = examine({}, CPU)
    assert found.errors == []
    assert found.warnings == [
        "autoscaled_apps[0].workload (all.yml:8): Deployment shop/shop does not exist yet; the autoscaler waits for it"
    ]


def test_what_the_collection_makes_is_not_looked_at() -> None:
    assert examine({}, CPU, users=False) == Findings()


def test_a_container_without_request_is_named() -> None:
    found = examine(workload(REQUEST, {}), CPU)
    assert found.warnings == []
    assert found.errors == [
        "autoscaled_apps[0].scale_on[0].target = '60%' (all.yml:18): Deployment shop/shop: container b requests no "
        "cpu, but the target is a percentage of the request; set its resources.requests.cpu (such as 100m), or a "
        "quantity as target"
    ]


@pytest.mark.parametrize(
    ("answers", "scale_on", "text"),
    [
        (workload(REQUEST, REQUEST), CPU, ""),
        (workload(REQUEST, None), CPU, "container b requests no cpu"),
        (workload({}, {}), CPU, "container a and b requests no cpu"),
        (workload({"limits": {"cpu": 1}}), CPU, ""),
        (workload({}), {**CPU, "target": "500m"}, ""),
        (workload({}), {**CPU, "resource": "memory"}, "resources.requests.memory (such as 128Mi)"),
        (workload(REQUEST, {}), {**CPU, "container": "a"}, ""),
        (workload(REQUEST, {}), {**CPU, "container": "b"}, "container b requests no cpu"),
        (workload(REQUEST), {**CPU, "container": "c"}, "has no container c; it has a"),
        (workload(REQUEST), {**CPU, "container": "c", "target": "1"}, "has no container c; it has a"),
        (workload({}, resources=REQUEST), CPU, ""),
        (workload({}, resources=REQUEST), {**CPU, "container": "a"}, "container a requests no cpu"),
        (workload(REQUEST, initContainers=[{"name": "i"}]), CPU, ""),
        (workload(REQUEST, initContainers=[{"name": "i", "restartPolicy": "Always"}]), CPU, "container i requests no"),
        (workload({}), {"metric": "queue", "target": 1}, ""),
    ],
)
def test_a_percentage_needs_a_request_of_each_container(
    answers: dict[str, Any], scale_on: dict[str, Any], text: str
) -> None:
    errors = examine(answers, scale_on).errors
    assert len(errors) == bool(text), errors
    assert text in "".join(errors)


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ({"type": "Container", "defaultRequest": {"cpu": "100m"}}, 0),
        ({"type": "Container", "default": {"cpu": "100m"}}, 0),
        ({"type": "Container", "max": {"cpu": "1"}}, 1),
        ({"type": "Pod", "default": {"cpu": "1"}}, 1),
    ],
)
def test_a_namespace_may_request_for_containers_that_say_nothing(limit: dict[str, Any], count: int) -> None:
    answers = {**workload({}), LIMITS: {"items": [{"spec": {"limits": [limit]}}]}}
    assert len(examine(answers, CPU).errors) == count


def test_one_request_where_nothing_is_missing() -> None:
    api = Api(**workload(REQUEST))
    entry = {"name": "shop", "namespace": "shop", "workload": "deployment/shop", "scale_on": CPU}
    examine_workloads(api, parse_pairs([(entry, Source("autoscaled_apps[0]"))]))
    assert api.asked == [WORKLOAD]


def test_a_cluster_that_does_not_answer_is_not_one_without_workloads() -> None:
    with pytest.raises(ApiError, match="no answer"):
        examine({WORKLOAD: ApiError("no answer")}, CPU)
