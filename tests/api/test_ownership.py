# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Objects that somebody else made: refused before any change, or adopted so that nothing of theirs is left in them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import ownership, phases
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ApplySetError, ForeignError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import set_id
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import owned_fields

from .cluster import find_binary
from .test_apply_set import actions, config_map, crd, deployment, namespace

JSON = dict[str, Any]
MakeSet = Callable[..., ApplySet]
HELM = {"meta.helm.sh/release-name": "adapter", "meta.helm.sh/release-namespace": "theirs"}


@pytest.fixture(autouse=True)
def api_services_go(api: Api) -> Iterator[None]:
    """Deletes the APIServices of a test. Nothing answers behind them, and no namespace goes while they are there."""
    yield
    kind = ("apiregistration.k8s.io/v1", "APIService")
    for item in api.list(*kind).items:
        if item["metadata"]["name"].endswith(".example.com"):
            api.delete(*kind, item["metadata"]["name"])


@pytest.fixture
def kubectl_apply(kubeconfig: Path) -> Callable[..., None]:
    """Function that makes objects as people do: kubectl apply, without server-side apply."""

    def apply(*objects: JSON) -> None:
        subprocess.run(
            [str(find_binary("kubectl")), "apply", f"--kubeconfig={kubeconfig}", "--filename=-"],
            input=yaml.safe_dump_all(objects),
            text=True,
            check=True,
            capture_output=True,
        )

    return apply


def api_service(group: str, where: str, service: str = "app", **spec: Any) -> JSON:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": service, "namespace": where, "port": 443},
            **spec,
        },
    }


