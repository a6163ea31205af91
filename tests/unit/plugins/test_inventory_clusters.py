"""The clusters inventory plugin: the groups, hosts and variables it makes, and how it refuses mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible_collections.kubescale.fleet.plugins.inventory import clusters as plugin

REPOSITORY = Path(__file__).resolve().parents[3]


def load(directory: Path, content: object) -> InventoryData:
    """Write content as clusters.yml into the directory and read it by the plugin."""
    file = directory / "clusters.yml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    inventory = InventoryData()
    module = inventory_loader.get("kubescale.fleet.clusters")
    assert module.verify_file(str(file))
    module.parse(inventory, DataLoader(), str(file), cache=False)
    inventory.reconcile_inventory()
    return inventory


def wrap(clusters: object) -> dict[str, Any]:
    return {"plugin": "kubescale.fleet.clusters", "clusters": clusters}


def problems(clusters: object) -> list[str]:
    return list(plugin.read_clusters(wrap(clusters))[0])


def variables(inventory: InventoryData, host: str) -> dict[str, Any]:
    """The host's variables, narrower groups over wider ones, as Ansible merges them."""
    merged: dict[str, Any] = {}
    for group in sorted(inventory.hosts[host].get_groups(), key=lambda g: (g.depth, g.priority, g.name)):
        merged.update(group.vars)
    return merged | inventory.hosts[host].vars


TWO = {
    "demo": {"control_plane": {"cp1": {"ansible_host": "192.0.2.1"}}, "workers": ["w1", "w2"], "ring": 1},
    "far-away": {"kubeconfig": "../far.kubeconfig", "environment": "prod-eu"},
}


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InventoryData:
    monkeypatch.setenv("KUBESCALE_STATE_DIR", str(tmp_path / "state"))
    return load(tmp_path, wrap(TWO))


@pytest.mark.parametrize(
    ("group", "hosts"),
    [
        ("nodes", {"cp1", "w1", "w2"}),
        ("control_plane", {"cp1"}),
        ("workers", {"w1", "w2"}),
        ("clusters", {"demo", "far-away"}),
        ("demo_control_plane", {"cp1"}),
        ("demo_workers", {"w1", "w2"}),
        ("far_away_control_plane", set()),
        ("cluster_demo", {"cp1", "w1", "w2", "demo"}),
        ("cluster_far_away", {"far-away"}),
        ("env_default", {"cp1", "w1", "w2", "demo"}),
        ("env_prod_eu", {"far-away"}),
        ("ring_1", {"cp1", "w1", "w2", "demo"}),
        ("ring_0", {"far-away"}),
    ],
)
def test_groups(two: InventoryData, group: str, hosts: set[str]) -> None:
    assert {host.name for host in two.groups[group].get_hosts()} == hosts


def test_every_host_of_a_cluster_knows_it(two: InventoryData, tmp_path: Path) -> None:
    for host in ("demo", "cp1", "w1"):
        known = {name: value for name, value in variables(two, host).items() if name.startswith("cluster_")}
        assert known == {
            "cluster_name": "demo",
            "cluster_environment": "default",
            "cluster_ring": 1,
            "cluster_state_dir": str(tmp_path / "state/demo"),
            "cluster_kubeconfig": str(tmp_path / "state/demo/kubeconfig"),
            "cluster_control_plane": ["cp1"],
            "cluster_workers": ["w1", "w2"],
            "cluster_existing": False,
        }


def test_existing_cluster_takes_its_kubeconfig_from_beside_the_file(two: InventoryData, tmp_path: Path) -> None:
    known = variables(two, "far-away")
    assert known["cluster_existing"] is True
    assert known["cluster_kubeconfig"] == str(tmp_path.parent / "far.kubeconfig")


def test_api_host_is_this_python_and_machines_have_their_own(two: InventoryData) -> None:
    assert two.hosts["demo"].vars["ansible_connection"] == "local"
    assert two.hosts["demo"].vars["ansible_python_interpreter"] == sys.executable
    assert variables(two, "cp1")["ansible_python_interpreter"] == "/usr/bin/python3"
    assert variables(two, "cp1")["ansible_host"] == "192.0.2.1"


def test_state_is_below_the_current_directory_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBESCALE_STATE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    inventory = load(tmp_path, wrap(TWO))
    assert variables(inventory, "demo")["cluster_state_dir"] == str(tmp_path / ".state/demo")


def test_variables_of_a_cluster_win_over_those_of_a_role_group(two: InventoryData) -> None:
    two.groups["nodes"].set_variable("x", "nodes")
    two.groups["control_plane"].set_variable("x", "role")
    two.groups["ring_1"].set_variable("x", "ring")
    two.groups["cluster_demo"].set_variable("x", "cluster")
    assert variables(two, "cp1")["x"] == "cluster"
    two.groups["demo_control_plane"].set_variable("x", "role of cluster")
    assert variables(two, "cp1")["x"] == "role of cluster"


