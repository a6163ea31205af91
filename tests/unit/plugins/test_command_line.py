"""Misspelled variables and tags on the command line stop a run before its first task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["playbooks/rollback.yml", "-e", "componet=grafana"], "componet (command line)"),
        (["playbooks/load.yml", "-e", "load_ratee=3"], "did you mean load_rate?"),
        (["playbooks/artifacts.yml", "-e", "artifacts_sourc=build"], "did you mean artifacts_source?"),
        (["playbooks/verify.yml", "-e", '{"verify_timout": 3}'], "did you mean verify_timeout?"),
        (["site.yml", "-e", "site_ready_timout=3"], "did you mean site_ready_timeout?"),
        (["site.yml", "--tags", "metric_server"], "--tags metric_server: no task has this tag; did you mean metrics_"),
        (["playbooks/verify.yml", "--tags", "hpa"], "--tags hpa: no task has this tag; there are "),
        (["site.yml", "--tags", "hpa,grafna"], "--tags grafna: "),
        (["site.yml", "--skip-tags", "verfy"], "--skip-tags verfy: no task has this tag; did you mean verify?"),
    ],
)
def test_a_misspelled_name_stops_the_run(arguments: list[str], said: str) -> None:
    ran = run(*arguments)
    assert ran.returncode == 5, ran.stdout
    assert said in ran.stderr
    assert "TASK" not in ran.stdout


def test_a_rollback_refuses_a_misspelled_name_without_the_callback(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - kubescale.fleet.rollback: {kubeconfig: /none, component: '{{ component | default(omit) }}'}\n"
    )
    (tmp_path / "ansible.cfg").touch()
    bare = {
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
    }
    ran = run(str(tmp_path / "play.yml"), "-e", "componet=grafana", **bare)
    assert ran.returncode == 2
    assert "did you mean component?" in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--tags", "always"], ["-e", "my_own=1", "-e", "component=hpa"], ["--skip-tags", "tagged,molecule-notest"]],
)
def test_other_command_lines_are_accepted(arguments: list[str]) -> None:
    assert run("playbooks/inputs.yml", *arguments).returncode == 0
