"""Plans with a real child: a playbook that needs no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
# The variables of a cluster choose its behaviour.
CHILD = """
- name: Work
  hosts: clusters
  gather_facts: false
  tasks:
    - name: Leave a mark
      ansible.builtin.copy:
        content: "new"
        dest: "{{ marks }}/{{ inventory_hostname }}"
        mode: "0644"
      tags: [mark]
    - name: Be ill
      ansible.builtin.fail:
        msg: "{{ inventory_hostname }} is ill"
      when: ill | default(false)
    - name: Verify
      ansible.builtin.fail:
      tags: [verify]
"""
Plan = Callable[..., tuple[int, dict[str, Any], dict[str, Any], str]]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Run plan.yml on two clusters, one of which has its mark already."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks/two").write_text("new")
    (tmp_path / "marks/two").chmod(0o644)
    clusters = {name: {"ring": ring, "kubeconfig": "a.kubeconfig"} for ring, name in enumerate(("one", "two"))}
    content = {"plugin": "kubescale.fleet.clusters", "clusters": clusters}
    (tmp_path / "clusters.yml").write_text(yaml.safe_dump(content))
    (tmp_path / "child.yml").write_text(CHILD)
    [_inputs, play] = yaml.safe_load((REPOSITORY / "playbooks/plan.yml").read_text())
    play["tasks"][0]["kubescale.fleet.plan"]["playbook"] = str(tmp_path / "child.yml")
    (tmp_path / "plan.yml").write_text(yaml.safe_dump([play]))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    environment |= {"KUBESCALE_STATE_DIR": str(tmp_path / "state"), "KUBESCALE_FLEET_DIR": str(tmp_path / "state")}

    def run(*arguments: str, **variables: Any) -> tuple[int, dict[str, Any], dict[str, Any], str]:
        """Return the exit status, the plan's clusters, the record of the run, and all output."""
        known = {"marks": str(tmp_path / "marks"), "output_file": str(tmp_path / "plan.json"), **variables}
        command = [str(Path(sys.executable).with_name("ansible-playbook")), f"--inventory={tmp_path}/clusters.yml"]
        command += [f"--extra-vars={json.dumps(known)}", *arguments, str(tmp_path / "plan.yml")]
        ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        [file] = (tmp_path / "state/fleet.d/runs").glob("*.json")
        record = json.loads(file.read_text())
        assert not (tmp_path / "marks/one").exists()
        return ended.returncode, json.loads((tmp_path / "plan.json").read_text())["clusters"], record, ended.stdout

    return run


def test_a_plan_reports_what_the_child_would_change_and_is_its_record(plan: Plan) -> None:
    status, clusters, record, _output = plan()
    assert status == 0
    assert {name: found["state"] for name, found in clusters.items()} == {"one": "changes", "two": "nothing to do"}
    assert [change["task"] for change in clusters["one"]["changes"]] == ["Leave a mark"]
    assert record["check"] is True
    assert record["ended"]
    assert {name: entry["state"] for name, entry in record["clusters"].items()} == {"one": "would change", "two": "ok"}
    assert {phase["play"] for phase in record["phases"]} == {"Work"}


@pytest.mark.parametrize(("limit", "expected"), [("one", 2), ("two", 0)])
def test_limit_is_that_of_the_run_and_the_status_may_say_what_would_change(
    plan: Plan, limit: str, expected: int
) -> None:
    status, clusters, _record, _output = plan("--limit", limit, detailed_exit=True)
    assert list(clusters) == [limit]
    assert status == expected


def test_tags_are_those_of_the_run(plan: Plan) -> None:
    assert plan("--skip-tags", "mark")[1]["one"]["changes"] == []


def test_differences_are_shown_if_wanted(plan: Plan) -> None:
    assert "+new" in plan("--diff")[3]


def test_a_cluster_that_fails_makes_the_plan_fail(plan: Plan) -> None:
    status, clusters, record, _output = plan(ill=True)
    assert status == 2
    assert clusters["two"]["state"] == "failed"
    assert record["clusters"]["two"]["state"] == "failed"
    assert "two is ill" in clusters["two"]["message"]
