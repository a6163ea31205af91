# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What apply_set does to a real API server."""

from __future__ import annotations

import copy
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import parent as parents
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import SharedNamespace
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ApplySetError, Outcome
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import PART_OF_LABEL, set_id
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ready import wait_for_sets
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, ApiError, connect
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import DefinitionError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import NotReadyError

from .cluster import find_binary

JSON = dict[str, Any]
MakeSet = Callable[..., ApplySet]


def namespace(name: str) -> JSON:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config_map(where: str, name: str = "settings", **data: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": where}, "data": data}


def secret(where: str, **values: str) -> JSON:
    metadata = {"name": "password", "namespace": where}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def deployment(where: str, image: str = "example.com/app:1") -> JSON:
    labels = {"app": where}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": where},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}},
        },
    }


def crd(group: str, *fields: str) -> JSON:
    schema = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Thing", "plural": "things"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def thing(group: str, where: str, **fields: str) -> JSON:
    metadata = {"name": "thing", "namespace": where}
    return {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": metadata, "spec": fields}


def actions(outcome: Outcome) -> dict[str, str]:
    return {f"{entry['kind']}/{entry['name']}": entry["action"] for entry in outcome.objects}


def annotation(api: Api, name: str, key: str) -> set[str]:
    parent = api.get("v1", "ConfigMap", name, "kube-system")
    assert parent is not None
    return set(filter(None, parent["metadata"]["annotations"][key].split(",")))


def versions(api: Api, name: str) -> dict[str, str]:
    """Resource versions of all members, and of the parent."""
    found = {}
    for kind in (("v1", "Namespace"), ("v1", "ConfigMap"), ("v1", "Secret"), ("apps/v1", "Deployment")):
        for item in api.list(*kind, label_selector=f"{PART_OF_LABEL}={set_id(name, 'kube-system')}").items:
            found[f"{kind[1]}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    parent = api.get("v1", "ConfigMap", name, "kube-system")
    assert parent is not None
    return found | {"parent": parent["metadata"]["resourceVersion"]}


def take_field(api: Api, body: JSON, manager: str) -> None:
    """Apply as somebody else."""
    api.apply(body, manager, force=True)


# -- apply -----------------------------------------------------------------------------------------------------------


def test_first_apply_creates_and_second_writes_nothing(api: Api, name: str, make_set: MakeSet) -> None:
    objects = [deployment(name), secret(name, word="geheim"), config_map(name, a="b"), namespace(name)]
    first = make_set().apply(objects, wait=False)
    assert set(actions(first).values()) == {"created"}
    assert [entry["kind"] for entry in first.objects] == ["Deployment", "Secret", "ConfigMap", "Namespace"]
    before = versions(api, name)
    second = make_set().apply(objects, wait=False)
    assert not second.changed
    assert second.diff == []
    assert versions(api, name) == before


def test_one_change_is_one_changed_object_with_its_difference(name: str, make_set: MakeSet) -> None:
    objects = [namespace(name), config_map(name, a="b"), deployment(name)]
    make_set().apply(objects, wait=False)
    objects[1] = config_map(name, a="c")
    outcome = make_set().apply(objects, wait=False)
    assert [entry["name"] for entry in outcome.objects if entry["action"] == "configured"] == ["settings"]
    [difference] = outcome.diff
    changed = set(difference["before"].splitlines()) ^ set(difference["after"].splitlines())
    assert changed == {"  a: b", "  a: c"}


def test_a_field_that_is_no_longer_named_goes_away(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name, a="b", c="d")])
    assert make_set().apply([namespace(name), config_map(name, a="b")]).changed
    live = api.get("v1", "ConfigMap", "settings", name)
    assert live is not None
    assert live["data"] == {"a": "b"}


