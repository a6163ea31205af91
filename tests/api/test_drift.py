# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What is not as it was applied is found, with its fields and with who changed them; and nothing else is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.drift import Component, Drift, describe, examine
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import SharedNamespace
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ApplySetError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import PART_OF_LABEL, set_id
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import History
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.transport import Request, Transport

from .cluster import control_plane
from .test_apply_set import config_map, crd, deployment, namespace, secret, thing
from .test_revisions import die_at

MakeSet = Callable[..., ApplySet]
Run = Callable[..., subprocess.CompletedProcess[str]]


pytestmark = pytest.mark.usefixtures("sets_go")


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane of its own: what is unknown in it is a matter of all tests."""
    with control_plane(tmp_path_factory.mktemp("drift")) as path:
        yield path


def edit(api: Api, kind: tuple[str, str], where: str, name: str, body: dict[str, Any], manager: str) -> None:
    """Change an object as somebody else's tool does."""
    path = api.resource(*kind).path(where, name)
    api.request("PATCH", path, {"fieldManager": manager}, body, "application/merge-patch+json")


def found(drift: Drift) -> dict[str, tuple[str, dict[str, str]]]:
    """State and fields (with managers) of what was found in the only component."""
    [component] = drift.components
    return {
        f"{finding.ref.kind}/{finding.ref.name}": (
            finding.state,
            {field.path: field.manager for field in finding.fields},
        )
        for finding in component.findings
    }


