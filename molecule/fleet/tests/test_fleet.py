"""Two clusters on machines and an existing one: one run for all, rollouts by rings, and bad changes that go no further.

The tests of this file follow each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.run_record import read_runs
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from load import Clicks, Watched
from playbook_runs import REPOSITORY, Run, run_playbook

FLEET = Path(__file__).resolve().parents[1] / "fleet"
STATE = REPOSITORY / ".state"
KUBECONFIGS = {name: STATE / name / "kubeconfig" for name in ("north", "south")} | {
    "managed": STATE / "owned" / "kubeconfig"
}
CLICKS, TARGET = 6, 2
METRIC = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/*/demo_app_button_clicks_per_second"


def extra(**variables: object) -> list[str]:
    return ["--extra-vars", json.dumps(variables)]


def fleet(playbook: str, *arguments: str) -> Run:
    return run_playbook(playbook, *arguments, inventory=FLEET)


def rollout(**variables: object) -> tuple[Run, dict[str, Any]]:
    """Run a rollout, without looking on for longer than the gate needs; gives how it stands afterwards, too."""
    run = fleet("rollout", *extra(rollout_soak=0, **variables))
    return run, json.loads((STATE / "fleet.d" / "rollout.json").read_text(encoding="utf-8"))


def told(what: str, run: Run, state: dict[str, Any]) -> str:
    entries = state["clusters"].items()
    spent = ", ".join(f"{name} {entry['state']} {entry.get('seconds', 0):.0f} s" for name, entry in entries)
    return f"\n{what}: {state['result']} ({spent})\n{run.output if run.returncode else ''}"


def generations(name: str) -> dict[tuple[str, str], int]:
    """Of each workload of a cluster, how often somebody has changed what it is to be."""
    api = kube.connect(KUBECONFIGS[name])
    found = [item for kind in ("Deployment", "DaemonSet", "StatefulSet") for item in api.list("apps/v1", kind).items]
    return {
        (item["kind"], f"{item['metadata']['namespace']}/{item['metadata']['name']}"): item["metadata"]["generation"]
        for item in found
        # The autoscaler changes this one, under load.
        if (item["metadata"]["namespace"], item["metadata"]["name"]) != ("demo", "demo-app")
    }


def demo_image(name: str) -> str:
    found = kube.connect(KUBECONFIGS[name]).get("apps/v1", "Deployment", "demo-app", "demo")
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.fixture(scope="module")
def owned() -> None:
    """A cluster that somebody else has made."""
    for playbook in ("nodes", "cluster"):
        run = run_playbook(playbook, "--limit", "cluster_owned")
        assert run.returncode == 0, run.messages()


def test_a_cluster_with_another_name_is_refused_before_any_change(owned: None) -> None:
    """As two kubeconfigs would be that were swapped."""
    run = fleet("preflight", "--limit", "cluster_managed", *extra(cluster_renamed_from="nobody"))
    assert run.returncode != 0
    assert "leads to cluster owned, not to managed: nothing was changed" in run.messages()


def test_one_run_makes_two_clusters_and_takes_an_existing_one_along(owned: None) -> None:
    began = time.monotonic()
    run = fleet("site")
    assert run.returncode == 0, run.messages()
    print(f"\nsite.yml on three clusters: {time.monotonic() - began:.0f} s")
    assert {host for host in run.report["stats"] if host in KUBECONFIGS} == set(KUBECONFIGS)


def test_second_run_changes_nothing() -> None:
    began = time.monotonic()
    run = fleet("site")
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}
    print(f"\nsite.yml on three clusters again: {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("name", KUBECONFIGS)
def test_what_a_plan_says_of_machines_and_objects_is_what_the_run_does(name: str, edited: dict[str, Any]) -> None:
    assert edited["planned"][name]
    assert edited["planned"][name] == edited["done"][name]


@pytest.fixture(scope="module")
def edited() -> dict[str, dict[str, list[str]]]:
    """What was planned and what was done, by cluster, for an edit of the kubelets and of the demo app's autoscaler."""
    edit: dict[str, Any] = {"node_prep_kubelet_config": {"maxPods": 100}, "demo_app_target": "3"}
    file = STATE / "fleet.d" / "planned.json"
    run = fleet("plan", *extra(**edit, output_file=str(file)))
    assert run.returncode == 0, run.messages()
    planned = json.loads(file.read_text(encoding="utf-8"))["clusters"]
    run = fleet("site", *extra(**edit))
    assert run.returncode == 0, run.messages()
    done = read_runs(STATE)[-1]["changes"]

    def told(changes: Iterable[dict[str, Any]], cluster: str) -> list[str]:
        return sorted(
            json.dumps({key: value for key, value in change.items() if key != "cluster"}, sort_keys=True)
            for change in changes
            if change.get("cluster", cluster) == cluster
        )

    return {
        "planned": {name: told(planned[name]["changes"], name) for name in KUBECONFIGS},
        "done": {name: told(done, name) for name in KUBECONFIGS},
    }