def test_a_controllers_own_writing_is_not_our_change(api: Api, name: str, make_set: MakeSet) -> None:
    objects = [namespace(name), deployment(name)]
    make_set().apply(objects, wait=False)
    status = {"status": {"observedGeneration": 1, "replicas": 1}}
    applied = ApplySet.apply

    def apply_with_a_busy_controller(self: Api, *arguments: Any, **options: Any) -> Any:
        api.patch("apps/v1", "Deployment", "app", status, name, "status")
        return real(self, *arguments, **options)

    real = Api.apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "apply", apply_with_a_busy_controller)
        assert not applied(make_set(), objects, wait=False).changed


def test_drift_is_repaired(api: Api, name: str, make_set: MakeSet) -> None:
    objects = [namespace(name), config_map(name, a="b")]
    make_set().apply(objects)
    api.delete("v1", "ConfigMap", "settings", name)
    assert actions(make_set().apply(objects))["ConfigMap/settings"] == "created"


def test_secret_values_never_show(name: str, make_set: MakeSet) -> None:
    first = make_set().apply([namespace(name), secret(name, word="geheim-1", other="geheim-2")])
    second = make_set().apply([namespace(name), secret(name, word="geheim-3", other="geheim-2")])
    shown = repr(first) + repr(second)
    for text in ("geheim", "Z2VoZWlt"):
        assert text not in shown
    [difference] = second.diff
    assert "word: (redacted, changed)" in difference["after"]
    assert "other: (redacted)" in difference["after"]


def test_crd_and_its_objects_in_one_set_even_when_both_change(name: str, make_set: MakeSet) -> None:
    group = f"{name}.example.com"
    outcome = make_set().apply([thing(group, name, color="red"), crd(group, "color"), namespace(name)])
    assert set(actions(outcome).values()) == {"created"}
    assert not make_set().apply([thing(group, name, color="red"), crd(group, "color"), namespace(name)]).changed
    changed = [thing(group, name, color="red", size="big"), crd(group, "color", "size"), namespace(name)]
    predicted = make_set(check=True).apply(changed)
    outcome = make_set().apply(changed)
    assert (
        actions(outcome)["Thing/thing"] == actions(outcome)[f"CustomResourceDefinition/things.{group}"] == "configured"
    )
    assert actions(predicted) == actions(outcome)


def test_a_crd_that_somebody_edits_is_put_right(api: Api, name: str, make_set: MakeSet) -> None:
    group = f"{name}.example.com"
    objects = [crd(group, "color")]
    make_set().apply(objects)
    body = {"spec": {"versions": crd(group, "color", "extra")["spec"]["versions"]}}
    api.patch("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"things.{group}", body)
    with pytest.raises(ApplySetError, match=r"field \.spec\.versions"):
        make_set().apply(objects)
    assert make_set(force=True).apply(objects).changed
    assert not make_set().apply(objects).changed
    label = {"metadata": {"labels": {PART_OF_LABEL: None}}}
    api.patch("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"things.{group}", label)
    assert make_set().apply(objects).changed


# -- errors ----------------------------------------------------------------------------------------------------------


def test_conflict_names_object_field_and_manager_unless_forced(api: Api, name: str, make_set: MakeSet) -> None:
    objects = [namespace(name), config_map(name, a="b")]
    make_set().apply(objects)
    take_field(api, config_map(name, a="theirs"), "somebody")
    with pytest.raises(ApplySetError) as caught:
        make_set().apply(objects)
    for word in (f"ConfigMap {name}/settings", ".data.a", "somebody", "force_conflicts"):
        assert word in str(caught.value)
    with pytest.raises(ApplySetError, match="somebody"):
        make_set(check=True).apply(objects)
    assert make_set(force=True).apply(objects).changed


def test_an_object_of_another_set_is_an_error_before_any_change(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    with pytest.raises(ApplySetError, match=f"ConfigMap {name}/settings belongs to set kube-system/{name}"):
        make_set(f"{name}-other").apply([config_map(name), config_map(name, "second")])
    assert api.get("v1", "ConfigMap", "second", name) is None
    assert api.get("v1", "ConfigMap", f"{name}-other", "kube-system") is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (config_map("") | {"metadata": {"name": "a"}}, "needs one"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}}, "cluster-wide"),
        ({"apiVersion": "example.org/v1", "kind": "Typo", "metadata": {"name": "a"}}, "serves no kind Typo"),
    ],
)
def test_wrong_objects_are_errors_before_any_change(
    api: Api, name: str, make_set: MakeSet, body: JSON, words: str
) -> None:
    with pytest.raises(DefinitionError, match=words):
        make_set().apply([namespace(name), body])
    assert api.get("v1", "Namespace", name) is None
    assert api.get("v1", "ConfigMap", name, "kube-system") is None