def full(name: str) -> list[dict[str, Any]]:
    """A set that has a bit of everything."""
    group = f"{name}.example.com"
    app = deployment(name)
    container = app["spec"]["template"]["spec"]["containers"][0]
    container |= {"args": ["--a", "--b"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    container["resources"] = {"requests": {"cpu": "1000m", "memory": "64Mi"}}
    del app["spec"]["replicas"]
    return [
        namespace(name),
        crd(group, "color"),
        thing(group, name, color="red"),
        config_map(name, a="b", c="d"),
        secret(name, word="geheim"),
        app,
    ]


def test_what_was_just_applied_is_in_sync(api: Api, name: str, make_set: MakeSet) -> None:
    shared = [SharedNamespace(f"{name}-shared", {"a": "b"}), SharedNamespace("default", {"not": "ours"})]
    make_set().apply([*full(name), namespace("kube-public")], shared, wait=False)
    # What nobody names in a manifest is nobody's drift.
    api.patch("apps/v1", "Deployment", "app", {"spec": {"replicas": 7}}, name, "scale")
    edit(api, ("v1", "ConfigMap"), name, "settings", {"data": {"theirs": "x"}}, "kubectl-edit")
    drift = examine(api)
    assert drift.components == (Component(name, 1),)
    assert drift.strays == ()
    assert drift.in_sync
    assert f"{name}: 1 of 1 components in sync" in describe(name, drift)


def test_it_takes_few_requests_and_changes_nothing(
    api: Api, name: str, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set().apply(full(name), wait=False)
    edit(api, ("v1", "ConfigMap"), name, "settings", {"data": {"a": "theirs"}}, "kubectl-edit")
    api.resources()
    sent: list[tuple[str, Any]] = []
    real = Transport.send_once

    def send(self: Transport, request: Request) -> Any:
        sent.append((request.method, request.query))
        return real(self, request)

    monkeypatch.setattr(Transport, "send_once", send)
    assert not examine(api).in_sync
    # Tried are only what somebody has changed, and the Secret.
    assert [query["dryRun"] for method, query in sent if method != "GET"] == ["All", "All"]


def test_fields_are_named_with_who_owns_them(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply(full(name), wait=False)
    edit(api, ("v1", "ConfigMap"), name, "settings", {"data": {"a": "theirs", "c": None}}, "kubectl-edit")
    edit(api, ("v1", "Secret"), name, "password", {"data": {"word": "YW5kZXJz"}}, "operator")
    group = f"{name}.example.com/v1"
    edit(api, (group, "Thing"), name, "thing", {"spec": {"color": "green"}}, "painter")
    app = api.get("apps/v1", "Deployment", "app", name)
    assert app is not None
    [container] = app["spec"]["template"]["spec"]["containers"]
    container |= {"image": "example.com/app:hotfix", "args": ["--a"]}
    container["env"][0]["value"] = "one"
    del container["env"][1]
    container["resources"]["requests"]["cpu"] = "2"
    metadata = {"annotations": {"example.com/theirs": "x"}, "labels": {PART_OF_LABEL: None}}
    edit(api, ("apps/v1", "Deployment"), name, "app", {"metadata": metadata, "spec": app["spec"]}, "kubectl-patch")
    shown = found(examine(api))
    of_app = "spec.template.spec.containers[name=app]"
    assert shown == {
        "ConfigMap/settings": ("drifted", {"data.a": "kubectl-edit", "data.c": ""}),
        "Secret/password": ("drifted", {"data.word": "operator"}),
        "Thing/thing": ("drifted", {"spec.color": "painter"}),
        "Deployment/app": (
            "drifted",
            {
                f"metadata.labels[{PART_OF_LABEL}]": "",
                f"{of_app}.args": "kubectl-patch",
                f"{of_app}.env[name=A].value": "kubectl-patch",
                f"{of_app}.env[name=B]": "",
                f"{of_app}.image": "kubectl-patch",
                f"{of_app}.resources.requests.cpu": "kubectl-patch",
            },
        ),
    }
    text = describe(name, examine(api))
    assert f"    {of_app}.image  kubectl-patch" in text.splitlines()
    assert "    data.c  nobody: it was removed" in text.splitlines()
    assert "YW5kZXJz" not in text
    assert "hotfix" not in text
    make_set(force=True).apply(full(name), wait=False)
    assert examine(api).in_sync


def test_what_another_takes_over_with_the_same_value_is_said(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name, a="b")])
    edit(api, ("v1", "ConfigMap"), name, "settings", {"data": {"a": "x"}}, "kubectl-edit")
    edit(api, ("v1", "ConfigMap"), name, "settings", {"data": {"a": "b"}}, "kubectl-edit")
    # A run would take it back, which is a change; so says the plan, and so says this.
    assert make_set(check=True, force=True).apply([namespace(name), config_map(name, a="b")]).changed
    assert found(examine(api)) == {"ConfigMap/settings": ("drifted", {"data.a": "kubectl-edit"})}


def test_missing_and_unknown_objects(api: Api, name: str, make_set: MakeSet) -> None:
    shared = [SharedNamespace(f"{name}-shared", {})]
    make_set().apply([namespace(name), config_map(name, a="b"), deployment(name)], shared, wait=False)
    api.delete("v1", "ConfigMap", "settings", name)
    api.delete("v1", "Namespace", f"{name}-shared")
    theirs = config_map(name, "theirs", a="b")
    theirs["metadata"]["labels"] = {PART_OF_LABEL: set_id(name, "kube-system")}
    api.apply(theirs, "somebody")
    # What a controller makes of a Service carries its labels, too.
    derived = config_map(name, "derived")
    app = api.get("apps/v1", "Deployment", "app", name)
    assert app is not None
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app", "uid": app["metadata"]["uid"]}
    derived["metadata"] |= {"labels": theirs["metadata"]["labels"], "ownerReferences": [owner]}
    api.apply(derived, "controller")
    shown = {key: state for key, (state, _fields) in found(examine(api)).items()}
    shown.pop(f"Namespace/{name}-shared", None)  # it may take its time to go
    assert shown == {"ConfigMap/settings": "missing", "ConfigMap/theirs": "unknown"}
    # All of it is put right by a run.
    make_set().apply([namespace(name), config_map(name, a="b"), deployment(name)], shared, wait=False)
    api.delete("v1", "ConfigMap", "derived", name)
    assert examine(api).in_sync


def test_a_missing_namespace_takes_all_with_it(api: Api, name: str, make_set: MakeSet) -> None:
    objects = [namespace(name), config_map(name, a="b"), secret(name, word="a")]
    make_set().apply(objects)
    api.delete("v1", "Namespace", name)
    states = {state for state, _fields in found(examine(api)).values()}
    assert states == {"missing"}
    make_set().apply(objects)
    assert examine(api).in_sync


def test_objects_of_a_set_that_is_gone(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([config_map("default", name)])
    # Its parent was deleted by hand; and another tool has a set whose parent is of another kind.
    api.delete("v1", "ConfigMap", name, "kube-system")
    other = config_map("default", f"{name}-other")
    other["metadata"]["labels"] = {PART_OF_LABEL: "applyset-of-another-tool-v1"}
    api.apply(other, "kubectl")
    drift = examine(api)
    [stray] = drift.strays
    assert str(stray.ref) == f"ConfigMap default/{name}"
    assert not drift.in_sync
    assert f"unknown ConfigMap default/{name}: its set is gone" in describe(name, drift)
    for each in (name, f"{name}-other"):
        api.delete("v1", "ConfigMap", each, "default")


def test_a_set_of_another_namespace_is_not_gone(api: Api, name: str, make_set: MakeSet) -> None:
    elsewhere = make_set(namespace="default")
    elsewhere.apply([config_map("kube-public", name)])
    assert examine(api).strays == ()
    assert examine(api, namespace="default").components == (Component(name, 1),)
    make_set(namespace="default").remove()


def test_without_a_revision_nothing_can_be_said(api: Api, name: str, make_set: MakeSet) -> None:
    make_set(keep=0).apply([config_map("default", name)])
    [component] = examine(api).components
    assert (component.state, component.revision, component.in_sync) == ("not known", None, False)
    assert "no revision is stored" in component.note
    make_set().apply([config_map("default", name)])
    History(api, name, "kube-system").forget()
    [component] = examine(api).components
    assert component.note == "its revision 1 is gone: somebody deleted it"


def test_an_interrupted_run_is_said(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name), config_map(name, a="b")])
    objects = [namespace(name), config_map(name, a="c"), deployment(name)]
    with pytest.MonkeyPatch.context() as patch:
        die_at("Deployment", patch)
        with pytest.raises(KeyboardInterrupt):
            make_set().apply(objects, wait=False)
    drift = examine(api)
    assert found(drift) == {"Deployment/app": ("missing", {})}
    assert drift.components[0].note.startswith("the run that applies this revision has not ended, or was interrupted")


def test_one_component_alone(api: Api, name: str, make_set: MakeSet) -> None:
    for each in (f"{name}-a", f"{name}-b"):
        make_set(each).apply([config_map("default", each)])
        api.delete("v1", "ConfigMap", each, "default")
    drift = examine(api, [f"{name}_b"])
    assert [component.name for component in drift.components] == [f"{name}-b"]
    with pytest.raises(ApplySetError, match=f"component is 'none'.*there are: {name}-a, {name}-b"):
        examine(api, ["none"])


def test_by_playbook(run_playbook: Run, api: Api, name: str, make_set: MakeSet, tmp_path: Path) -> None:
    make_set().apply([namespace(name), config_map(name, a="b")])
    ended = run_playbook("drift")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "berlin: 1 of 1 components in sync" in ended.stdout
    edit(api, ("v1", "ConfigMap"), name, "settings", {"data": {"a": "theirs"}}, "kubectl-edit")
    ended = run_playbook("drift", "-e", "output=json", "-e", f"output_file={tmp_path}/drift.json")
    assert ended.returncode == 2
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    document = json.loads(line)
    assert document == json.loads((tmp_path / "drift.json").read_text())
    assert (document["cluster"], document["in_sync"]) == ("berlin", False)
    [component] = document["components"]
    [changed] = component["objects"]
    assert changed["fields"] == [{"path": "data.a", "manager": "kubectl-edit"}]
    ended = run_playbook("drift", "-e", f"component={name}")
    assert ended.returncode == 2
    assert "    data.a  kubectl-edit" in ended.stdout.replace("\\n", "\n")
