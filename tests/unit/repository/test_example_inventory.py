"""The inventory that people copy: a folder for each environment, shared variables, secrets in a vault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY

PROGRAMS = Path(sys.executable).parent


def run(program: str, *arguments: str) -> str:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    command = [str(PROGRAMS / program), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REPOSITORY / "inventory/example", tmp_path / "mine", symlinks=True))


def read(source: Path, *arguments: str) -> dict[str, Any]:
    return json.loads(run("ansible-inventory", f"--inventory={source}", "--list", *arguments))


def test_environments_are_folders_that_share_variables(copy: Path) -> None:
    everything, one = read(copy), read(copy / "staging")
    assert set(everything["clusters"]["hosts"]) == {"staging", "berlin", "managed"}
    assert one["clusters"]["hosts"] == ["staging"]
    assert one["_meta"]["hostvars"]["staging"] == everything["_meta"]["hostvars"]["staging"]


def test_the_narrower_variable_wins(copy: Path) -> None:
    variables = read(copy)["_meta"]["hostvars"]
    assert [variables[name]["demo_app_max_replicas"] for name in ("staging", "managed", "berlin")] == [10, 10, 30]
    assert [variables[name]["prometheus_retention"] for name in ("staging", "berlin")] == ["2d", "30d"]
    assert [variables[name].get("rollout_canary") for name in ("staging", "berlin", "managed")] == [None, True, None]


def test_secrets_lie_in_a_vault_beside_the_settings(copy: Path, tmp_path: Path) -> None:
    password, secret = tmp_path / "password", copy / "group_vars/env_production/vault.yml"
    password.write_text("open sesame\n", encoding="utf-8")
    secret.write_text("vault_alerts_url: https://hooks.example/alerts\n", encoding="utf-8")
    run("ansible-vault", "encrypt", f"--vault-password-file={password}", str(secret))
    assert "hooks.example" not in secret.read_text(encoding="utf-8")
    variables = read(copy, f"--vault-password-file={password}")["_meta"]["hostvars"]
    assert variables["berlin"]["vault_alerts_url"] == "https://hooks.example/alerts"
    assert "vault_alerts_url" not in variables["staging"]