def test_an_unknown_field_is_an_error(name: str, make_set: MakeSet) -> None:
    wrong = deployment(name)
    wrong["spec"]["replica"] = 1
    with pytest.raises(ApplySetError, match=f"Deployment {name}/app: .*replica"):
        make_set().apply([namespace(name), wrong], wait=False)


def test_a_set_cannot_take_the_name_of_a_config_map_that_is_there(api: Api, name: str, make_set: MakeSet) -> None:
    api.apply(config_map("kube-system", name, a="b"), "somebody")
    with pytest.raises(ApplySetError, match="not the parent of a set"):
        make_set().apply([namespace(name)])


def test_a_set_of_another_tool_is_left_alone(api: Api, name: str, make_set: MakeSet) -> None:
    parent = config_map("kube-system", name)
    parent["metadata"] |= {
        "labels": {parents.ID_LABEL: set_id(name, "kube-system")},
        "annotations": {parents.TOOLING_ANNOTATION: "kubectl/v1.37.0"},
    }
    api.apply(parent, "kubectl")
    with pytest.raises(ApplySetError, match=r"another tool \(kubectl/v1\.37\.0\)"):
        make_set().remove()


def test_no_objects_is_no_order_to_remove_everything(name: str, make_set: MakeSet) -> None:
    with pytest.raises(DefinitionError, match="state: absent"):
        make_set().apply([])


# -- prune and interruption ------------------------------------------------------------------------------------------


def test_what_is_no_longer_named_is_pruned_with_its_kind(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name), secret(name, word="x")])
    assert annotation(api, name, parents.KINDS_ANNOTATION) == {"ConfigMap", "Namespace", "Secret"}
    outcome = make_set().apply([namespace(name), config_map(name)])
    assert actions(outcome) == {
        f"Namespace/{name}": "unchanged",
        "ConfigMap/settings": "unchanged",
        "Secret/password": "pruned",
    }
    assert api.get("v1", "Secret", "password", name) is None
    assert annotation(api, name, parents.KINDS_ANNOTATION) == {"ConfigMap", "Namespace"}


