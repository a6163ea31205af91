# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The action plugins as tasks: results, check mode, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import conftest

PLAYBOOK = "play.yml"


class Playbook:
    """Runs tasks against the control plane and gives their results by name."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig

    def __call__(self, *tasks: dict[str, Any], check: bool = False) -> list[dict[str, Any]]:
        """Results of the tasks; a failed task ends the play, its result is the last."""
        for task in tasks:
            [arguments] = [value for key, value in task.items() if key.startswith("kubescale.fleet.")]
            arguments.setdefault("kubeconfig", str(self.kubeconfig))
            task.setdefault("name", "Task")
        play = {"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": list(tasks)}
        (self.folder / PLAYBOOK).write_text(json.dumps([play]))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,", "--diff"]
        environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        ended = subprocess.run(
            [*command, *(["--check"] if check else []), str(self.folder / PLAYBOOK)],
            cwd=conftest.REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "{\n" in ended.stdout, ended.stdout + ended.stderr
        output, _ = json.JSONDecoder().raw_decode(ended.stdout, ended.stdout.index("{\n"))
        return [task["hosts"]["localhost"] for task in output["plays"][0]["tasks"]]


@pytest.fixture
def run(tmp_path: Path, kubeconfig: Path) -> Playbook:
    """Function that runs tasks."""
    return Playbook(tmp_path, kubeconfig)


def apply_set(**arguments: Any) -> dict[str, Any]:
    return {"kubescale.fleet.apply_set": arguments}


def config_map(namespace: str, value: str = "a") -> str:
    metadata = f"{{name: settings, namespace: {namespace}}}"
    return f"{{apiVersion: v1, kind: ConfigMap, metadata: {metadata}, data: {{a: {value}}}}}"


def test_results_of_a_life(run: Playbook, name: str) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    [predicted] = run(apply_set(name=name, definition=[namespace, config_map(name)]), check=True)
    created, again, changed, ready, gone, gone_again = run(
        apply_set(name=name, definition=[namespace, config_map(name)]),
        apply_set(name=name, definition="{{ lookup('ansible.builtin.vars', 'text') }}")
        | {"vars": {"text": f"{json.dumps(namespace)}\n---\n{config_map(name)}"}},
        apply_set(name=name, definition=[namespace, config_map(name, "b")]),
        {"kubescale.fleet.apply_set_ready": {"names": [name]}},
        apply_set(name=name, state="absent"),
        apply_set(name=name, state="absent"),
    )
    assert created["changed"]
    assert [result["revision"] for result in (predicted, created, again, changed, gone)] == [None, 1, 1, 2, None]
    assert created["objects"] == predicted["objects"]
    assert created["objects"][1] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "namespace": name,
        "name": "settings",
        "action": "created",
    }
    assert len(created["diff"]) == 2
    assert created["set"] == name
    assert (again["changed"], again["diff"]) == (False, [])
    assert changed["objects"][1] == {**created["objects"][1], "action": "configured", "fields": ["data.a"]}
    assert [entry["before_header"] for entry in changed["diff"]] == [f"ConfigMap {name}/settings (v1)"]
    assert (ready["changed"], ready["members"]) == (False, 1)
    assert {entry["action"] for entry in gone["objects"]} == {"deleted"}
    assert (gone_again["changed"], gone_again["objects"]) == (False, [])


def test_only_what_the_run_applied_is_waited_for(run: Playbook, name: str) -> None:
    # Nothing schedules pods here.
    metadata = {"name": "never", "namespace": "default"}
    pending = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    run(apply_set(name=f"{name}-other", definition=[pending], wait=False))
    _, removed_too, ready = run(
        apply_set(name=name, definition=config_map("default"), wait=False),
        apply_set(name=f"{name}-gone", state="absent"),
        {"kubescale.fleet.apply_set_ready": {"wait_timeout": 5}},
    )
    assert not removed_too["changed"]
    assert not ready.get("failed")
    [impatient] = run({"kubescale.fleet.apply_set_ready": {"names": [f"{name}-other"], "wait_timeout": 1}})
    assert "Pod default/never" in impatient["msg"]
    run(apply_set(name=f"{name}-other", state="absent"), apply_set(name=name, state="absent"))


def test_a_cluster_that_is_not_made_yet(run: Playbook, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    applied, removed, ready = run(
        apply_set(name="a", definition=config_map("a"), kubeconfig=missing),
        apply_set(name="a", state="absent", kubeconfig=missing),
        {"kubescale.fleet.apply_set_ready": {"kubeconfig": missing}},
        check=True,
    )
    assert applied["changed"]
    assert "does not exist yet" in applied["msg"]
    assert [result["changed"] for result in (removed, ready)] == [False, False]
    assert (
        "does not exist: the cluster was not made yet"
        in run(apply_set(name="a", state="absent", kubeconfig=missing))[0]["msg"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"definition": "{}"}, "missing required arguments: name"),
        ({"name": "Not_good", "definition": "{}"}, "name is 'Not_good'; it must be lowercase"),
        ({"name": "a", "definitions": "{}"}, "definitions"),
        ({"name": "a", "state": "gone"}, "one of: present, absent, got: gone"),
        ({"name": "a", "wait_timeout": 0}, "wait_timeout is 0; it must be 1 or more"),
        ({"name": "a", "revisions": -1}, "revisions is -1; it must be 0 or more"),
        ({"name": "a"}, "holds no objects"),
        ({"name": "a", "definition": "kind: A"}, "object 1 (A without name) has no apiVersion and no metadata.name"),
    ],
)
def test_wrong_arguments(run: Playbook, arguments: dict[str, Any], words: str) -> None:
    [result] = run(apply_set(**arguments))
    assert result["failed"]
    assert words in result["msg"]


def test_what_the_server_warns_of_is_a_warning(run: Playbook, name: str) -> None:
    labels = {"pod-security.kubernetes.io/warn": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "example.com/a"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    metadata = {"name": "app", "namespace": name}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    [result] = run(apply_set(name=name, definition=[namespace, deployment], wait=False))
    assert "would violate PodSecurity" in str(result["warnings"])
