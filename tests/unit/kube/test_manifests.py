# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Reading, ordering, comparing and showing objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import (
    DefinitionError,
    Ref,
    changed_fields,
    difference,
    in_phases,
    in_removal_phases,
    parse_definition,
    plain,
    ref_of,
    restarts_pods,
    was_changed,
)

JSON = dict[str, Any]


def body(kind: str, name: str = "a", namespace: str = "", api_version: str = "v1", **more: Any) -> JSON:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


ONE = "{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}"
TWO = "{apiVersion: v1, kind: ConfigMap, metadata: {name: two}}"


@pytest.mark.parametrize(
    "definition",
    [
        f"{ONE}\n---\n---\n{TWO}\n",
        [body("ConfigMap", "one"), body("ConfigMap", "two")],
        [ONE, body("ConfigMap", "two"), None],
        {"apiVersion": "v1", "kind": "List", "items": [body("ConfigMap", "one"), body("ConfigMap", "two")]},
        iter([body("ConfigMap", "one"), body("ConfigMap", "two")]),
    ],
)
def test_every_form_of_definition(definition: Any) -> None:
    assert [obj["metadata"]["name"] for obj in parse_definition(definition)] == ["one", "two"]


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "one.yml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: '{{ not a template }}'}\n")
    assert parse_definition(TWO, [str(path)])[0]["data"] == {"a": "{{ not a template }}"}
    with pytest.raises(DefinitionError, match=r"files: .*nothing.yml cannot be read"):
        parse_definition(None, [str(tmp_path / "nothing.yml")])


def test_text_that_looks_like_a_date_or_yamls_value_key_stays_text() -> None:
    [obj] = parse_definition("apiVersion: v1\nkind: A\nmetadata: {name: a}\nspec: [2024-01-01, =]")
    assert obj["spec"] == ["2024-01-01", "="]


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("a: [", "definition is not valid YAML"),
        ("just text", "object 1 is 'just text', not a mapping"),
        ([ONE, {"kind": "A", "metadata": {}}], "object 2 (A without name) has no apiVersion and no metadata.name"),
        ({"apiVersion": "v1", "metadata": {"name": "a"}}, "object 1 (without kind a) has no kind"),
        (body("A", "a") | {"metadata": {"name": 7}}, "no metadata.name"),
        (body("A", "a") | {"metadata": {"name": "a", "namespace": ""}}, "metadata.namespace ''"),
        (body("A", "a") | {"metadata": {"name": "a", "labels": {"x": True}}}, "metadata.labels.x: True"),
        (f"{ONE}\n---\n{TWO}\n---\n{ONE}", "ConfigMap one (v1) occurs twice, as objects 1 and 3"),
        ([body("A", api_version="g/v1"), body("A", api_version="g/v2")], "twice"),
    ],
)
def test_mistakes_are_named(definition: Any, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_definition(definition)
    assert words in str(caught.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_definition([{}, ONE, ONE])
    assert "object 1" in str(caught.value)
    assert "twice" in str(caught.value)


OBJECTS = [
    body("HorizontalPodAutoscaler", api_version="autoscaling/v2"),
    body("APIService", api_version="apiregistration.k8s.io/v1"),
    body("ServiceMonitor", api_version="monitoring.coreos.com/v1"),
    body("Deployment", api_version="apps/v1"),
    body("ClusterRole", api_version="rbac.authorization.k8s.io/v1"),
    body("Deployment", "custom", api_version="other.example.com/v1"),
    body("CustomResourceDefinition", api_version="apiextensions.k8s.io/v1"),
    body("Namespace"),
]


def kinds(groups: list[list[JSON]]) -> list[list[str]]:
    return [[f"{obj['kind']}/{obj['metadata']['name']}" for obj in group] for group in groups]


def test_order_of_application_and_removal() -> None:
    assert kinds(in_phases(OBJECTS)) == [
        ["Namespace/a"],
        ["CustomResourceDefinition/a"],
        ["ClusterRole/a"],
        ["Deployment/a"],
        ["ServiceMonitor/a", "Deployment/custom"],
        ["APIService/a"],
        ["HorizontalPodAutoscaler/a"],
    ]
    assert kinds(in_removal_phases(OBJECTS)) == [
        ["APIService/a"],
        ["HorizontalPodAutoscaler/a"],
        ["ServiceMonitor/a", "Deployment/custom"],
        ["Deployment/a"],
        ["ClusterRole/a"],
        ["CustomResourceDefinition/a"],
        ["Namespace/a"],
    ]


def test_identity() -> None:
    ref = ref_of(body("Deployment", "web", "demo", "apps/v1"))
    assert ref == Ref("apps/v1", "Deployment", "demo", "web")
    assert str(ref) == "Deployment demo/web"
    assert ref.key == ("apps", "Deployment", "demo", "web")


def live(version: str, fields: JSON | None = None, **more: Any) -> JSON:
    obj = body("ConfigMap", "a", "demo", **more)
    entry = {"manager": "us", "operation": "Apply", "fieldsV1": fields or {"f:data": {}}, "time": "now"}
    status = {"manager": "us", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}}
    obj["metadata"] |= {"resourceVersion": version, "uid": "u", "generation": 1, "managedFields": [status, entry]}
    return obj


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (live("1", data={"a": "b"}), live("1", data={"a": "b"}), False),
        (live("1", data={"a": "b"}), live("2", data={"a": "c"}), True),
        (live("1", data={"a": "b"}), live("2", data={"a": "b", "by": "others"}), False),
        (live("1", data={"a": "b"}), live("2", data={"a": "b"}, status={"ready": True}), False),
        (live("1", data={"a": "b"}), live("2", {"f:data": {"f:a": {}}}, data={"a": "b"}), True),
        (live("1", data={"a": "b"}), live("1", data={"a": "dry run"}), True),
    ],
)
def test_only_our_own_change_counts(before: JSON, after: JSON, changed: bool) -> None:
    assert was_changed(before, after, body("ConfigMap", "a", "demo", data={"a": "x"}), "us") is changed