def test_others_objects_are_never_pruned(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    api.apply(config_map(name, "theirs", a="b"), "somebody")
    make_set().apply([namespace(name), config_map(name, "renamed")])
    assert api.get("v1", "ConfigMap", "theirs", name) is not None
    assert api.get("v1", "ConfigMap", "settings", name) is None


def test_a_run_killed_while_applying_is_cleaned_up_by_the_next(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    real, calls = Api.apply, []

    def dies_at_the_deployment(self: Api, body: JSON, *arguments: Any, **options: Any) -> Any:
        calls.append(body["kind"])
        if body["kind"] == "Deployment":
            raise KeyboardInterrupt
        return real(self, body, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "apply", dies_at_the_deployment)
        with pytest.raises(KeyboardInterrupt):
            make_set().apply([namespace(name), secret(name, word="x"), deployment(name)], wait=False)
    assert calls[0] == "ConfigMap"  # the parent is written before anything else
    assert annotation(api, name, parents.KINDS_ANNOTATION) == {"ConfigMap", "Deployment.apps", "Namespace", "Secret"}
    outcome = make_set().apply([namespace(name)])
    assert actions(outcome) == {
        f"Namespace/{name}": "unchanged",
        "ConfigMap/settings": "pruned",
        "Secret/password": "pruned",
    }
    assert annotation(api, name, parents.KINDS_ANNOTATION) == {"Namespace"}


def test_a_run_killed_while_pruning_goes_on_in_the_next(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name), secret(name, word="x")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "delete", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            make_set().apply([namespace(name), config_map(name)])
    assert actions(make_set().apply([namespace(name), config_map(name)]))["Secret/password"] == "pruned"
    assert not make_set().apply([namespace(name), config_map(name)]).changed


def test_a_namespace_still_in_use_is_not_pruned(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    outcome = make_set().apply([config_map(name)])
    assert actions(outcome)[f"Namespace/{name}"] == "kept"
    assert "would be lost" in outcome.warnings[0]
    assert api.get("v1", "ConfigMap", "settings", name) is not None


# -- absent ----------------------------------------------------------------------------------------------------------


def test_absent_removes_all_in_order_and_then_has_nothing_to_do(api: Api, name: str, make_set: MakeSet) -> None:
    group = f"{name}.example.com"
    make_set().apply([namespace(name), crd(group, "a"), thing(group, name, a="b"), deployment(name)], wait=False)
    predicted = make_set(check=True).remove()
    assert api.get("apps/v1", "Deployment", "app", name) is not None
    outcome = make_set().remove()
    assert [entry["kind"] for entry in outcome.objects] == [
        "Thing",
        "Deployment",
        "CustomResourceDefinition",
        "Namespace",
    ]
    assert actions(predicted) == actions(outcome)
    for kind in (("v1", "Namespace", name), ("v1", "ConfigMap", name, "kube-system")):
        assert api.get(*kind) is None
    assert not make_set().remove().changed


def test_absent_keeps_a_namespace_and_a_crd_that_others_use(api: Api, name: str, make_set: MakeSet) -> None:
    group = f"{name}.example.com"
    make_set().apply([namespace(name), config_map(name), crd(group, "a")])
    other = make_set(f"{name}-other")
    other.apply([namespace(f"{name}-other"), thing(group, f"{name}-other", a="b")])
    api.apply(config_map(name, "theirs", a="b"), "somebody")
    outcome = make_set().remove()
    assert actions(outcome) == {
        "ConfigMap/settings": "deleted",
        f"Namespace/{name}": "kept",
        f"CustomResourceDefinition/things.{group}": "kept",
    }
    assert not make_set().remove().changed
    api.delete("v1", "ConfigMap", "theirs", name)
    make_set(f"{name}-other").remove()
    assert make_set().remove().changed
    assert api.get("v1", "ConfigMap", name, "kube-system") is None


def test_apply_waits_for_a_namespace_that_is_going_away(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    api.delete("v1", "Namespace", name)
    outcome = make_set().apply([namespace(name), config_map(name)])
    assert actions(outcome)[f"Namespace/{name}"] == "created"
    assert api.get("v1", "ConfigMap", "settings", name) is not None


# -- shared namespaces -----------------------------------------------------------------------------------------------


def test_the_last_set_that_lists_a_shared_namespace_removes_it(api: Api, name: str, make_set: MakeSet) -> None:
    shared = [SharedNamespace(name, {"team": "a"})]
    for number in ("1", "2"):
        make_set(f"{name}-{number}").apply([config_map(name, number)], shared)
        assert not make_set(f"{name}-{number}").apply([config_map(name, number)], shared).changed
    live = api.get("v1", "Namespace", name)
    assert live is not None
    assert live["metadata"]["labels"]["team"] == "a"
    assert PART_OF_LABEL not in live["metadata"]["labels"]
    assert actions(make_set(f"{name}-1").remove()) == {"ConfigMap/1": "deleted"}
    predicted = make_set(f"{name}-2", check=True).remove()
    outcome = make_set(f"{name}-2").remove()
    assert actions(outcome) == {"ConfigMap/2": "deleted", f"Namespace/{name}": "deleted"} == actions(predicted)
    assert api.get("v1", "Namespace", name) is None


def test_a_namespace_that_was_there_before_stays(api: Api, name: str, make_set: MakeSet) -> None:
    api.apply(namespace(name), "somebody")
    shared = [SharedNamespace(name, {"team": "a"})]
    assert actions(make_set().apply([config_map(name)], shared))[f"Namespace/{name}"] == "unchanged"
    make_set().remove()
    live = api.get("v1", "Namespace", name)
    assert live is not None
    assert "team" not in live["metadata"]["labels"]


def test_a_member_namespace_can_become_a_shared_one(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    make_set().apply([config_map(name)], [SharedNamespace(name, {})])
    assert not make_set().apply([config_map(name)], [SharedNamespace(name, {})]).changed
    assert actions(make_set().remove()) == {"ConfigMap/settings": "deleted", f"Namespace/{name}": "deleted"}


# -- check mode ------------------------------------------------------------------------------------------------------


def test_check_mode_predicts_the_first_run_and_changes_nothing(api: Api, name: str, make_set: MakeSet) -> None:
    group = f"{name}.example.com"
    objects = [namespace(name), crd(group, "a"), thing(group, name, a="b"), config_map(name), deployment(name)]
    shared = [SharedNamespace(f"{name}-shared", {})]
    predicted = make_set(check=True).apply(objects, shared)
    for kind, instance in (("Namespace", name), ("Namespace", f"{name}-shared")):
        assert api.get("v1", kind, instance) is None
    assert api.get("v1", "ConfigMap", name, "kube-system") is None
    assert predicted.warnings == []
    assert actions(predicted) == actions(make_set().apply(objects, shared, wait=False))


def test_check_mode_predicts_changes_and_prune(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name, a="b"), secret(name, word="x"), deployment(name)], wait=False)
    before = versions(api, name)
    changed = [namespace(name), config_map(name, a="c"), deployment(name), config_map(name, "new")]
    predicted = make_set(check=True).apply(changed, wait=False)
    assert versions(api, name) == before
    outcome = make_set().apply(changed, wait=False)
    assert actions(predicted) == actions(outcome)
    assert actions(outcome) == {
        f"Namespace/{name}": "unchanged",
        "ConfigMap/settings": "configured",
        "Deployment/app": "unchanged",
        "ConfigMap/new": "created",
        "Secret/password": "pruned",
    }
    assert predicted.diff == outcome.diff
    assert not make_set(check=True).apply(changed).changed


# -- waiting ---------------------------------------------------------------------------------------------------------


def make_ready(api: Api, where: str) -> None:
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    api.patch("apps/v1", "Deployment", "app", {"status": status}, where, "status")


def test_apply_returns_as_soon_as_the_rollout_is_complete(api: Api, name: str, make_set: MakeSet) -> None:
    timer = threading.Timer(1.0, make_ready, (api, name))
    timer.start()
    assert make_set().apply([namespace(name), deployment(name)]).changed
    timer.join()
    assert not make_set().apply([namespace(name), deployment(name)]).changed
    assert wait_for_sets(api, [name], timeout=5) == 2


def test_what_is_broken_is_explained_when_time_is_over(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), deployment(name)], wait=False)
    pod = copy.deepcopy(deployment(name)["spec"]["template"])
    api.request("POST", f"/api/v1/namespaces/{name}/serviceaccounts", body={"metadata": {"name": "x"}})
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "app-1", "namespace": name}
    pod["spec"]["serviceAccountName"] = "x"
    live, _ = api.apply(pod, "somebody")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {"name": "app", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    status = {"phase": "Pending", "containerStatuses": [container]}
    api.patch("v1", "Pod", "app-1", {"status": status}, name, "status")
    event = {
        "metadata": {"name": "e1", "namespace": name},
        "involvedObject": {"kind": "Pod", "namespace": name, "name": "app-1", "uid": live["metadata"]["uid"]},
        "type": "Warning",
        "reason": "Failed",
        "message": "the registry says no",
    }
    api.request("POST", f"/api/v1/namespaces/{name}/events", body=event)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting.FIRST_LINE", 0.2)
        with pytest.raises(NotReadyError) as caught:
            make_set(timeout=1.5, say=lines.append).apply([namespace(name), deployment(name)])
    for word in (f"Deployment {name}/app", "ImagePullBackOff", "no such image", "the registry says no"):
        assert word in str(caught.value)
    assert f"Namespace {name}" not in str(caught.value)
    assert f"Deployment {name}/app" in lines[0]


def test_a_failed_job_does_not_use_up_the_time(api: Api, name: str, make_set: MakeSet) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": name},
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": "example.com/x"}]}}
        },
    }
    make_set().apply([namespace(name), job], wait=False)
    when = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "gave up"}
        for kind in ("FailureTarget", "Failed")
    ]
    api.patch("batch/v1", "Job", "job", {"status": {"startTime": when, "conditions": conditions}}, name, "status")
    with pytest.raises(NotReadyError, match=r"failed after [0-2] s:\n- Job .*BackoffLimitExceeded: gave up"):
        make_set().apply([namespace(name), job])


