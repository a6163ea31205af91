"""Fields that differ, by what managedFields says of an object as it is and as it would be."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.drift import (
    Component,
    Drift,
    Finding,
    changed_fields,
    describe,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import Ref


def managed(spec: Any, **fields: dict[str, Any]) -> dict[str, Any]:
    """An object with such a spec, whose fields below it are managed by "ours" and others."""
    entries = [
        {
            "manager": "kubescale.fleet" if manager == "ours" else manager,
            "operation": "Apply" if manager == "ours" else "Update",
            "fieldsV1": {"f:spec": tree},
        }
        for manager, tree in fields.items()
    ]
    return {"metadata": {"managedFields": entries}, "spec": spec}


def told(live: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    return {field.path: field.manager for field in changed_fields(live, after)}


PORT = 'k:{"containerPort":80,"protocol":"TCP"}'


@pytest.mark.parametrize(
    ("tree", "live", "after", "path"),
    [
        ({"f:a": {}}, {"a": 1}, {"a": 2}, "spec.a"),
        ({"f:a.b/c": {}}, {"a.b/c": 1}, {"a.b/c": 2}, "spec[a.b/c]"),
        ({"f:a": {}}, {"a": [1]}, {"a": [1, 2]}, "spec.a"),
        ({"f:a": {}}, {}, {"a": 2}, "spec.a"),
        ({"f:a": {".": {}, 'v:"x"': {}}}, {"a": ["y"]}, {"a": ["x", "y"]}, 'spec.a["x"]'),
        ({"f:a": {"i:1": {}}}, {"a": ["y"]}, {"a": ["y", "x"]}, "spec.a[1]"),
        (
            {"f:a": {PORT: {".": {}, "f:name": {}}}},
            {"a": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]},
            {"a": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]},
            "spec.a[containerPort=80,protocol=TCP].name",
        ),
        # A whole item is one field, not all that is in it.
        (
            {"f:a": {PORT: {".": {}, "f:name": {}, "f:protocol": {}}}},
            {"a": []},
            {"a": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]},
            "spec.a[containerPort=80,protocol=TCP]",
        ),
        # Somebody has made something else of it.
        ({"f:a": {"f:b": {}}}, {"a": "text"}, {"a": {"b": 1}}, "spec.a.b"),
        ({"f:a": {PORT: {"f:b": {}}}}, {"a": "text"}, {"a": []}, ""),
    ],
)
def test_paths(tree: Any, live: Any, after: Any, path: str) -> None:
    assert told(managed(live, ours=tree), managed(after, ours=tree)) == ({path: ""} if path else {})


def test_what_an_apply_would_remove_is_a_difference() -> None:
    live = managed({"a": 1, "b": 2}, ours={"f:a": {}, "f:b": {}})
    assert told(live, managed({"a": 1}, ours={"f:a": {}})) == {"spec.b": ""}


def test_who_owns_a_field_or_the_whole_that_it_is_in() -> None:
    ours = {"f:a": {"f:b": {}}, "f:c": {}, "f:d": {}}
    live = managed(
        {"a": {"b": 1}, "c": 1, "d": 1},
        ours={"f:d": {}},
        whole={"f:a": {}},
        one={"f:c": {}},
        two={"f:c": {}, "f:d": {}},
    )
    after = managed({"a": {"b": 2}, "c": 2, "d": 1}, ours=ours)
    assert told(live, after) == {"spec.a.b": "whole", "spec.c": "one and two"}


def test_a_lost_field_with_the_same_value() -> None:
    live = managed({"a": 1, "b": 1}, ours={"f:b": {}}, kubectl={"f:a": {}})
    assert told(live, managed({"a": 1, "b": 1}, ours={"f:a": {}, "f:b": {}})) == {"spec.a": "kubectl"}
    # Of an object that is not ours at all, equal fields are not all named.
    live = managed({"a": 1, "b": 1}, kubectl={"f:a": {}, "f:b": {}})
    assert told(live, managed({"a": 1, "b": 2}, ours={"f:a": {}, "f:b": {}})) == {"spec.b": "kubectl"}


def test_a_table_and_a_paragraph_for_each_that_is_not_in_sync() -> None:
    gone = Finding(Ref("v1", "ConfigMap", "a", "b"), "missing")
    components = (Component("fine", 3), Component("hpa", 2, (gone,)), Component("old", None, note="no revision"))
    stray = Finding(Ref("v1", "Secret", "a", "c"), "unknown", note="its set is gone (x)")
    assert describe("berlin", Drift(components, (stray,), 0.26)).splitlines() == [
        "berlin: 1 of 3 components in sync, compared in 0.3 s",
        "",
        "component  revision  state      drifted  missing  unknown",
        "fine       3         in sync    -        -        -",
        "hpa        2         drifted    -        1        -",
        "old        -         not known  -        -        -",
        "",
        "hpa",
        "  missing ConfigMap a/b",
        "",
        "old",
        "  no revision",
        "",
        "of no set",
        "  unknown Secret a/c: its set is gone (x)",
    ]
    assert describe("berlin", Drift((), (), 0.1)) == "berlin: 0 of 0 components in sync, compared in 0.1 s\n"