OK = {"control_plane": ["cp1"]}


@pytest.mark.parametrize(
    ("clusters", "key", "text"),
    [
        ({"a": {"contrl_plane": ["x"]}}, "clusters.a.contrl_plane", "did you mean control_plane?"),
        ({"a": OK | {"colour": 1}}, "clusters.a.colour", "there are environment, ring"),
        ({"a": {"workers": ["w"]}}, "clusters.a", "neither control_plane"),
        ({"a": {"control_plane": []}}, "clusters.a", "neither control_plane"),
        ({"a": OK | {"kubeconfig": "k"}}, "clusters.a.control_plane", "cannot stand beside kubeconfig"),
        ({"a": {"workers": ["w"], "kubeconfig": "k"}}, "clusters.a.workers", "cannot stand beside kubeconfig"),
        ({"a": {"kubeconfig": ""}}, "clusters.a.kubeconfig", "path of a kubeconfig"),
        ({"A_b": OK}, "clusters.A_b", "is not a cluster name"),
        ({"a" * 64: OK}, f"clusters.{'a' * 64}", "63 characters"),
        ({"nodes": OK}, "clusters.nodes", "take another"),
        ({"a": OK | {"environment": "Prod"}}, "clusters.a.environment", "= 'Prod': must be a name"),
        ({"a": OK | {"ring": -1}}, "clusters.a.ring", "= -1: must be a whole number, 0 or more"),
        ({"a": OK | {"ring": True}}, "clusters.a.ring", "whole number"),
        ({"a": OK | {"ring": "1"}}, "clusters.a.ring", "whole number"),
        ({"a": ["x"]}, "clusters.a", "must be a mapping"),
        ({"a": {"control_plane": "x"}}, "clusters.a.control_plane", "list of machine names"),
        ({"a": {"control_plane": ["-x"]}}, "clusters.a.control_plane", "'-x' is not a machine name"),
        ({"a": {"control_plane": ["x", "x"]}}, "clusters.a.control_plane", "machine x is listed twice"),
        ({"a": {"control_plane": {"x": "y"}}}, "clusters.a.control_plane.x", "mapping of host variables"),
        ({"a": {"control_plane": {"x": {"a-b": 1}}}}, "clusters.a.control_plane.x", "not a variable name"),
        ({"a": {"control_plane": {"x": {"cluster_ring": 1}}}}, "clusters.a.control_plane.x.cluster_ring", "cannot be"),
        ({"a": OK | {"workers": ["cp1"]}}, "clusters.a.workers.cp1", "already in clusters.a.control_plane"),
        ({"a": OK, "b": OK}, "clusters.b.control_plane.cp1", "already in clusters.a.control_plane"),
        ({"cp1": OK}, "clusters.cp1", "name of a machine"),
        ({"a": {"control_plane": ["workers"]}}, "clusters.a.control_plane.workers", "take another"),
        ({"cluster": OK, "control-plane": {"kubeconfig": "k"}}, "clusters.control-plane", "cluster_control_plane"),
        ({}, "clusters", "must be a mapping"),
        (None, "clusters", "must be a mapping"),
    ],
)
def test_mistakes_are_named_by_key(clusters: object, key: str, text: str) -> None:
    found = [line for line in problems(clusters) if line.startswith((f"{key}: ", f"{key} = "))]
    assert any(text in line for line in found), problems(clusters)


@pytest.mark.parametrize(
    "cluster",
    [
        {"contrl_plane": {"cp1": {"ansible_password": "secret"}}},
        {"control_plane": {"cp1": {"ansible-password": "secret"}, "-x": {"ansible_password": "secret"}}},
        {"control_plane": {"cp1": {"cluster_name": "secret"}}},
        {"workers": {"w": {"ansible_password": "secret"}}},
        OK | {"ansible_password": "secret"},
        {"kubeconfig": "k", "control_plane": {"cp1": {"ansible_password": "secret"}}},
    ],
)
def test_mistakes_show_no_host_variables(cluster: dict[str, Any]) -> None:
    found = problems({"a": cluster})
    assert found
    assert "secret" not in "".join(found)


def test_good_files_have_no_problems() -> None:
    assert problems(TWO) == []
    assert problems({"a": {"control_plane": ["cp.example.com"], "workers": None}}) == []


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr("ansible.utils.display.Display.error", lambda _self, text, **_: said.append(text))
    return said


