# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Sets go back to what they were: which revision that is, and what it does to the cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import (
    Handover,
    Options,
    SharedNamespace,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ApplySetError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import History, RevisionError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.rollback import (
    Result,
    RollbackPlan,
    Target,
    plan_rollback,
    roll_back,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.runs import who
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api

from .cluster import control_plane, deployments_become_ready
from .test_apply_set import config_map, deployment, namespace, secret
from .test_revisions import die_at

MakeSet = Callable[..., ApplySet]
Run = Callable[..., subprocess.CompletedProcess[str]]


pytestmark = pytest.mark.usefixtures("sets_go")


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane of its own: what was run last is a matter of all sets."""
    with control_plane(tmp_path_factory.mktemp("rollback")) as path:
        yield path


@pytest.fixture
def history(api: Api) -> Callable[[str], list[tuple[int, str, str]]]:
    """Function that tells the revisions of a set: number, state and summary."""

    def told(name: str) -> list[tuple[int, str, str]]:
        found = History(api, name, "kube-system").all()
        return [(revision.number, revision.state, revision.summary) for revision in found]

    return told


def chosen(found: RollbackPlan) -> dict[str, int]:
    """Sets that go back, in order, with the revisions they go back to."""
    return {step.set: step.to for step in found.steps}


def back(api: Api, run: str = "undo", **target: Any) -> Result:
    return roll_back(api, plan_rollback(api, Target(**target)).steps, Options(run=run, timeout=20.0))


def value(api: Api, where: str, name: str = "settings") -> str | None:
    found = api.get("v1", "ConfigMap", name, where)
    return found["data"]["a"] if found else None


def test_one_component_goes_back_and_a_second_time_further(
    api: Api, name: str, make_set: MakeSet, history: Callable[[str], Any]
) -> None:
    for number, letter in enumerate("abc"):
        make_set(run=f"run{number}").apply([namespace(name), config_map(name, a=letter)])
    done = back(api, component=name)
    [entry] = done.sets
    assert (entry["from"], entry["to"], entry["revision"], entry["changed"]) == (3, 2, 4, True)
    assert value(api, name) == "b"
    assert history(name)[-1] == (4, "applied", "rollback to 2")
    assert back(api, component=name).sets[0]["to"] == 1
    assert value(api, name) == "a"
    nothing = plan_rollback(api, Target(name))
    assert (nothing.steps, nothing.left) == (
        [],
        [f"{name} is left as it is: there is no older revision with another content (its revision is 5)"],
    )
    # And again after somebody has made another change.
    make_set(run="later").apply([namespace(name), config_map(name, a="d")])
    assert back(api, component=name).changed
    assert value(api, name) == "a"


def test_to_a_revision_of_that_number(api: Api, name: str, make_set: MakeSet, history: Callable[[str], Any]) -> None:
    for letter in "abc":
        make_set().apply([namespace(name), config_map(name, a=letter)])
    assert back(api, component=name.replace("-", "_"), revision=1).changed
    assert value(api, name) == "a"
    # What it has already is no new revision, and what somebody has edited since is put right.
    assert not back(api, component=name, revision=1).changed
    api.delete("v1", "ConfigMap", "settings", name)
    repaired = back(api, component=name, revision=4)
    assert repaired.changed
    assert (repaired.sets[0]["revision"], len(history(name))) == (4, 4)
    assert value(api, name) == "a"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"component": "NAME", "revision": 9}, "component NAME has no such revision, there are: 1, 2"),
        ({"component": "none"}, "component is 'none'; the cluster has no such set, there are: NAME, NAME-without"),
        ({"component": "NAME-without"}, "component NAME-without: it has no revisions in this cluster"),
        ({"revision": 1}, "of which component? Set component, too"),
        ({"component": "NAME", "revision": 1, "run": "one"}, "set only one of them"),
        ({"run": "none"}, "run is 'none'; it has left no revision here, there are those of: two, one"),
    ],
)
def test_what_is_not_there_is_named(api: Api, name: str, make_set: MakeSet, target: dict[str, Any], words: str) -> None:
    make_set(run="one").apply([namespace(name)])
    make_set(run="two").apply([namespace(name), config_map(name)])
    make_set(f"{name}-without", keep=0).apply([config_map("default", name)])
    asked = {key: str(text).replace("NAME", name) if key == "component" else text for key, text in target.items()}
    with pytest.raises((ApplySetError, RevisionError)) as raised:
        plan_rollback(api, Target(**asked))
    assert words.replace("NAME", name) in str(raised.value)


def test_a_run_is_undone_in_its_order(api: Api, name: str, make_set: MakeSet) -> None:
    # In the order of their names, the last would be first.
    sets = [f"{name}-{letter}" for letter in "zyx"]
    for run in ("one", "two"):
        for each in sets:
            make_set(each, run=run).apply([config_map("default", each, a=run)])
    make_set(f"{name}-untouched", run="one").apply([config_map("default", name, a="one")])
    make_set(f"{name}-new", run="two").apply([config_map("default", f"{name}-new", a="two")])
    planned = plan_rollback(api, Target())
    assert list(chosen(planned).items()) == [(each, 1) for each in sets]
    assert planned.left == [
        f"{name}-new is left as it is: there is no older revision with another content (its revision is 1)"
    ]
    assert planned == plan_rollback(api, Target(run="two"))
    roll_back(api, planned.steps, Options(run="undo"))
    assert [value(api, "default", each) for each in sets] == ["one"] * 3
    # The most recent run is that rollback, and there is nothing older: it does not bring back what was just undone.
    assert chosen(plan_rollback(api, Target())) == {}
    assert chosen(plan_rollback(api, Target(run="two"))) == {}
    assert chosen(plan_rollback(api, Target(run="undo"))) == {}


def test_what_another_run_has_changed_since_is_left(api: Api, name: str, make_set: MakeSet) -> None:
    for run in ("one", "two"):
        for each in (name, f"{name}-other"):
            make_set(each, run=run).apply([config_map("default", each, a=run)])
    make_set(run="three").apply([config_map("default", name, a="three")])
    planned = plan_rollback(api, Target(run="two"))
    assert chosen(planned) == {f"{name}-other": 1}
    assert planned.left == [f"{name} is left as it is: run three has changed it since"]
    assert chosen(plan_rollback(api, Target())) == {name: 2}


def test_several_revisions_of_one_run_are_undone_together(api: Api, name: str, make_set: MakeSet) -> None:
    for run, letter in (("one", "a"), ("two", "b"), ("two", "c")):
        make_set(run=run).apply([config_map("default", name, a=letter)])
    assert chosen(plan_rollback(api, Target())) == {name: 1}
    assert chosen(plan_rollback(api, Target(name))) == {name: 2}
    # A rollback by the same run, and one more attempt of it, as a rollout that goes on does.
    assert back(api, run="two").changed
    assert chosen(plan_rollback(api, Target(run="two"))) == {}
    make_set(run="two").apply([config_map("default", name, a="d")])
    assert chosen(plan_rollback(api, Target(run="two"))) == {name: 1}


def test_an_interrupted_run_is_undone(api: Api, name: str, make_set: MakeSet, history: Callable[[str], Any]) -> None:
    make_set(run="one").apply([namespace(name), config_map(name, a="a")])
    with pytest.MonkeyPatch.context() as patch:
        die_at("Deployment", patch)
        with pytest.raises(KeyboardInterrupt):
            make_set(run="two").apply([namespace(name), config_map(name, a="b"), deployment(name)], wait=False)
    assert value(api, name) == "b"
    assert back(api).sets[0]["to"] == 1
    assert value(api, name) == "a"
    assert [entry[:2] for entry in history(name)] == [(1, "applied"), (3, "applied")]


def test_check_mode_predicts_and_changes_nothing(api: Api, name: str, make_set: MakeSet) -> None:
    make_set(run="one").apply([namespace(name), config_map(name, a="a"), secret(name, word="geheim-1")])
    make_set(run="two").apply([namespace(name), config_map(name, a="b"), config_map(name, "new", a="b")])
    steps = plan_rollback(api, Target()).steps
    predicted = roll_back(api, steps, Options(check=True, diff=True))
    assert value(api, name) == "b"
    assert predicted.sets[0]["revision"] is None
    done = roll_back(api, steps, Options(diff=True))
    assert [entry["objects"] for entry in predicted.sets] == [entry["objects"] for entry in done.sets]
    assert {entry["name"]: entry["action"] for entry in done.sets[0]["objects"]} == {
        name: "unchanged",
        "settings": "configured",
        "password": "created",
        "new": "pruned",
    }
    for text in ("geheim", "Z2VoZWlt"):
        assert text not in repr([predicted, done])


def test_an_old_image_comes_back_and_replicas_stay(api: Api, name: str, make_set: MakeSet, kubeconfig: Path) -> None:
    """The Deployment of an autoscaled app carries no replicas; so neither the bad change nor its end touches them."""

    def app(image: str) -> list[dict[str, Any]]:
        found = deployment(name, image)
        del found["spec"]["replicas"]
        return [namespace(name), found]

    make_set(run="one").apply(app("example.com/app:1"), wait=False)
    api.patch("apps/v1", "Deployment", "app", {"spec": {"replicas": 7}}, name, "scale")
    seen = []
    make_set(run="two").apply(app("example.com/app:never-starts"), wait=False)
    live = api.get("apps/v1", "Deployment", "app", name)
    assert live is not None
    seen.append((live["spec"]["replicas"], live["spec"]["template"]["spec"]["containers"][0]["image"]))
    # Nothing makes it ready: going back waits, and says what for.
    slow = roll_back(api, plan_rollback(api, Target()).steps, Options(run="undo", timeout=1.0))
    assert "Deployment" in slow.problems[0]
    live = api.get("apps/v1", "Deployment", "app", name)
    assert live is not None
    seen.append((live["spec"]["replicas"], live["spec"]["template"]["spec"]["containers"][0]["image"]))
    assert seen == [(7, "example.com/app:never-starts"), (7, "example.com/app:1")]
    with deployments_become_ready(kubeconfig):
        done = roll_back(api, plan_rollback(api, Target(name, 1)).steps, Options(timeout=20.0))
    assert (done.problems, done.changed) == ([], False)


def test_shared_namespaces_and_arguments_come_back_too(api: Api, name: str, make_set: MakeSet) -> None:
    shared = [SharedNamespace(name, {"team": "one"})]
    objects = [config_map(name, a="a"), config_map("default", name, a="a")]
    make_set(run="one", hand_over=[Handover("ConfigMap", "elsewhere", "other")]).apply(objects, shared)
    make_set(run="two", take_from=["other"]).apply(objects[1:])
    assert api.get("v1", "Namespace", name) is None
    steps = plan_rollback(api, Target()).steps
    assert steps[0].content.hand_over == [{"kind": "ConfigMap", "name": "elsewhere", "to": "other"}]
    assert roll_back(api, steps, Options(run="undo")).problems == []
    live = api.get("v1", "Namespace", name)
    assert live is not None
    assert live["metadata"]["labels"]["team"] == "one"
    assert value(api, name) == "a"


def test_one_that_cannot_go_back_keeps_no_other_from_it(api: Api, name: str, make_set: MakeSet) -> None:
    sets = [name, f"{name}-other"]
    for run in ("one", "two"):
        for each in sets:
            make_set(each, run=run).apply([config_map("default", each, a=run)])
    api.apply(config_map("default", name, a="theirs"), "somebody", force=True)
    done = back(api)
    [problem] = done.problems
    assert problem.startswith(f"{name} cannot be rolled back to revision 1: ConfigMap default/{name}: field .data.a")
    assert [value(api, "default", each) for each in sets] == ["theirs", "one"]
    # A way back that failed is tried again, whoever asks for it.
    assert [chosen(plan_rollback(api, target)) for target in (Target(), Target(run="two"), Target(name))] == [
        {name: 1}
    ] * 3
    forced = roll_back(api, plan_rollback(api, Target()).steps, Options(force=True))
    assert forced.problems == []
    assert value(api, "default", name) == "one"


def test_going_back_loses_no_revision(api: Api, name: str, make_set: MakeSet, history: Callable[[str], Any]) -> None:
    for letter in "abcdefg":
        make_set(keep=7).apply([config_map("default", name, a=letter)])
    assert back(api, component=name, revision=1).changed
    assert len(history(name)) == 8


# -- as a person does it ---------------------------------------------------------------------------------------------


def test_by_playbook(run_playbook: Run, api: Api, name: str, make_set: MakeSet) -> None:
    for number, letter in enumerate("ab"):
        make_set(run=f"run{number}").apply([config_map("default", name, a=letter)])
    predicted = run_playbook("rollback", "--check")
    assert predicted.returncode == 0, predicted.stdout + predicted.stderr
    assert f"[berlin] {name} would be back to revision 1" in predicted.stdout
    assert value(api, "default", name) == "b"
    done = run_playbook("rollback", "-e", "fleet_run=undo-7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" in done.stdout
    assert value(api, "default", name) == "a"
    assert History(api, name, "kube-system").all()[-1].run == "undo-7"
    again = run_playbook("rollback")
    assert again.returncode == 0
    assert "changed=0" in again.stdout
    assert f"{name} is left as it is: there is no older revision" in again.stdout + again.stderr
    wrong = run_playbook("rollback", "-e", f"component={name}", "-e", "revision=9")
    assert wrong.returncode == 2
    assert f"revision is 9; component {name} has no such revision, there are: 1, 2, 3" in wrong.stdout


def test_revisions_are_shown(run_playbook: Run, api: Api, name: str, make_set: MakeSet, tmp_path: Path) -> None:
    for run in ("one", "two"):
        make_set(run=run).apply([config_map("default", name, a=run), secret("default", word="geheim")])
    make_set(f"{name}-other", run="two").apply([config_map("default", f"{name}-other")])
    ended = run_playbook("revisions")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = {tuple(line.split()[:2]): line for line in ended.stdout.splitlines() if line.startswith(name)}
    assert lines.keys() == {(name, "1"), (name, "2"), (f"{name}-other", "1")}
    assert lines[name, "2"].endswith(f"1 changed: ConfigMap default/{name}  current")
    assert "first revision, 2 objects" in lines[name, "1"]
    assert f"  {who()}  one  " in lines[name, "1"]
    asked = ["-e", "output=json", "-e", f"output_file={tmp_path}/r.json", "-e", f"component={name}-other"]
    ended = run_playbook("revisions", *asked)
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    document = json.loads(line)
    assert document == json.loads((tmp_path / "r.json").read_text())
    [shown] = document["revisions"]
    assert document["cluster"] == "berlin"
    assert (shown["component"], shown["revision"], shown["current"], shown["state"]) == (
        f"{name}-other",
        1,
        True,
        "applied",
    )
    wrong = run_playbook("revisions", "-e", "component=none")
    assert wrong.returncode == 2
    assert f"the cluster has no such set, there are: {name}, {name}-other" in wrong.stdout
    assert "geheim" not in ended.stdout
