"""The playbooks as a person runs them: bad input stops before any connection, and a broken cluster stops alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]


def run_playbook(directory: Path, inventory: Path, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook with the repository's settings, its state below the directory."""
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "KUBESCALE_STATE_DIR": str(directory / "state"),
        "KUBESCALE_PHASES_FILE": str(directory / "phases.json"),
        "COLUMNS": "1000",
    }
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), playbook, *arguments],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_inventory(directory: Path, clusters: dict[str, Any], **group_vars: dict[str, Any]) -> Path:
    """Write an inventory folder."""
    (directory / "inventory/group_vars").mkdir(parents=True)
    content = {"plugin": "kubescale.fleet.clusters", "clusters": clusters}
    (directory / "inventory/clusters.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for group, variables in group_vars.items():
        file = directory / f"inventory/group_vars/{group}.yml"
        file.write_text(yaml.safe_dump(variables, sort_keys=False), encoding="utf-8")
    return directory / "inventory"


MACHINES = {
    "control_plane": {"cp1": {"sandbox_address": "10.89.77.11"}},
    "workers": {"w1": {"ansible_host": "192.0.2.1"}},
}
MISTAKES: dict[str, tuple[Any, str]] = {
    "metrics_server_version": ("0.0.1", "was removed; use artifacts_versions.metrics_server.version"),
    "demo_app_target": ("-1", "must be a quantity above 0"),
    "demo_app_min_replicas": (11, "must not be above demo_app_max_replicas = 10"),
    "demo_app_max_replcas": (1, "role demo_app has no such variable; did you mean demo_app_max_replicas?"),
    "demo_app_scrape_interval": (16, "must be 15 or less seconds"),
    "grafana_state": ("off-ish", "value of grafana_state must be one of: present, absent"),
    "control_plane_pod_network": (
        "10.96.128.0/17",
        "overlaps control_plane_service_network = '10.96.0.0/16' (default)",
    ),
}


def test_all_mistakes_are_named_at_once_with_their_place(tmp_path: Path) -> None:
    clusters = {"one": MACHINES, "two": {"kubeconfig": "../broken.kubeconfig"}}
    (tmp_path / "broken.kubeconfig").write_text("just text\n")
    inventory = write_inventory(tmp_path, clusters, all={name: value for name, (value, _) in MISTAKES.items()})
    run = run_playbook(tmp_path, inventory, "site.yml")
    assert run.returncode == 2, run.stdout + run.stdout
    # Newer ones show the message as it is, too.
    failed = next(line for line in run.stdout.splitlines() if line.startswith("fatal: "))
    shown = json.loads(failed.partition(" => ")[2])["msg"].splitlines()
    for number, (name, (_, text)) in enumerate(MISTAKES.items(), start=1):
        lines = [line for line in shown if line.startswith("- ") and text in line]
        assert len(lines) == 1, f"{name}: {run.stdout}"
        assert f"group_vars/all.yml:{number})" in lines[0]
    assert "broken.kubeconfig is not a kubeconfig" in run.stdout
    assert f"{len(MISTAKES) + 1} things are wrong, nothing was changed" in run.stdout
    assert "Reach all machines" not in run.stdout


APPS = """
own_label: workers
autoscaled_apps:
  - name: shop
    namespace: shop
    workload: deployment/shop
    scrape: {port: web}
    scale_on:
      metric: http_requests_total
      target: 1m
    replicas:
      max: "{{ 2 + 2 }}"
  - name: bank
    namespace: bank
    workload: deployment/bank
    scale_on: {metric: busy, over: "{{ own_label }}", target: 500m}
    replicas:
      min: 5
      max: 4
"""


def test_apps_are_checked_with_file_and_line(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, {"one": MACHINES})
    file = inventory / "group_vars/all.yml"
    file.write_text(APPS)
    run = run_playbook(tmp_path, inventory, "playbooks/inputs.yml")
    assert run.returncode == 2
    assert "1 thing is wrong, nothing was changed" in run.stdout
    assert re.search(
        r"- autoscaled_apps\[1\]\.replicas\.min = 5 \(\S*all\.yml:18\): must not be above "
        r"autoscaled_apps\[1\]\.replicas\.max = 4 \[one\]",
        run.stdout,
    )
    file.write_text(APPS.replace("min: 5", "min: 1"))
    run = run_playbook(tmp_path, inventory, "playbooks/inputs.yml")
    assert run.returncode == 0, run.stdout
    said = " ".join((run.stdout + run.stderr).split())
    assert "all.yml:10): a single event in its window of 60 s reads up to 18m, which alone asks for 4 replicas" in said


def test_inventory_that_is_wrong_stops_the_run(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, {"one": MACHINES, "two": {"control_plane": ["w1"]}})
    run = run_playbook(tmp_path, inventory, "site.yml")
    assert run.returncode != 0
    assert "clusters.two.control_plane.w1: is already in clusters.one.workers" in run.stderr
    assert "PLAY" not in run.stdout


KUBECONFIG = (
    "current-context: a\nclusters: [{name: a, cluster: {server: 'https://192.0.2.9:6443'}}]\n"
    "contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n"
)


@pytest.mark.parametrize("name", ["demo", "example", "kind"])
def test_inventories_that_we_ship_are_well(name: str, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    existing = [] if name == "demo" else ["-e", f"cluster_kubeconfig={kubeconfig}"]
    run = run_playbook(tmp_path, REPOSITORY / "inventory" / name, "playbooks/inputs.yml", *existing)
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr


def test_kubeconfigs_may_lie_beside_the_clusters_that_name_them(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, {"one": {"kubeconfig": "one.kubeconfig"}})
    (inventory / "one.kubeconfig").write_text(KUBECONFIG)
    run = run_playbook(tmp_path, inventory, "playbooks/inputs.yml")
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr


def test_sandbox_machine_may_name_its_address(tmp_path: Path) -> None:
    clusters = {"one": {"control_plane": {"cp1": {"sandbox_address": "10.89.77.11"}}}}
    inventory = write_inventory(tmp_path, clusters, nodes={"node_prep_address": "{{ sandbox_address }}"})
    run = run_playbook(tmp_path, inventory, "playbooks/inputs.yml")
    assert run.returncode == 0, run.stdout


def test_inventory_without_clusters_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("[nodes]\nm1\n")
    run = run_playbook(tmp_path, tmp_path / "hosts.ini", "site.yml")
    assert run.returncode == 2
    assert "The inventory has no clusters" in run.stdout
    assert "Check inputs" not in run.stdout


def test_machine_out_of_reach_is_named_and_stops_its_cluster(tmp_path: Path) -> None:
    clusters = {"one": {"control_plane": {"cp1": {"ansible_host": "127.0.0.1", "ansible_port": 1}}}}
    run = run_playbook(tmp_path, write_inventory(tmp_path, clusters), "playbooks/preflight.yml")
    assert run.returncode == 2
    assert "Machine cp1 (127.0.0.1) does not answer by ssh" in run.stdout
    assert "Cluster one stops here" in run.stdout


def test_broken_machine_stops_its_cluster_and_no_other(tmp_path: Path) -> None:
    clusters = {name: {"control_plane": [f"{name}-cp"], "workers": [f"{name}-w"]} for name in ("well", "ill")}
    inventory = write_inventory(tmp_path, clusters, nodes={"ansible_connection": "local"})
    playbook = tmp_path / "chain.yml"
    playbook.write_text(
        """
- hosts: nodes
  gather_facts: false
  tasks:
    - ansible.builtin.fail:
      when: inventory_hostname == 'ill-w'
- import_playbook: kubescale.fleet.whole
- name: Later on machines
  hosts: nodes
  gather_facts: false
  tasks: &later
    - ansible.builtin.debug:
        msg: "reached {{ inventory_hostname }}"
      changed_when: true
- name: Later on APIs
  hosts: clusters
  gather_facts: false
  tasks: *later
"""
    )
    run = run_playbook(tmp_path, inventory, str(playbook))
    assert run.returncode == 2
    later = [
        phase for phase in json.loads((tmp_path / "phases.json").read_text())["phases"] if "Later" in phase["phase"]
    ]
    assert [(phase["phase"], phase["cluster"], phase["tasks"]) for phase in later] == [
        ("Later on machines", "well", 2),
        ("Later on APIs", "well", 1),
    ]


#: Roles and modules that change a cluster or its machines.
CHANGES = {"node_prep", "control_plane", "worker", "load"} | {"apply_set", "rollback", "scrape_jobs_loaded"}


def steps(playbook: Path) -> list[str]:
    """Return the roles and modules of this collection that a playbook runs, in their order."""
    found: list[str] = []
    for play in yaml.safe_load(playbook.read_text(encoding="utf-8")):
        if target := play.get("ansible.builtin.import_playbook"):
            found += steps(playbook.parent / target)
            continue
        tasks = [*play.get("roles", []), *play.get("tasks", [])]
        while tasks:
            task = tasks.pop(0)
            imported = task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role") or {}
            if file := task.get("ansible.builtin.import_tasks"):
                tasks[:0] = yaml.safe_load((playbook.parent / file).read_text(encoding="utf-8"))
            role = task.get("role") or ("" if "tasks_from" in imported else imported.get("name", ""))
            found += [role.rpartition(".")[2]] if role else []
            found += [key.rpartition(".")[2] for key in task if key.startswith("kubescale.fleet.")]
            # Components are roles that apply a set.
            if role:
                content = (REPOSITORY / "roles" / role.rpartition(".")[2] / "tasks" / "main.yml").read_text(
                    encoding="utf-8"
                )
                found += ["apply_set"] * ("kubescale.fleet.apply_set:" in content)
    return found


@pytest.mark.parametrize(
    "playbook",
    # rollout.yml starts children; components.yml and wait.yml are parts of others; kind.yml makes the cluster.
    [
        file
        for file in sorted(REPOSITORY.glob("playbooks/*.yml"))
        if CHANGES & set(steps(file)) and file.stem not in ("components", "kind", "wait", "ready")
    ],
    ids=lambda file: file.stem,
)
def test_a_playbook_takes_the_lease_before_its_first_change(playbook: Path) -> None:
    run = steps(playbook)
    first = next(number for number, step in enumerate(run) if step in CHANGES)
    assert "lease" in run[:first], run[: first + 1]


def test_preflight_changes_nothing() -> None:
    assert not ({"lease"} | CHANGES) & set(steps(REPOSITORY / "playbooks" / "preflight.yml"))
