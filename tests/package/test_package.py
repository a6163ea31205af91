# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The archive has what a run needs, and works where it is installed, by its full names."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import PROGRAMS, REPOSITORY, Command

#: All there is at the top. A new folder of the repository must be put here, or into galaxy.yml's build_ignore.
TOP = {
    "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md",
    "docs", "files", "inventory", "meta", "playbooks", "plugins", "roles",
}  # fmt: skip
LARGEST = 1024 * 1024
PLAYBOOKS = sorted(file.stem for file in (REPOSITORY / "playbooks").glob("*.yml"))
SETS = "/api/v1/namespaces/kube-system/configmaps?labelSelector=applyset.kubernetes.io/id"


def json_output(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the callback ansible.posix.json printed."""
    assert run.returncode == 0, run.stdout + run.stderr
    return json.JSONDecoder().raw_decode(run.stdout, run.stdout.index("{\n"))[0]


def test_archive_has_files_of_the_repository_only(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(archive) as content:
        files = {member.name for member in content.getmembers() if not member.isdir()}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    ours = set(subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines())
    assert files - {"MANIFEST.json", "FILES.json"} - ours == set()
    assert {name.split("/")[0] for name in files} == TOP
    # What a run reads is all there; the rest of files/ makes the dashboards that lie in roles/grafana/files.
    read = ("files/", "meta/", "playbooks/", "plugins/", "roles/", "inventory/example/")
    assert {
        name for name in ours if name.startswith(read) and not name.startswith("files/dashboards/")
    } - files == set()
    size = archive.stat().st_size
    with capsys.disabled():
        print(f"\n{archive.name}: {len(files)} files, {size / 1000:.0f} kB")
    assert size < LARGEST


def test_everything_can_be_built_from_the_archive(collections: Path, installed: Path, command: Command) -> None:
    # The steps' digests are made of their sources: each file is read, and a missing one is an error.
    program = (
        "from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import build, cache, pins;"
        "from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.paths import COLLECTION;"
        "from pathlib import Path;"
        "chosen = pins.versioned_pins(None, ['cpu_memory', 'node', 'spring']);"
        "print(len(build.Builder(cache.Cache(Path('cache'), chosen, 'amd64')).steps()), COLLECTION)"
    )
    run = command(sys.executable, "-c", program, PYTHONPATH=str(collections))
    assert run.returncode == 0, run.stderr
    steps, place = run.stdout.split()
    pins = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text(encoding="utf-8"))
    assert int(steps) == sum(len(pins[kind]) for kind in ("components", "layers", "images"))
    assert Path(place) == installed


def test_playbooks_have_full_names(command: Command, installed: Path, write_inventory: Callable[..., Path]) -> None:
    write_inventory({"one": {"control_plane": ["cp1"], "workers": ["w1"]}})
    run = command("ansible-playbook", "--syntax-check", *(f"kubescale.fleet.{name}" for name in PLAYBOOKS))
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    files = [line.partition("playbook: ")[2] for line in run.stdout.splitlines() if line]
    assert files == [str(installed / f"playbooks/{name}.yml") for name in PLAYBOOKS]


def test_mistake_is_named_before_anything_is_done(command: Command, write_inventory: Callable[..., Path]) -> None:
    inventory = write_inventory({"one": {"control_plane": ["cp1"]}}, demo_app_max_replcas=3)
    phases = inventory.parent / "phases.json"
    run = command("ansible-playbook", "kubescale.fleet.site", KUBESCALE_PHASES_FILE=str(phases))
    assert run.returncode == 2, run.stdout + run.stderr
    assert "demo_app_max_replcas" in run.stdout
    assert "1 thing is wrong, nothing was changed" in run.stdout
    # The callback of the collection wrote this; the one play that did more than look at the inventory is in it.
    assert [phase["phase"] for phase in json.loads(phases.read_text())["phases"]] == ["Check inputs"]


def test_inventory_plugin(command: Command, write_inventory: Callable[..., Path]) -> None:
    write_inventory({"one": {"control_plane": ["cp1"], "workers": ["w1"]}})
    run = command("ansible-inventory", "--list")
    assert run.returncode == 0, run.stderr
    groups = json.loads(run.stdout)
    assert groups["clusters"]["hosts"] == ["one"]
    assert groups["one_control_plane"]["hosts"] == ["cp1"]
    assert groups["one_workers"]["hosts"] == ["w1"]


def test_connection(command: Command, tmp_path: Path) -> None:
    # In place of podman, a program that runs on this machine what it is asked to run in the container.
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\nwhile [ "$1" != box ]; do shift; done\nshift\nCONTAINER=box exec "$@"\n')
    podman.chmod(0o755)
    variables = {"ansible_connection": "kubescale.fleet.podman", "ansible_podman_executable": str(podman)}
    variables |= {"ansible_python_interpreter": sys.executable}
    run = command(
        "ansible", "box", "--inventory=box,", "--module-name=ansible.builtin.setup", "--args=gather_subset=!all,env",
        f"--extra-vars={json.dumps(variables)}", ANSIBLE_LOAD_CALLBACK_PLUGINS="1",
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
    )  # fmt: skip
    facts = json_output(run)["plays"][0]["tasks"][0]["hosts"]["box"]["ansible_facts"]
    assert facts["ansible_env"]["CONTAINER"] == "box"


def test_component_comes_and_goes_on_an_existing_cluster(
    command: Command, write_inventory: Callable[..., Path], kubeconfig: Path
) -> None:
    write_inventory({"existing": {"kubeconfig": str(kubeconfig)}})

    def run(playbook: str, *arguments: str) -> dict[str, str]:
        """Objects that the run changed or would change, and how; all that a set keeps otherwise."""
        output = json_output(
            command(
                "ansible-playbook", f"kubescale.fleet.{playbook}", "--tags=prometheus_adapter", *arguments,
                # Nobody serves the kinds of a Prometheus operator here.
                "--extra-vars=prometheus_state=absent", ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
            )
        )  # fmt: skip
        results = [task["hosts"].get("existing", {}) for play in output["plays"] for task in play["tasks"]]
        return {
            f"{found['kind']} {found['name']}": found["action"]
            for result in results
            for found in result.get("objects", [])
            if found["action"] not in ("unchanged", "kept")
        }

    # No kubelet runs the adapter here, so nothing waits for it.
    wanted = run("site", "--check")
    assert set(wanted.values()) == {"created"}
    assert run("components") == wanted
    assert run("site", "--check") == {}
    gone = run("site", "--extra-vars=prometheus_adapter_state=absent")
    assert gone.keys() == wanted.keys()
    assert set(gone.values()) == {"deleted"}
    assert run("site", "--extra-vars=prometheus_adapter_state=absent") == {}


def test_programs_are_those_of_the_collection(command: Command, installed: Path) -> None:
    run = command("ansible-doc", "--json", "--type=module", "kubescale.fleet.apply_set")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)["kubescale.fleet.apply_set"]["doc"]["filename"]
    assert Path(found) == installed / "plugins/modules/apply_set.py"
    assert PROGRAMS not in installed.parents
