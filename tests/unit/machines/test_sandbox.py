"""Machines in containers: what podman is asked for, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import host, machine_image
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import sandbox as module
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.host import SandboxError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.sandbox import (
    Machine,
    Sandbox,
    subnet_of,
)

CP = Machine("t-cp1", "10.89.70.11", (30080,))
W = Machine("t-w1", "10.89.70.12")


class Podman:
    """Answers like podman, from a list of containers, and notes what it is asked to do."""

    def __init__(self, containers=(), volumes=(), networks=(), image=True, state="running"):
        self.answers = {
            "ps": list(containers),
            "volume ls": list(volumes),
            "network ls": list(networks),
            "images": [{}] if image else [],
        }
        self.state = state
        self.done: list[list[str]] = []

    def __call__(self, *arguments):
        for command, answer in self.answers.items():
            if " ".join(arguments).startswith(command):
                return json.dumps(answer)
        if arguments[0] == "exec":
            return f"{self.state}\n" if "sh" in arguments else json.dumps([{"unit": "broken.service"}])
        if arguments[:2] == ("network", "create"):
            self.answers["network ls"] = [NETWORK]
        self.done.append(list(arguments))
        return ""

    def verbs(self):
        return [next(word for word in call if not word.startswith("-") and word != "runc") for call in self.done]


@pytest.fixture(autouse=True)
def inotify(tmp_path, monkeypatch):
    file = tmp_path / "max_user_instances"
    file.write_text("8192")
    monkeypatch.setattr(host, "INOTIFY", file)
    return file


@pytest.fixture(autouse=True)
def bridge(tmp_path, monkeypatch):
    """A bridge whose address nobody has set yet, and the commands that are given for it."""
    folder = tmp_path / "net" / "podman7"
    folder.mkdir(parents=True)
    (folder / "address").write_text("5a:00:00:00:00:01\n")
    (folder / "addr_assign_type").write_text("1\n")
    commands = []

    def run(command, **_kwargs):
        commands.append(command)
        (folder / "addr_assign_type").write_text("3\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(host, "INTERFACES", folder.parent)
    monkeypatch.setattr(host.subprocess, "run", run)
    return commands


def make(podman, tmp_path, **kwargs):
    box = Sandbox("t", tmp_path, run=podman, say=lambda _line: None, unified_cgroups=False, **kwargs)
    box.image.archive.parent.mkdir(exist_ok=True)
    with tarfile.open(box.image.archive, "w") as archive:
        for name, content in (("./etc/hostname", b"t"), ("./var/lib/dpkg/status", b"Package: dpkg\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (("./var/lock", "/run/lock"), ("./var/log/README", "../../usr/share/doc/README")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return box


def container(box, machine, state="running", cluster="t", settings=None):
    labels = {module.CLUSTER_LABEL: cluster, module.SETTINGS_LABEL: settings or box.settings(machine)}
    return {"Names": [machine.name], "State": state, "Labels": labels}


NETWORK = {
    "name": "t",
    "labels": {module.CLUSTER_LABEL: "t"},
    "subnets": [{"subnet": "10.89.70.0/24"}],
    "network_interface": "podman7",
}


@pytest.mark.parametrize(
    ("machines", "said"),
    [
        ([Machine("a", "no")], "sandbox_address of a is 'no'"),
        ([Machine("a", "10.89.70.1")], "allowed are 10.89.70.2 to 10.89.70.254"),
        ([Machine("a", "10.89.70.5"), Machine("b", "10.89.70.5")], "the same as that of a"),
        ([Machine("a", "10.89.70.5"), Machine("b", "10.89.71.5")], "must be in one /24 network"),
    ],
)
def test_a_wrong_address_is_named(machines, said):
    with pytest.raises(SandboxError, match=said):
        subnet_of(machines)


def test_everything_is_made_with_the_clusters_label(tmp_path):
    podman = Podman()
    done = make(podman, tmp_path).present([CP, W])
    assert done["created"] == ["t-cp1", "t-w1"]
    assert done["network"] == ["t 10.89.70.0/24"]
    runs = [call for call in podman.done if "run" in call]
    assert len(runs) == 2
    made = [call for call in podman.done if call[0] != "rm" and call[:2] != ["volume", "import"]]
    assert all(f"{module.CLUSTER_LABEL}=t" in call for call in made)
    assert sum("127.0.0.1:30080:30080/tcp" in call for call in runs) == 1
    assert all(call[:2] == ["--runtime", "runc"] for call in runs)


def test_a_machines_var_is_filled_before_it_starts(tmp_path):
    podman = Podman(networks=[NETWORK])
    box = make(podman, tmp_path)
    box.present([CP])
    assert podman.verbs() == ["rm", "volume", "volume", "run"]
    (filled,) = [call for call in podman.done if call[:2] == ["volume", "import"]]
    assert filled[2] == CP.name
    with tarfile.open(filled[3]) as archive:
        assert {item.name: item.size for item in archive} == {"lib/dpkg/status": 14, "lock": 0}


def test_running_machines_need_nothing(tmp_path):
    podman = Podman(networks=[NETWORK])
    box = make(podman, tmp_path)
    podman.answers["ps"] = [container(box, CP), container(box, W)]
    box.present([CP, W])
    assert not any(box.present([CP, W]).values())
    assert podman.done == []


def test_the_bridge_keeps_its_address_whoever_comes_and_goes(tmp_path, bridge):
    podman = Podman(networks=[NETWORK])
    box = make(podman, tmp_path)
    podman.answers["ps"] = [container(box, CP), container(box, W)]
    said = ["podman7 keeps 5a:00:00:00:00:01"]
    assert box.present([CP, W], check=True)["bridge"] == said
    assert bridge == []
    assert box.present([CP, W])["bridge"] == said
    assert bridge == [["ip", "link", "set", "dev", "podman7", "address", "5a:00:00:00:00:01"]]
    assert box.present([CP, W])["bridge"] == []


def test_the_bridge_of_a_new_network_keeps_its_address(tmp_path, bridge):
    assert make(Podman(), tmp_path).present([CP, W])["bridge"] == ["podman7 keeps 5a:00:00:00:00:01"]
    assert len(bridge) == 1


def test_a_stopped_machine_is_started_and_a_half_made_one_is_made_anew(tmp_path):
    podman = Podman(networks=[NETWORK], volumes=[{"Name": "t-w1", "Labels": {module.CLUSTER_LABEL: "t"}}])
    box = make(podman, tmp_path)
    podman.answers["ps"] = [container(box, CP, "exited"), container(box, W, "created")]
    done = box.present([CP, W])
    assert (done["started"], done["created"]) == (["t-cp1"], ["t-w1"])
    assert ["volume", "rm", "--force", "t-w1"] in podman.done
    assert ["start", "t-cp1"] in podman.done


def test_check_mode_does_nothing(tmp_path):
    podman = Podman(image=False)
    done = make(podman, tmp_path).present([CP], check=True)
    assert done["image"]
    assert done["created"] == ["t-cp1"]
    assert podman.done == []


def test_a_container_of_somebody_else_is_not_touched(tmp_path):
    podman = Podman(containers=[{"Names": ["t-cp1"], "State": "running", "Labels": None}])
    with pytest.raises(SandboxError, match="not a machine of t"):
        make(podman, tmp_path).present([CP])
    assert podman.done == []


def test_a_machine_is_not_replaced_because_its_settings_changed(tmp_path):
    podman = Podman(networks=[NETWORK])
    box = make(podman, tmp_path)
    podman.answers["ps"] = [container(box, CP, settings="old")]
    with pytest.raises(SandboxError, match="made with other settings"):
        box.present([CP])


def test_a_network_of_somebody_else_is_an_error(tmp_path):
    podman = Podman(networks=[{**NETWORK, "labels": {}}])
    with pytest.raises(SandboxError, match="podman network rm t"):
        make(podman, tmp_path).present([CP])


def test_units_that_failed_are_named(tmp_path):
    podman = Podman(state="degraded")
    with pytest.raises(SandboxError, match=r"units failed: broken\.service"):
        make(podman, tmp_path).present([CP])


def test_absent_removes_what_has_the_label_and_nothing_else(tmp_path):
    mine = [{"Name": "t-cp1", "Labels": {module.CLUSTER_LABEL: "t"}}, {"Name": "other", "Labels": {}}]
    podman = Podman(volumes=mine, networks=[NETWORK])
    box = make(podman, tmp_path)
    podman.answers["ps"] = [
        container(box, CP),
        container(box, W, cluster="other"),
        {"Names": ["x"], "State": "running"},
    ]
    assert box.absent(["t-cp1", "t-w1"]) == {"machines": ["t-cp1"], "volumes": ["t-cp1"], "network": ["t"]}
    assert podman.verbs() == ["rm", "volume", "network"]


def test_inotify_is_raised_for_all_machines_of_the_host(tmp_path, inotify):
    inotify.write_text("128")
    done = make(Podman(), tmp_path).present([CP, W])
    assert done["host"] == ["fs.inotify.max_user_instances 128 -> 512"]
    assert inotify.read_text() == "512"


def test_the_image_is_named_after_its_recipe(tmp_path, monkeypatch):
    before = make(Podman(), tmp_path).image.name
    monkeypatch.setattr(machine_image, "PACKAGES", [*machine_image.PACKAGES, "more"])
    assert make(Podman(), tmp_path).image.name != before


def test_unified_cgroups_need_no_special_runtime(tmp_path):
    box = Sandbox("t", tmp_path, run=Podman(), unified_cgroups=True)
    assert box.command(CP)[0] == "run"
    assert "--systemd=false" not in box.command(CP)


def test_an_internal_network_leads_nowhere_and_publishes_nothing(tmp_path):
    podman = Podman()
    make(podman, tmp_path, internal=True).present([W])
    (network,) = [call for call in podman.done if call[:2] == ["network", "create"]]
    assert "--internal" in network
    with pytest.raises(SandboxError, match="sandbox_ports is \\[30080\\]"):
        make(podman, tmp_path, internal=True).present([CP])


def test_a_network_of_the_other_kind_is_an_error(tmp_path):
    with pytest.raises(SandboxError, match="sandbox_internal = False"):
        make(Podman(networks=[NETWORK]), tmp_path, internal=True).present([W])


def test_machines_see_the_cache_only_where_they_may(tmp_path):
    assert f"{tmp_path}:{module.CACHE_IN_MACHINE}:ro" in make(Podman(), tmp_path).command(W)
    assert module.CACHE_IN_MACHINE not in " ".join(make(Podman(), tmp_path, mounts_cache=False).command(W))


def test_each_debian_release_has_its_own_image(tmp_path):
    boxes = [make(Podman(), tmp_path, suite=suite) for suite in machine_image.SUITES]
    assert (
        len({box.image.name for box in boxes}) == len({box.image.archive for box in boxes}) == len(machine_image.SUITES)
    )