def service(where: str, name: str = "app", **selector: str) -> JSON:
    spec = {"selector": selector or {"app": where}, "ports": [{"port": 443}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": where}, "spec": spec}


def theirs(name: str) -> JSON:
    """A Deployment as somebody else would have it: same selector as ours, all else different."""
    made = deployment(name, "example.com/theirs:1")
    made["metadata"]["labels"] = {"theirs": "yes"}
    template = made["spec"]["template"]["spec"]
    template["containers"][0] |= {"name": "server", "args": ["--theirs"]}
    template["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    return made


def bare(obj: JSON | None) -> JSON:
    """What an object is, without what tells of its history."""
    assert obj is not None
    metadata = {key: obj["metadata"].get(key) for key in ("name", "namespace", "labels", "annotations")}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def test_others_objects_are_refused_before_any_change(
    api: Api, name: str, make_set: MakeSet, kubectl_apply: Callable[..., None]
) -> None:
    helm = config_map(name, "helm")
    helm["metadata"]["annotations"] = HELM
    kubectl_apply(namespace(name), helm, theirs(name))
    before = api.get("apps/v1", "Deployment", "app", name)
    wanted = [namespace(name), config_map(name, "first"), config_map(name, "helm", a="b"), deployment(name)]
    for check in (True, False):
        with pytest.raises(ForeignError) as caught:
            make_set(check=check).apply(wanted, wait=False)
        owners = {(entry["kind"], entry["name"]): entry["owner"] for entry in caught.value.objects}
        assert owners == {
            ("ConfigMap", "helm"): "belongs to Helm release theirs/adapter",
            ("Deployment", "app"): "was made with kubectl-client-side-apply",
        }
    assert api.get("apps/v1", "Deployment", "app", name) == before
    assert api.get("v1", "ConfigMap", "first", name) is None
    assert api.get("v1", "ConfigMap", name, "kube-system") is None


def test_what_is_adopted_is_as_if_we_had_made_it(
    api: Api, name: str, make_set: MakeSet, kubectl_apply: Callable[..., None]
) -> None:
    other = f"{name}-other"
    kubectl_apply(
        namespace(name),
        theirs(name),
        service(name),
        api_service(f"{name}.example.com", name, insecureSkipTLSVerify=True),
    )
    before = api.get("apps/v1", "Deployment", "app", name)
    assert before is not None

    def wanted(where: str) -> list[JSON]:
        ours = api_service(f"{where}.example.com", where, "ours", caBundle="YQ==")
        return [namespace(where), deployment(where), service(where), ours]

    predicted = make_set(check=True, adopt=True).apply(wanted(name), wait=False)
    outcome = make_set(adopt=True).apply(wanted(name), wait=False)
    assert actions(outcome) == {
        f"Namespace/{name}": "unchanged",
        "Deployment/app": "adopted",
        "Service/app": "adopted",
        f"APIService/v1.{name}.example.com": "adopted",
    }
    assert predicted.objects == outcome.objects
    [adopted] = [entry for entry in outcome.objects if entry["kind"] == "Deployment"]
    assert "spec.template.spec.volumes" in adopted["fields"]
    assert adopted["restarts"] is True
    make_set(other).apply(wanted(other), wait=False)
    after = api.get("apps/v1", "Deployment", "app", name)
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [container["name"] for container in after["spec"]["template"]["spec"]["containers"]] == ["app"]
    assert "volumes" not in after["spec"]["template"]["spec"]
    assert after["metadata"]["labels"] == {ownership.PART_OF_LABEL: set_id(name, "kube-system")}
    assert not after["metadata"].get("annotations")
    registered = api.get("apiregistration.k8s.io/v1", "APIService", f"v1.{name}.example.com")
    assert registered is not None
    assert registered["spec"]["service"]["name"] == "ours"
    assert "insecureSkipTLSVerify" not in registered["spec"]
    assert [entry["manager"] for entry in after["metadata"]["managedFields"]] == [ownership.MANAGER]
    # The diff that was predicted is the one that was made.
    texts = [[entry["after"] for entry in sorted(o.diff, key=str)] for o in (predicted, outcome)]
    assert texts[0] == texts[1]


def test_what_was_adopted_needs_nothing_more_and_goes_with_the_set(
    api: Api, name: str, make_set: MakeSet, kubectl_apply: Callable[..., None]
) -> None:
    kubectl_apply(namespace(name), theirs(name), config_map(name, "theirs"))
    wanted = [namespace(name), deployment(name)]
    make_set(adopt=True).apply(wanted, wait=False)
    assert not make_set(adopt=True).apply(wanted, wait=False).changed
    assert not make_set().apply(wanted, wait=False).changed
    assert actions(make_set().remove()) == {"Deployment/app": "deleted"}
    assert api.get("v1", "ConfigMap", "theirs", name) is not None


def test_what_cannot_be_changed_in_place_is_made_anew(
    api: Api, name: str, make_set: MakeSet, kubectl_apply: Callable[..., None]
) -> None:
    other = theirs(name)
    other["spec"]["selector"]["matchLabels"] = other["spec"]["template"]["metadata"]["labels"] = {"their": "label"}
    kubectl_apply(namespace(name), other)
    before = api.get("apps/v1", "Deployment", "app", name)
    assert before is not None
    predicted = make_set(check=True, adopt=True).apply([deployment(name)], wait=False)
    assert api.get("apps/v1", "Deployment", "app", name) == before
    outcome = make_set(adopt=True).apply([deployment(name)], wait=False)
    assert actions(outcome) == {"Deployment/app": "replaced"}
    assert outcome.objects == predicted.objects
    assert (outcome.objects[0]["fields"], outcome.objects[0]["restarts"]) == ([], True)
    assert any("selector" in warning for warning in outcome.warnings)
    after = api.get("apps/v1", "Deployment", "app", name)
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert not make_set().apply([deployment(name)], wait=False).changed


def test_what_nobody_may_make_is_not_deleted(api: Api, name: str, make_set: MakeSet) -> None:
    api.apply(namespace(name), "somebody")
    api.apply(deployment(name), "somebody")
    wrong = deployment(name)
    wrong["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    with pytest.raises(ApplySetError, match=r"Deployment .* cannot be adopted: .*image"):
        make_set(adopt=True).apply([wrong], wait=False)
    assert api.get("apps/v1", "Deployment", "app", name) is not None
    # Deleting a CRD takes all its objects along: never to adopt it.
    group = f"{name}.example.com"
    api.apply(crd(group, "a"), "somebody")
    cluster_wide = crd(group, "a")
    cluster_wide["spec"]["scope"] = "Cluster"
    with pytest.raises(ApplySetError, match=r"CustomResourceDefinition .* cannot be adopted: .*scope"):
        make_set(adopt=True).apply([cluster_wide], wait=False)


def test_what_is_left_without_use_is_named_and_left(api: Api, name: str, make_set: MakeSet) -> None:
    group, where = f"{name}.example.com", f"{name}-theirs"
    left = theirs(where)
    left["metadata"]["annotations"] = HELM
    for obj in (namespace(where), left, service(where), api_service(group, where)):
        api.apply(obj, "helm")
    versions = [api.get("apps/v1", "Deployment", "app", where), api.get("v1", "Service", "app", where)]
    outcome = make_set(adopt=True).apply([namespace(name), api_service(group, name), deployment(name)], wait=False)
    assert {(entry["kind"], entry["namespace"], entry["name"]) for entry in outcome.unused} == {
        ("Deployment", where, "app"),
        ("Service", where, "app"),
    }
    assert any("Helm release theirs/adapter" in warning for warning in outcome.warnings)
    assert versions == [api.get("apps/v1", "Deployment", "app", where), api.get("v1", "Service", "app", where)]


def test_a_member_of_another_set_is_never_adopted(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name)])
    with pytest.raises(ForeignError, match=f"belongs to set kube-system/{name}"):
        make_set(f"{name}-other", adopt=True).apply([config_map(name)])
    api.delete("v1", "ConfigMap", name, "kube-system")
    assert actions(make_set(f"{name}-other", adopt=True).apply([config_map(name)])) == {"ConfigMap/settings": "adopted"}


def test_a_run_killed_while_adopting_is_completed_by_the_next(api: Api, name: str, make_set: MakeSet) -> None:
    api.apply(namespace(name), "somebody")
    api.apply(config_map(name, a="b", theirs="x"), "somebody")

    class KilledError(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases, "apply_patiently", die)
        with pytest.raises(KilledError):
            make_set(adopt=True).apply([config_map(name, a="b")])
    assert make_set().apply([config_map(name, a="b")]).changed
    live = api.get("v1", "ConfigMap", "settings", name)
    assert live is not None
    assert live["data"] == {"a": "b"}
    assert owned_fields(live, ownership.MANAGER)
    assert not make_set().apply([config_map(name, a="b")]).changed


def test_a_namespace_that_was_there_stays_as_it_is(api: Api, name: str, make_set: MakeSet) -> None:
    api.apply(namespace(name), "somebody")
    before = api.get("v1", "Namespace", name)
    ours = namespace(name)
    ours["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    for adopt in (False, True):
        make_set(adopt=adopt).apply([ours, config_map(name)])
        assert api.get("v1", "Namespace", name) == before
    assert actions(make_set().remove()) == {"ConfigMap/settings": "deleted"}


def test_who_serves_an_api_is_found_at_once(api: Api, name: str, make_set: MakeSet) -> None:
    group = f"{name}.example.com"
    assert ownership.others_that_serve(api, {group: [set_id(name, "kube-system")]}) == []
    api.apply(crd(group, "a"), "somebody")
    api.apply(api_service(f"b.{group}", name), "somebody")
    ours = [set_id("another", "kube-system"), set_id(name, "kube-system")]
    ids = {group: ours, f"b.{group}": ours}
    found = {(ref.kind, ref.name, owner, served) for ref, owner, served in ownership.others_that_serve(api, ids)}
    assert found == {
        ("CustomResourceDefinition", f"things.{group}", "was made with somebody", group),
        ("APIService", f"v1.b.{group}", "was made with somebody", f"b.{group}"),
    }
    make_set(adopt=True).apply([crd(group, "a"), api_service(f"b.{group}", name)], wait=False)
    assert ownership.others_that_serve(api, ids) == []