def test_lists_are_compared_as_far_as_they_are_ours() -> None:
    desired = body("A", spec={"items": [{"name": "x"}]})
    before = live("1", spec={"items": [{"name": "x", "by": "others"}]})
    assert not was_changed(before, live("2", spec={"items": [{"name": "x"}]}), desired, "us")
    assert was_changed(before, live("2", spec={"items": [{"name": "x"}, {"name": "y"}]}), desired, "us")


def test_a_difference_has_no_noise() -> None:
    shown = difference(live("1", data={"a": "b"}, status={"x": 1}), live("2", data={"a": "c\nd\n"}, status={"x": 2}))
    assert shown["before_header"] == shown["after_header"] == "ConfigMap demo/a (v1)"
    assert (
        shown["before"] == "apiVersion: v1\ndata:\n  a: b\nkind: ConfigMap\nmetadata:\n  name: a\n  namespace: demo\n"
    )
    assert "  a: |\n    c\n    d\n" in shown["after"]
    assert plain(None) == {}


@pytest.mark.parametrize("section", ["data", "stringData"])
def test_secrets_are_redacted_but_their_changes_show(section: str) -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "geheim"}
    old = body("Secret", "a", **{section: {"same": "geheim", "other": "geheim"}})
    new = body("Secret", "a", **{section: {"same": "geheim", "other": "geheim2", "new": "geheim"}})
    new["metadata"]["annotations"] = annotations
    for shown in (difference(None, new), difference(old, None), difference(old, new)):
        assert "geheim" not in str(shown)
    after = difference(old, new)["after"].splitlines()
    assert [line for line in after if "redacted, changed" in line] == ["  other: (redacted, changed)"]
    assert new["metadata"]["annotations"] is annotations


