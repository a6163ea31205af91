# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Applying and removing a set, with a small API server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import pruning
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import (
    Operation,
    Options,
    SharedNamespace,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ForeignError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import PART_OF_LABEL, set_id
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api

from ..kube.api_server import ApiServer, client, served

FOLDER = "/api/v1/namespaces/a/configmaps"
PARENT = "/api/v1/namespaces/kube-system/configmaps/x"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def config_map(name: str, value: str = "1", kind: str = "ConfigMap") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "a"}, "data": {"x": value}}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[ApiServer, Api]]:
    with served() as (server, url):
        server.put("/api/v1/namespaces/a", {})
        yield server, client(tmp_path, url)


def apply(cluster: tuple[ApiServer, Api], *objects: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    """Apply a set. Return name and action of each object, and forget the requests of before."""
    cluster[0].seen.clear()
    outcome = ApplySet(cluster[1], "x", Options(keep=0, **options)).apply(list(objects))
    return [(entry["name"], entry["action"]) for entry in outcome.objects]


def test_members_are_created_pruned_and_removed(cluster: tuple[ApiServer, Api]) -> None:
    server, api = cluster
    assert apply(cluster, config_map("one"), config_map("two")) == [("one", "created"), ("two", "created")]
    server.put(f"{FOLDER}/foreign", {"data": {}})
    doomed = server.objects[f"{FOLDER}/two"]["metadata"]["uid"]
    assert apply(cluster, config_map("one", "2")) == [("one", "configured"), ("two", "pruned")]
    assert {path for path in server.objects if path.startswith(FOLDER)} == {f"{FOLDER}/one", f"{FOLDER}/foreign"}
    (deletion,) = server.requests("DELETE")
    assert deletion.body["preconditions"] == {"uid": doomed}
    ApplySet(api, "x", Options(keep=0)).remove()
    assert [path for path in server.objects if "configmaps" in path] == [f"{FOLDER}/foreign"]


def test_the_parent_names_the_members_before_the_first_one_is_written(cluster: tuple[ApiServer, Api]) -> None:
    apply(cluster, config_map("one"))
    assert [request.path for request in cluster[0].requests(*WRITES)] == [PARENT, f"{FOLDER}/one", PARENT]


def test_a_converged_set_is_read_by_its_metadata_and_writes_nothing(cluster: tuple[ApiServer, Api]) -> None:
    objects = config_map("one"), config_map("secret", kind="Secret")
    apply(cluster, *objects)
    assert apply(cluster, *objects) == [("one", "unchanged"), ("secret", "unchanged")]
    listed = {request.path: "PartialObjectMetadata" in request.accept for request in cluster[0].requests("GET")}
    # A Secret has no fingerprint, so its content is read.
    assert (listed["/api/v1/configmaps"], listed["/api/v1/secrets"]) == (True, False)
    assert {request.path for request in cluster[0].requests(*WRITES)} == {"/api/v1/namespaces/a/secrets/secret"}
    assert f"{FOLDER}/one" not in listed
    apply(cluster, config_map("one", "2"), objects[1], diff=True)
    assert f"{FOLDER}/one" in [request.path for request in cluster[0].requests("GET")]


def test_check_mode_changes_nothing(cluster: tuple[ApiServer, Api]) -> None:
    apply(cluster, config_map("one"), config_map("two"))
    before = dict(cluster[0].objects)
    assert apply(cluster, config_map("one", "2"), config_map("new"), check=True) == [
        ("one", "configured"),
        ("new", "created"),
        ("two", "pruned"),
    ]
    assert cluster[0].objects == before


def test_an_object_of_others_stops_the_set_before_its_first_change(cluster: tuple[ApiServer, Api]) -> None:
    cluster[0].put(f"{FOLDER}/one", {"data": {}})
    with pytest.raises(ForeignError) as caught:
        apply(cluster, config_map("new"), config_map("one"))
    assert [found["name"] for found in caught.value.objects] == ["one"]
    assert cluster[0].requests(*WRITES) == []


@pytest.mark.parametrize("force", [False, True])
def test_fields_of_others_are_taken_only_when_asked(cluster: tuple[ApiServer, Api], force: bool) -> None:
    apply(cluster, config_map("one"), force=force)
    (request,) = [request for request in cluster[0].requests("PATCH") if request.path == f"{FOLDER}/one"]
    assert request.query["force"] == str(force).lower()


def test_an_object_that_took_the_name_of_a_member_is_not_deleted(cluster: tuple[ApiServer, Api]) -> None:
    server, api = cluster
    member = {**config_map("one"), "metadata": {"name": "one", "namespace": "a", "uid": "of-the-member"}}
    server.put(f"{FOLDER}/one", {"data": {}})
    assert pruning.delete_object(Operation(api, "x"), member) is None
    assert f"{FOLDER}/one" in server.objects


def test_a_shared_namespace_goes_with_the_last_set_that_lists_it(cluster: tuple[ApiServer, Api]) -> None:
    server, api = cluster
    shared = [SharedNamespace("shared", {})]
    for name in ("x", "y"):
        ApplySet(api, name, Options(keep=0)).apply([config_map(name)], shared)
    assert server.objects[f"{FOLDER}/x"]["metadata"]["labels"][PART_OF_LABEL] == set_id("x", "kube-system")
    ApplySet(api, "x", Options(keep=0)).remove()
    assert "/api/v1/namespaces/shared" in server.objects
    ApplySet(api, "y", Options(keep=0)).remove()
    assert "/api/v1/namespaces/shared" not in server.objects