def test_error_names_the_file_the_lines_and_all_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        load(tmp_path, wrap({"a": OK | {"ring": -1, "colour": 1}}) | {"cluster": {}})
    assert stop.value.code == 4
    first, *lines = errors[0].splitlines()
    assert first == "clusters.yml: 3 things are wrong:"
    # ansible-core 2.18 knows the lines of mappings and text only, so a number has the line of its mapping.
    assert re.match(r"  cluster \(clusters\.yml:[18]\): there is no such key; did you mean clusters\?", lines[0])
    assert re.match(r"  clusters\.a\.colour \(clusters\.yml:[47]\): there is no such key", lines[1])
    assert re.match(r"  clusters\.a\.ring = -1 \(clusters\.yml:[46]\): must be", lines[2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clusters: {a: {control_plane: [b]}}\n", "must have the line plugin: kubescale.fleet.clusters"),
        ("plugin: kubescale.fleet.clusters\nclusters:\n\ta: {}\n", "(clusters.yml:3)"),
        ("plugin: kubescale.fleet.clusters\nclusters:\n  7: {control_plane: [b]}\n", "7 is not text; quote the name"),
    ],
)
def test_a_file_that_cannot_be_read_ends_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[str], text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusters.yml").write_text(text)
    module = inventory_loader.get("kubescale.fleet.clusters")
    assert module.verify_file(str(tmp_path / "clusters.yml"))
    with pytest.raises(SystemExit):
        module.parse(InventoryData(), DataLoader(), str(tmp_path / "clusters.yml"))
    assert said in errors[0]


def test_an_inventory_of_another_plugin_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "clusters.yml").write_text("clusters: {hosts: {a: }}\n")
    module = inventory_loader.get("kubescale.fleet.clusters")
    assert module.verify_file(str(tmp_path / "clusters.yml"))
    with pytest.raises(AnsibleParserError):
        module.parse(InventoryData(), DataLoader(), str(tmp_path / "clusters.yml"))


def test_two_files_with_one_cluster_are_refused(tmp_path: Path, errors: list[str]) -> None:
    inventory = InventoryData()
    module = inventory_loader.get("kubescale.fleet.clusters")
    for name, machine in (("one", "cp1"), ("two", "cp2")):
        file = tmp_path / name / "clusters.yml"
        file.parent.mkdir()
        file.write_text(yaml.safe_dump(wrap({"a": {"control_plane": [machine]}})))
    assert module.verify_file(str(tmp_path / "one" / "clusters.yml"))
    module.parse(inventory, DataLoader(), str(tmp_path / "one" / "clusters.yml"))
    with pytest.raises(SystemExit):
        module.parse(inventory, DataLoader(), str(tmp_path / "two" / "clusters.yml"))
    assert "one/clusters.yml, too" in errors[0]
    assert "cp2" not in inventory.hosts


def test_what_is_plainly_no_inventory_is_left_out_and_named(tmp_path: Path) -> None:
    for name in ("README", "LICENSE", "hosts.json", "clusters.yml.rej", "id.pub", "ca.crt", "notes.md", "hosts.yml"):
        (tmp_path / name).touch()
    source = "import sys; sys.path[:0] = ['collections']; from pathlib import Path; from ansible_collections.kubescale"
    source += ".fleet.plugins.inventory.clusters import left_out; print(left_out(Path(sys.argv[1])))"
    ran = subprocess.run(
        [sys.executable, "-c", source, tmp_path], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "['LICENSE', 'README', 'ca.crt', 'clusters.yml.rej', 'hosts.json', 'id.pub']\n"


def test_even_control_planes_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("ansible.utils.display.Display.warning", lambda _self, text, **_: warnings.append(text))
    load(tmp_path, wrap({"a": {"control_plane": ["x", "y"]}}))
    assert len(warnings) == 1
    assert "clusters.a.control_plane: 2 control planes" in warnings[0]


def test_only_files_of_its_name_are_taken(tmp_path: Path) -> None:
    module = inventory_loader.get("kubescale.fleet.clusters")
    other = tmp_path / "hosts.yml"
    other.write_text("plugin: kubescale.fleet.clusters\n")
    assert not module.verify_file(str(other))
    assert not module.verify_file(str(tmp_path / "clusters.yml"))


def test_missing_python_packages_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# These.\nno_such_package>=1\nPyYAML>=6\nneither_this~=2.0\n")
    load(tmp_path, wrap({"a": OK}))
    loaded = inventory_loader.get("kubescale.fleet.clusters")
    monkeypatch.setattr(sys.modules[type(loaded).__module__], "REQUIREMENTS", requirements)
    with pytest.raises(AnsibleParserError, match=f"lacks .*: no_such_package, neither_this. Run: .*{requirements}"):
        load(tmp_path, wrap({"a": OK}))
