"""Machines: what is found out about them, what keeps them from being nodes, what their services need."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import tomllib
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.module_utils.node import (
    admin_certificate,
    certificate_digest,
    node_state,
)
from ansible_collections.kubescale.fleet.plugins.modules import machine_artifacts, machine_config, machine_facts
from jinja2 import Environment

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def folders(tmp_path):
    kubernetes, state = tmp_path / "kubernetes", tmp_path / "kubescale"
    (kubernetes / "pki").mkdir(parents=True)
    state.mkdir()
    return kubernetes, state


def test_a_bare_machine_is_no_node(folders):
    assert node_state(*folders)["state"] == "none"


def test_a_cluster_that_is_not_ours_is_foreign(folders):
    (folders[0] / "kubelet.conf").write_text("x")
    found = node_state(*folders)
    assert found["state"] == "foreign"
    assert found["foreign"] == [str(folders[0] / "kubelet.conf")]


def test_an_interrupted_attempt_is_told_from_a_finished_one(folders):
    kubernetes, state = folders
    (kubernetes / "kubelet.conf").write_text("x")
    (state / "unfinished.json").write_text(json.dumps({"cluster": "a", "action": "join"}))
    assert (node_state(*folders)["state"], node_state(*folders)["cluster"]) == ("unfinished", "a")
    # Killed between writing the one mark and removing the other: the work was done.
    (state / "node.json").write_text(json.dumps({"cluster": "a", "version": "1.2.3"}))
    assert (node_state(*folders)["state"], node_state(*folders)["version"]) == ("ours", "1.2.3")


def test_a_node_that_was_reset_by_hand_is_bare_again(folders):
    (folders[1] / "node.json").write_text(json.dumps({"cluster": "a", "version": "1.2.3"}))
    assert node_state(*folders)["state"] == "none"


def test_the_administrators_certificate_is_found_in_a_kubeconfig():
    data = base64.b64encode(b"PEM\n").decode()
    text = yaml.safe_dump({"users": [{"name": "a", "user": {"client-certificate-data": data}}]})
    assert admin_certificate(text) == "PEM\n"
    assert certificate_digest("PEM\n") == certificate_digest("PEM")
    assert certificate_digest("") == ""


def test_a_port_is_told_with_the_process_that_listens_on_it():
    with socket.socket() as taken, socket.socket() as bound_only:
        for one in (taken, bound_only):
            one.bind(("127.0.0.1", 0))
        taken.listen()
        found = machine_facts.listeners()
        assert f"(process {os.getpid()})" in found[str(taken.getsockname()[1])]
        assert str(bound_only.getsockname()[1]) not in found


def test_a_port_whose_process_is_not_seen_is_taken_all_the_same(tmp_path):
    (tmp_path / "net").mkdir()
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: 00000000000000000000000000000000:192B 0:0000 0A 0:0 00:0 0 0 0 4711 1\n"
    (tmp_path / "net/tcp6").write_text(header + row)
    assert machine_facts.listeners(tmp_path) == {"6443": "the kernel, or a process of another namespace"}


def test_a_container_has_its_hosts_product_uuid():
    assert "product UUID" not in machine_facts.identities(container=True)
    assert machine_facts.identities(container=True)["host name"] == socket.gethostname()


def test_package_families():
    assert machine_facts.package_family(machine_facts.os_release('ID=ubuntu\nID_LIKE="debian"\n')) == "debian"
    assert (
        machine_facts.package_family(machine_facts.os_release('ID="rocky"\nID_LIKE="rhel centos fedora"\n')) == "redhat"
    )
    assert machine_facts.package_family(machine_facts.os_release("ID=arch\n")) == ""


def test_what_the_kernel_says():
    assert machine_facts.meminfo("MemTotal:        2048000 kB\nMemFree: 1 kB\n") == 2000
    assert machine_facts.swap_devices("Filename\tType\tSize\n/dev/sda2 partition 1 0 -2\n") == ["/dev/sda2"]
    assert machine_facts.has_capability("Name:\tinit\nCapBnd:\t000001ffffffffff\n", 24)
    assert not machine_facts.has_capability("Name:\tinit\nCapBnd:\t000001fffeffffff\n", 24)


def unit(active="active", enabled="enabled", started=100.0):
    return {
        "ActiveState": active,
        "UnitFileState": enabled,
        "ExecMainStartTimestampMonotonic": str(int(started * 1e6)),
    }


# The machine booted at 1000 and it is 1200 now, so a start at 100 s of uptime was at 1100.
@pytest.mark.parametrize(
    ("state", "changed_at", "startable", "verbs"),
    [
        (unit(), 1099, True, []),
        (unit(), 1101, True, ["restart"]),
        (unit(active="inactive", enabled="disabled"), 0, True, ["enable", "start"]),
        (unit(active="activating"), 0, True, ["restart"]),
        (unit(active="failed"), 0, True, ["start"]),
        (unit(active="inactive", enabled="disabled"), 0, False, ["enable"]),
        (unit(enabled="static"), 0, True, []),
    ],
)
def test_what_a_service_needs(state, changed_at, startable, verbs):
    assert machine_config.service_action(state, changed_at, now=1200, uptime=200, startable=startable) == verbs


def test_the_newest_file_counts_also_in_folders(tmp_path):
    assert machine_config.newest([str(tmp_path / "missing")]) == 0
    (tmp_path / "a").write_text("x")
    assert machine_config.newest([str(tmp_path)]) >= (tmp_path / "a").stat().st_mtime


def test_the_pause_image_is_the_pinned_one():
    pins = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text())
    variables = yaml.safe_load((REPOSITORY / "roles/node_prep/vars/main.yml").read_text())
    pinned = next(image for image in pins["images"] if image["component"] == "pause")
    tag = pinned["tag"].format(version=pins["components"]["pause"]["version"])
    assert variables["__node_prep_pause_image"] == f"{pinned['repository']}:{tag}"


def test_settings_of_people_are_imported_and_restart_containerd():
    folder = REPOSITORY / "roles/node_prep"
    template = Environment(autoescape=True).from_string((folder / "templates/containerd.toml.j2").read_text())
    config = tomllib.loads(template.render(kubescale_machine={"oom_score": True}))
    (imported,) = config["imports"]
    tasks = yaml.safe_load((folder / "tasks/main.yml").read_text())
    services = next(
        task["kubescale.fleet.machine_config"] for task in tasks if "kubescale.fleet.machine_config" in task
    )
    assert str(Path(imported).parent) in services["services"][0]["restart_for"]
    files = yaml.safe_load((folder / "vars/main.yml").read_text())["__node_prep_files"]
    assert not [name for name in files if name.startswith(str(Path(imported).parent))]


class FailedError(Exception):
    """What a module says when it fails."""


class Module:
    """The part of AnsibleModule that fails."""

    check_mode = False
    params: ClassVar[dict[str, str]] = {"mode": "0644"}

    def fail_json(self, msg):
        raise FailedError(msg)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fill(_source, destination):
        Path(destination).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_artifacts.shutil, "copyfile", fill)
    monkeypatch.setattr(machine_artifacts, "RECORD", tmp_path / "record")
    item = {"destination": str(tmp_path / "bin/kubelet"), "size": 50 * 1024**2, "sha256": ""}
    with pytest.raises(
        FailedError, match=r"bin/kubelet: No space left on device\. .* this needs 50\.0 MiB\. Free space"
    ):
        machine_artifacts.Installer(Module()).install(item, tmp_path / "source")
    assert list((tmp_path / "bin").iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FailedError, match=r"file/below cannot be written: File exists\."):
        machine_config.Configurer(Module()).write(str(tmp_path / "file/below"), "x")


class Machine(Module):
    """A module whose commands are recorded and answered by their third and fourth words, such as `images list`."""

    def __init__(self, params, answers=None):
        self.params = params
        self.answers = answers or {}
        self.commands = []

    def run_command(self, command, **_options):
        self.commands.append(command)
        return 0, self.answers.get(" ".join(command[3:5]), ""), ""


def test_an_imported_image_is_pinned_against_the_kubelets_clean_up(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_artifacts, "RECORD", tmp_path / "record")
    module = Machine({})
    machine_artifacts.Installer(module).import_image({"reference": "a:1", "size": 1}, tmp_path / "a.tar")
    (command,) = module.commands
    assert command[command.index("--label") + 1] == "io.cri-containerd.pinned=pinned"
    # A pulled image can be pulled again, so the kubelet may clean it up.
    calls = []
    monkeypatch.setattr(
        machine_artifacts.subprocess,
        "run",
        lambda command, **_: calls.append(command) or type("R", (), {"returncode": 0}),
    )
    assert machine_artifacts.pull({"reference": "a:1", "pin": "sha256:1"}) == ""
    assert not [command for command in calls if "label" in " ".join(command)]


def test_an_image_that_is_not_wanted_any_more_may_be_cleaned_up(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_artifacts, "RECORD", tmp_path / "record")
    (tmp_path / "record").write_text(json.dumps({"files": {}, "images": {"a:1": "x", "a:2": "y", "gone:1": "z"}}))
    module = Machine({"images": [{"reference": "a:2", "manifest": "y"}], "files": []}, {"images list": "a:1\na:2\n"})
    installer = machine_artifacts.Installer(module)
    installer.release_former_images()
    installer.save()
    assert [command[3:] for command in module.commands[1:]] == [["images", "label", "a:1", "io.cri-containerd.pinned="]]
    # An image that is wanted again is imported again, with its label.
    assert json.loads((tmp_path / "record").read_text())["images"] == {"a:2": "y"}


def test_a_call_without_images_releases_none(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_artifacts, "RECORD", tmp_path / "record")
    (tmp_path / "record").write_text(json.dumps({"files": {}, "images": {"a:1": "x"}}))
    module = Machine({"images": [], "files": []})
    machine_artifacts.Installer(module).release_former_images()
    assert module.commands == []


@pytest.fixture
def binary(tmp_path, monkeypatch):
    """The parameters of a binary, and a file with its content."""
    monkeypatch.setattr(machine_artifacts, "RECORD", tmp_path / "record")
    source = tmp_path / "source"
    source.write_text("content")
    item = {"destination": str(tmp_path / "bin/kubelet"), "size": 7, "sha256": hashlib.sha256(b"content").hexdigest()}
    return item, source


def test_a_binary_of_another_content_is_not_installed(binary):
    item, source = binary
    source.write_text("malware")
    with pytest.raises(FailedError, match=f"SHA-256 is not {item['sha256']}"):
        machine_artifacts.Installer(Module()).install(item, source)
    assert list(Path(item["destination"]).parent.iterdir()) == []


def test_an_installed_binary_is_known_by_its_content(binary):
    item, source = binary
    destination = Path(item["destination"])
    module = Machine({"files": [item], "images": []})
    module.set_mode_if_different = lambda path, *_, **__: Path(path).chmod(0o755)
    installer = machine_artifacts.Installer(module)
    assert not installer.is_installed(item)
    installer.install(item, source)
    assert destination.stat().st_mode & 0o777 == 0o755
    installer.save()
    assert machine_artifacts.Installer(module).is_installed(item)
    # Another version is wanted, with and without a record.
    assert not machine_artifacts.Installer(module).is_installed({**item, "sha256": "0"})
    machine_artifacts.RECORD.unlink()
    assert machine_artifacts.Installer(module).is_installed(item)
    assert not machine_artifacts.Installer(module).is_installed({**item, "sha256": "0"})


def test_a_binary_that_somebody_replaced_is_installed_again(binary):
    item, source = binary
    module = Machine({"files": [item], "images": []})
    module.set_mode_if_different = lambda *_, **__: True
    installer = machine_artifacts.Installer(module)
    installer.install(item, source)
    installer.save()
    Path(item["destination"]).write_text("malware")
    assert not machine_artifacts.Installer(module).is_installed(item)