def test_waiting_for_a_set_that_is_not_there_names_those_that_are(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name)])
    with pytest.raises(ApplySetError, match=f"no-such-set: no such set in namespace kube-system; there are: .*{name}"):
        wait_for_sets(api, ["no-such-set"])


# -- kubectl and the client --------------------------------------------------------------------------------------------


def test_kubectl_sees_a_set_that_another_tool_manages(
    kubeconfig: Path, name: str, make_set: MakeSet, tmp_path: Path
) -> None:
    make_set().apply([namespace(name), config_map(name)])
    manifest = tmp_path / "manifest.yml"
    manifest.write_text(f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings, namespace: {name}}}}}")
    command = [
        str(find_binary("kubectl")), "apply", f"--kubeconfig={kubeconfig}", "--namespace=kube-system",
        "--server-side", "--prune", f"--applyset=configmaps/{name}", f"--filename={manifest}", "--dry-run=server",
    ]  # fmt: skip
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "KUBECTL_APPLYSET": "true"}
    )
    assert ended.returncode != 0
    assert "kubescale.fleet" in ended.stderr


def test_members_carry_what_the_specification_asks_for(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    parent = api.get("v1", "ConfigMap", name, "kube-system")
    assert parent is not None
    assert parent["metadata"]["labels"] == {"applyset.kubernetes.io/id": set_id(name, "kube-system")}
    annotations = parent["metadata"]["annotations"]
    assert annotations["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap,Namespace"
    assert annotations["applyset.kubernetes.io/additional-namespaces"] == name
    assert annotations["applyset.kubernetes.io/tooling"].startswith("kubescale.fleet/")
    member = api.get("v1", "ConfigMap", "settings", name)
    assert member is not None
    assert member["metadata"]["labels"] == {"applyset.kubernetes.io/part-of": set_id(name, "kube-system")}


def test_the_client_reads_watches_and_refuses_in_plain_words(api: Api, kubeconfig: Path, name: str) -> None:
    api.apply(namespace(name), "somebody")
    listing = api.list("v1", "ConfigMap", name)
    api.apply(config_map(name, a="b"), "somebody")
    events = api.watch("v1", "ConfigMap", name, resource_version=listing.resource_version, timeout=5)
    assert next(event for event in events if event.object["metadata"]["name"] == "settings").type == "ADDED"
    assert list(api.watch("v1", "ConfigMap", name, field_selector="metadata.name=none", timeout=1)) == []
    with pytest.raises(ApiError, match="does not serve kind Nonsense of v1") as caught:
        connect(kubeconfig).list("v1", "Nonsense")
    assert caught.value.status == 404
    assert api.delete("v1", "ConfigMap", "settings", name) is None
    assert api.get("v1", "ConfigMap", "settings", name) is None
    assert "major" in api.raw("/version")
