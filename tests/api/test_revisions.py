# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What a set was to be, kept in the cluster: when a revision is written, what it holds, and what it costs."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import parent as parents
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import revisions
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import SharedNamespace
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ApplySetError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import History, Revision
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, connect
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import parse_definition
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.transport import Request, Transport

from .test_apply_set import actions, config_map, crd, deployment, namespace, secret

MakeSet = Callable[..., ApplySet]


@pytest.fixture
def history(api: Api, name: str) -> History:
    """The revisions of the test's set."""
    return History(api, name, "kube-system")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Method and path of every request that is sent."""
    found: list[tuple[str, str]] = []
    real = Transport.send_once

    def send(self: Transport, request: Request) -> Any:
        found.append((request.method, request.path))
        return real(self, request)

    monkeypatch.setattr(Transport, "send_once", send)
    return found


def told(history: History) -> list[tuple[int, str, str]]:
    return [(revision.number, revision.state, revision.summary) for revision in history.all()]


def numbers(history: History) -> list[int]:
    return [revision.number for revision in history.all()]


def parent_says(api: Api, name: str) -> tuple[str | None, bool]:
    """Number of the revision on the parent, and whether it is unfinished."""
    parent = api.get("v1", "ConfigMap", name, "kube-system")
    assert parent is not None
    annotations = parent["metadata"]["annotations"]
    return annotations.get(parents.REVISION_ANNOTATION), parents.UNFINISHED_ANNOTATION in annotations


def die_at(kind: str, patch: pytest.MonkeyPatch) -> None:
    """From now on, a run is killed when it comes to apply an object of that kind."""
    real = Api.apply

    def apply(self: Api, body: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        if body["kind"] == kind:
            raise KeyboardInterrupt
        return real(self, body, *arguments, **options)

    patch.setattr(Api, "apply", apply)


def test_a_revision_for_each_desired_state_that_differs(
    api: Api, name: str, make_set: MakeSet, history: History
) -> None:
    objects = [namespace(name), config_map(name, a="b"), deployment(name)]
    first = make_set(run="one")
    first.apply(objects, wait=False)
    again = make_set(run="two")
    again.apply(objects, wait=False)
    other = make_set(run="three")
    other.apply([namespace(name), config_map(name, a="c"), config_map(name, "new")], wait=False)
    assert [first.outcome.revision, again.outcome.revision, other.outcome.revision] == [1, 1, 2]
    assert told(history) == [
        (1, "applied", "first revision, 3 objects"),
        (
            2,
            "applied",
            f"1 added: ConfigMap {name}/new; 1 changed: ConfigMap {name}/settings; 1 removed: Deployment {name}/app",
        ),
    ]
    assert [revision.run for revision in history.all()] == ["one", "three"]
    assert re.fullmatch(r"\S+@\S+", history.all()[0].who)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", history.all()[0].when)
    assert history.all()[0].version == revisions.collection_version() != ""
    assert parent_says(api, name) == ("2", False)


def test_what_somebody_edits_is_repaired_without_a_revision(
    api: Api, name: str, make_set: MakeSet, history: History
) -> None:
    objects = [namespace(name), config_map(name, a="b")]
    make_set().apply(objects)
    api.apply(config_map(name, a="theirs"), "somebody", force=True)
    repairing = make_set(force=True)
    assert repairing.apply(objects).changed
    assert (repairing.outcome.revision, numbers(history)) == (1, [1])


def test_check_mode_writes_none(name: str, make_set: MakeSet, history: History) -> None:
    predicting = make_set(check=True)
    predicting.apply([namespace(name)])
    assert (predicting.outcome.revision, numbers(history)) == (None, [])
    make_set().apply([namespace(name)])
    predicting = make_set(check=True)
    predicting.apply([namespace(name), config_map(name)])
    assert (predicting.outcome.revision, numbers(history)) == (None, [1])


def test_the_last_ones_are_kept(api: Api, name: str, make_set: MakeSet, history: History) -> None:
    for number in range(7):
        make_set().apply([namespace(name), config_map(name, a=str(number))])
    assert numbers(history) == [3, 4, 5, 6, 7]
    make_set(keep=2).apply([namespace(name), config_map(name, a="fewer")])
    assert numbers(history) == [7, 8]
    last = make_set(keep=0)
    last.apply([namespace(name), config_map(name, a="none")])
    assert (last.outcome.revision, numbers(history)) == (None, [])
    assert parent_says(api, name) == (None, False)
    again = make_set()
    again.apply([namespace(name), config_map(name, a="none")])
    assert (again.outcome.revision, numbers(history)) == (1, [1])


def test_they_go_with_the_set(name: str, make_set: MakeSet, history: History) -> None:
    for value in "ab":
        make_set().apply([namespace(name), config_map(name, a=value)])
    make_set(f"{name}-other").apply([config_map("default", name)])
    make_set().remove()
    assert numbers(history) == []
    other = History(history.api, f"{name}-other", "kube-system")
    assert numbers(other) == [1]
    make_set(f"{name}-other").remove()
    assert numbers(other) == []


def test_a_converged_run_asks_for_nothing_more(
    name: str, make_set: MakeSet, history: History, sent: list[tuple[str, str]]
) -> None:
    objects = [namespace(name), config_map(name, a="b"), deployment(name), crd(f"{name}.example.com", "color")]
    shared = [SharedNamespace(f"{name}-shared", {"a": "b"})]

    def requests(**arguments: Any) -> list[tuple[str, str]]:
        sent.clear()
        assert not make_set(**arguments).apply(objects, shared, wait=False).changed
        return sorted(sent)

    make_set(keep=0).apply(objects, shared, wait=False)
    without = requests(keep=0)
    make_set().apply(objects, shared, wait=False)
    assert numbers(history) == [1]
    assert requests() == without


def test_a_converged_run_of_a_set_with_secrets_asks_once(
    name: str, make_set: MakeSet, sent: list[tuple[str, str]]
) -> None:
    objects = [namespace(name), secret(name, word="geheim")]
    make_set().apply(objects)
    sent.clear()
    converged = make_set()
    assert not converged.apply(objects).changed
    assert converged.outcome.revision == 1
    asked = [(method, path) for method, path in sent if "kube-system" in path and "secrets" in path]
    assert asked == [("GET", f"/api/v1/namespaces/kube-system/secrets/{name}.r1")]


def test_a_set_without_a_revision_gets_one_in_its_next_run(
    api: Api, name: str, make_set: MakeSet, history: History
) -> None:
    """As one that an earlier version has applied, or whose revisions somebody deleted."""
    objects = [namespace(name), config_map(name, a="b")]
    make_set(keep=0).apply(objects)
    converged = make_set()
    assert not converged.apply(objects).changed
    assert (converged.outcome.revision, numbers(history), parent_says(api, name)) == (1, [1], ("1", False))
    history.forget()
    make_set().apply([*objects, config_map(name, "other")])
    assert told(history) == [(1, "applied", "first revision, 3 objects")]


@pytest.mark.parametrize("desired", ["same", "former", "other"])
def test_a_killed_run_leaves_a_pending_one_and_the_next_run_repairs(
    api: Api, name: str, make_set: MakeSet, history: History, desired: str
) -> None:
    before = [namespace(name), config_map(name, a="b")]
    killed = [namespace(name), config_map(name, a="c"), deployment(name)]
    make_set().apply(before)
    with pytest.MonkeyPatch.context() as patch:
        die_at("Deployment", patch)
        with pytest.raises(KeyboardInterrupt):
            make_set().apply(killed, wait=False)
    assert [(number, state) for number, state, _ in told(history)] == [(1, "applied"), (2, "pending")]
    assert parent_says(api, name) == ("2", True)
    objects = {"same": killed, "former": before, "other": [namespace(name), config_map(name, a="d")]}[desired]
    repairing = make_set()
    assert repairing.apply(objects, wait=False).changed
    expected = {"same": [1, 2], "former": [1, 3], "other": [1, 3]}[desired]
    assert [(number, state) for number, state, _ in told(history)] == [(number, "applied") for number in expected]
    assert repairing.outcome.revision == expected[-1]
    assert parent_says(api, name) == (str(expected[-1]), False)
    assert not make_set().apply(objects, wait=False).changed
    assert numbers(history) == expected


def test_a_killed_run_that_changed_nothing_yet_is_seen_as_unfinished(
    api: Api, name: str, make_set: MakeSet, history: History
) -> None:
    before = [namespace(name), config_map(name, a="b")]
    make_set().apply(before)
    with pytest.MonkeyPatch.context() as patch:
        die_at("Deployment", patch)
        with pytest.raises(KeyboardInterrupt):
            make_set().apply([*before, deployment(name)], wait=False)
    # All that is wanted is there already, as the fingerprints say; but the latest revision wants more.
    back = make_set()
    assert not back.apply(before).changed
    assert (back.outcome.revision, parent_says(api, name)) == (3, ("3", False))
    assert set(history.contents()[3].by_key) == set(history.contents()[1].by_key)


def test_killed_before_its_first_change_nothing_is_lost(
    api: Api, name: str, make_set: MakeSet, history: History
) -> None:
    objects = [namespace(name), config_map(name, a="b")]
    more = [*objects, config_map(name, "more")]
    make_set().apply(objects)
    with pytest.MonkeyPatch.context() as patch:
        die_at("ConfigMap", patch)  # the parent is one
        with pytest.raises(KeyboardInterrupt):
            make_set().apply(more)
    assert (numbers(history), parent_says(api, name)) == ([1, 2], ("1", False))
    converged = make_set()
    assert not converged.apply(objects).changed
    assert converged.outcome.revision == 1
    # It is the one that the next run of the same would write.
    late = make_set()
    late.apply(more)
    assert (late.outcome.revision, numbers(history)) == (2, [1, 2])
    assert parent_says(api, name) == ("2", False)


def test_killed_after_its_last_change_the_next_run_only_says_so(
    api: Api, name: str, make_set: MakeSet, history: History
) -> None:
    objects = [namespace(name), config_map(name, a="b")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            make_set().apply(objects)
    assert (told(history)[0][1], parent_says(api, name)) == ("pending", ("1", True))
    assert not make_set().apply(objects).changed
    assert (told(history)[0][1], parent_says(api, name)) == ("applied", ("1", False))


def test_what_is_refused_stays_pending(name: str, make_set: MakeSet, history: History) -> None:
    for image in ("one", "two"):
        wrong = deployment(name, image)
        wrong["spec"]["selector"]["matchLabels"] = {"app": "another"}
        with pytest.raises(ApplySetError, match="selector"):
            make_set().apply([namespace(name), wrong], wait=False)
    assert [(number, state) for number, state, _ in told(history)] == [(1, "pending"), (2, "pending")]
    make_set().apply([namespace(name), deployment(name)], wait=False)
    assert [(number, state) for number, state, _ in told(history)] == [(3, "applied")]


def test_another_run_at_the_same_moment_is_refused(name: str, make_set: MakeSet, history: History) -> None:
    make_set().apply([namespace(name)])
    with pytest.MonkeyPatch.context() as patch:
        # As two runs see it that read the list before either writes.
        patch.setattr(History, "all", lambda _: [])
        with pytest.raises(ApplySetError, match=r"revision 1 of the set, Secret .* Another run applies this set now"):
            make_set().apply([namespace(name), config_map(name)])
    assert numbers(history) == [1]


def test_values_of_secrets_are_in_secrets_only(
    api: Api, name: str, make_set: MakeSet, history: History, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["geheim-1", "geheim-2", "geheim-3"]
    outcomes = [make_set().apply([namespace(name), secret(name, word=word)], wait=False) for word in words]
    with pytest.MonkeyPatch.context() as patch:
        die_at("Secret", patch)
        with pytest.raises(KeyboardInterrupt):
            make_set().apply([namespace(name), secret(name, word="geheim-4")], wait=False)
    digests = [content.digest for content in history.contents().values()]
    assert len(digests) == 4
    secrets = api.list("v1", "Secret", metadata_only=True).items
    shown = repr([outcomes, api.list("v1", "ConfigMap").items, secrets, history.all(), capfd.readouterr()])
    for text in ("geheim", base64.b64encode(b"geheim").decode()[:-2], *digests):
        assert text not in shown
    assert "Secret" in history.all()[1].summary
    # Also not in what an unprivileged reader of revisions' metadata might take for a hint at the value.
    first, *_, last = [item["metadata"] for item in secrets if item["metadata"]["name"].startswith(f"{name}.r")]
    assert (
        first["annotations"].keys()
        == last["annotations"].keys()
        == {f"fleet.kubescale.io/{field}" for field in Revision._fields}
    )


def test_revisions_cannot_be_changed(api: Api, name: str, make_set: MakeSet) -> None:
    make_set().apply([namespace(name)])
    found = api.get("v1", "Secret", f"{name}.r1", "kube-system")
    assert found is not None
    assert (found["type"], found["immutable"]) == ("fleet.kubescale.io/revision", True)


def test_one_that_nobody_can_read_is_in_no_runs_way(api: Api, name: str, make_set: MakeSet, history: History) -> None:
    objects = [namespace(name), secret(name, word="a")]
    make_set().apply(objects)
    found = api.get("v1", "Secret", f"{name}.r1", "kube-system")
    assert found is not None
    metadata = {key: found["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    api.delete("v1", "Secret", f"{name}.r1", "kube-system")
    broken = {"metadata": metadata, "type": found["type"], "data": {"content.json.xz": "AAAA"}}
    api.request("POST", "/api/v1/namespaces/kube-system/secrets", body=broken)
    assert not make_set().apply(objects).changed
    assert told(history)[-1] == (2, "applied", "first revision, 2 objects")


def test_what_does_not_fit_is_a_warning(api: Api, name: str, make_set: MakeSet, history: History) -> None:
    small = [namespace(name), config_map(name, a="b")]
    make_set().apply(small)
    large = [config_map(name, f"n{number}", a=os.urandom(330_000).hex()) for number in range(4)]
    make_set().apply([*small, *large[:2]])
    assert len(history.contents()[2].packed()) > 600_000
    too_large = make_set()
    outcome = too_large.apply([*small, *large])
    assert too_large.outcome.revision is None
    [warning] = outcome.warnings
    assert "bytes when compressed, and a Secret holds 1000000: no revision is kept" in warning
    assert (numbers(history), parent_says(api, name)) == ([1, 2], (None, False))
    again = make_set()
    assert not again.apply([*small, *large]).changed
    assert len(again.outcome.warnings) == 1
    back = make_set()
    back.apply(small)
    assert (back.outcome.revision, numbers(history)) == (3, [1, 2, 3])


def test_the_largest_set_of_the_collection_takes_a_tenth_of_a_secret(name: str, kubeconfig: Path) -> None:
    kinds = ("alertmanagerconfigs", "alertmanagers", "podmonitors", "probes", "prometheuses", "prometheusrules")
    kinds += ("scrapeconfigs", "servicemonitors")
    cache = Path("~/.cache/kubescale/artifacts/prometheus_operator").expanduser()
    folder = sorted(cache.glob("*/crds"))[-1]
    crds = parse_definition(None, [str(folder / f"monitoring.coreos.com_{kind}.yaml") for kind in kinds])
    content = revisions.Content(crds, {}, [], [])
    packed = content.packed()
    assert 10_000 < len(packed) < revisions.LIMIT / 10
    assert revisions.Content.unpacked(packed) == content
    history = History(connect(kubeconfig), name, "kube-system")
    history._write(1, content, "run", "note")
    assert history.contents() == {1: content}
    history.forget()


def test_members_of_others_are_no_concern(name: str, make_set: MakeSet) -> None:
    """A revision carries no label of a member: the set's own prune leaves it alone, whatever kinds it has."""
    objects = [secret("default", word="a") | {"metadata": {"name": name, "namespace": "default"}}]
    make_set().apply([*objects, config_map("default", name)])
    assert actions(make_set().apply(objects)) == {f"Secret/{name}": "unchanged", f"ConfigMap/{name}": "pruned"}
    make_set().remove()