def test_schemas_of_crds_show_only_when_they_change() -> None:
    version = {"name": "v1", "schema": {"openAPIV3Schema": {"description": "long"}}}
    crd = body("CustomResourceDefinition", api_version="apiextensions.k8s.io/v1", spec={"versions": [version]})
    assert "long" not in difference(None, crd)["after"]
    assert "long" in difference(crd, crd)["after"]


def owned(obj: JSON, fields: JSON) -> JSON:
    entry = {"manager": "us", "operation": "Apply", "fieldsV1": fields}
    return {**obj, "metadata": {**obj["metadata"], "managedFields": [entry]}}


def deployment(containers: list[JSON], **spec: Any) -> JSON:
    return body("Deployment", api_version="apps/v1", spec={**spec, "template": {"spec": {"containers": containers}}})


WEB, SIDE = {"name": "web", "image": "a"}, {"name": "side", "image": "b"}


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ([WEB], [{**WEB, "image": "c"}], ["[web].image"]),
        ([WEB], [WEB, SIDE], ["[side]"]),
        ([WEB, SIDE], [SIDE], ["[web]"]),
        ([WEB, SIDE], [SIDE, WEB], [""]),
        ([{**WEB, "args": ["-x"]}], [{**WEB, "args": ["-x", "-y"]}], ["[web].args"]),
        ([{"image": "a"}], [{"image": "b"}], [""]),
    ],
)
def test_fields_in_lists_are_named_by_their_members(before: list[JSON], after: list[JSON], fields: list[str]) -> None:
    found = changed_fields(deployment(before), deployment(after), deployment(after), "us")
    assert found == [f"spec.template.spec.containers{field}" for field in fields]


def test_fields_of_others_are_not_what_an_apply_changed() -> None:
    desired = deployment([WEB])
    before = deployment([WEB], replicas=1, paused=True)
    before["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1", "example.com/ours": "x"}
    before = owned(before, {"f:metadata": {"f:annotations": {"f:example.com/ours": {}}}, "f:spec": {"f:paused": {}}})
    after = deployment([WEB], replicas=5)
    after["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}
    assert changed_fields(before, after, desired, "us") == ["metadata.annotations[example.com/ours]", "spec.paused"]
    assert "spec.replicas" in changed_fields(before, after, None, "us")


def test_member_of_a_mapping_that_is_owned_as_a_whole_is_missed_when_it_goes() -> None:
    before = owned(body("Pod", spec={"nodeSelector": {"a": "1", "b": "2"}}), {"f:spec": {"f:nodeSelector": {}}})
    after = body("Pod", spec={"nodeSelector": {"a": "1"}})
    assert changed_fields(before, after, after, "us") == ["spec.nodeSelector.b"]


def test_fields_of_a_secret_are_its_keys() -> None:
    before, after = body("Secret", data={"a": "eA==", "b.c": "eA=="}), body("Secret", data={"a": "eQ==", "b.c": "eQ=="})
    assert changed_fields(before, after, after, "us") == ["data.a", "data[b.c]"]


@pytest.mark.parametrize(
    ("kind", "api_version", "field", "restarts"),
    [
        ("Deployment", "apps/v1", "spec.template.spec.containers[web].image", True),
        ("DaemonSet", "apps/v1", "spec.template.metadata.annotations[x/y]", True),
        ("StatefulSet", "apps/v1", "spec.replicas", False),
        ("Deployment", "apps/v1", "metadata.labels.x", False),
        ("Prometheus", "monitoring.coreos.com/v1", "spec.retention", True),
        ("Prometheus", "monitoring.coreos.com/v1", "spec.replicas", False),
        ("Alertmanager", "monitoring.coreos.com/v1", "metadata.labels.x", False),
        ("ServiceMonitor", "monitoring.coreos.com/v1", "spec.endpoints", False),
        ("ConfigMap", "v1", "data.x", False),
    ],
)
def test_pods_restart_for_what_they_are_made_from(kind: str, api_version: str, field: str, restarts: bool) -> None:
    assert restarts_pods(body(kind, api_version=api_version), ["metadata.labels.x", field]) is restarts