def test_a_rollout_goes_ring_after_ring() -> None:
    run, state = rollout(demo_app_max_replicas=9)
    print(told("good change", run, state))
    assert run.returncode == 0
    assert {entry["state"] for entry in state["clusters"].values()} == {"passed"}
    assert all(entry["changed"] for entry in state["clusters"].values())
    first = state["clusters"]["north"]["ended"]
    assert all(state["clusters"][name]["started"] >= first for name in ("south", "managed"))


def test_the_same_rollout_again_changes_nothing() -> None:
    run, state = rollout(demo_app_max_replicas=9)
    print(told("the same again", run, state))
    assert run.returncode == 0
    assert {name: entry["changed"] for name, entry in state["clusters"].items()} == dict.fromkeys(KUBECONFIGS, 0)


def test_plan_of_what_is_there_already_is_empty_and_nothing_has_drifted() -> None:
    for playbook in ("plan", "drift"):
        run = fleet(playbook, *extra(demo_app_max_replicas=9))
        assert run.returncode == 0, run.messages()
        assert run.results("changed") == {}


def test_a_canary_scales_under_load_before_its_cluster_passes() -> None:
    with Watched(kube.connect(KUBECONFIGS["managed"]), "demo", "demo-app") as watched:
        began = time.monotonic()
        run = fleet(
            "rollout",
            "--limit",
            "cluster_managed",
            *extra(rollout_soak=0, rollout_canary=True, demo_app_scale_down_stabilization=15),
        )
        assert run.returncode == 0, run.messages()
        ended = time.monotonic()
    wanted = [reading.wanted for reading in watched.readings]
    print(f"\nrollout with a canary: {ended - began:.0f} s, replicas wanted: {wanted}")
    assert wanted[0] == 1
    assert max(wanted) > 1
    assert wanted[-1] < max(wanted)


@pytest.fixture(scope="module")
def autoscaler() -> Iterator[Watched]:
    """The demo app's autoscaler in the first ring, under a constant load."""
    with (
        Clicks("10.89.93.11", 30080, CLICKS),
        Watched(kube.connect(KUBECONFIGS["north"]), "demo", "demo-app") as watched,
    ):
        deadline = time.monotonic() + 180
        while not (watched.readings and watched.readings[-1].wanted >= CLICKS / TARGET):
            assert time.monotonic() < deadline, watched.readings[-3:]
            time.sleep(0.2)
        yield watched


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(
            {"artifacts_images": {"demo-app": "localhost/kubescale/no-such-app"}}, id="image that never starts"
        ),
        pytest.param({"prometheus_adapter_apps": []}, id="adapter that has lost the metric"),
    ],
)
def test_a_bad_change_never_leaves_ring_0_and_is_rolled_back(autoscaler: Watched, bad: dict[str, Any]) -> None:
    before = {name: generations(name) for name in KUBECONFIGS}
    image, began = demo_image("north"), time.monotonic()
    run, state = rollout(
        demo_app_max_replicas=9, site_ready_timeout=60, rollout_gate_timeout=60, rollout_on_failure="rollback", **bad
    )
    print(told(f"bad change {bad}", run, state))
    assert run.returncode != 0
    assert state["result"] == "halted"
    assert {name: entry["state"] for name, entry in state["clusters"].items()} == {
        "north": "rolled back",
        "south": "waiting",
        "managed": "waiting",
    }
    assert {name: generations(name) for name in ("south", "managed")} == {
        name: before[name] for name in ("south", "managed")
    }
    assert demo_image("north") == image
    values = kube.connect(KUBECONFIGS["north"]).raw(METRIC)["items"]
    assert len(values) >= CLICKS / TARGET
    wanted = [reading.wanted for reading in autoscaler.readings if reading.at >= began]
    print(f"\nreplicas wanted meanwhile: {sorted(set(wanted))}, inactive for {autoscaler.inactive(began):.0f} s")
    assert min(wanted, default=CLICKS // TARGET) >= CLICKS / TARGET


def test_what_was_good_can_go_on_afterwards() -> None:
    run, state = rollout(demo_app_max_replicas=9)
    print(told("after the bad changes", run, state))
    assert run.returncode == 0
