# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Inventory of Kubernetes clusters: a short clusters.yml becomes machines, groups, and one host per cluster."""

from __future__ import annotations

DOCUMENTATION = """
name: clusters
short_description: Clusters, their machines, and one host per cluster for its API
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Reads a file named C(clusters.yml) and makes the hosts and groups that the playbooks of this collection work on.
  - Every machine becomes a host. Every cluster becomes a host too, named as the cluster and run on the controller, so
    that work against the APIs of many clusters goes in parallel.
  - "Groups: C(nodes), C(control_plane), C(workers) (machines of all clusters), C(clusters) (the API hosts),
    C(<cluster>_control_plane), C(<cluster>_workers), C(cluster_<name>) (machines and API host of a cluster),
    C(env_<environment>), C(ring_<n>). Characters that a group name cannot have become C(_)."
  - "Variables of every host of a cluster: C(cluster_name), C(cluster_environment), C(cluster_ring),
    C(cluster_state_dir), C(cluster_kubeconfig), C(cluster_control_plane), C(cluster_workers), C(cluster_existing)."
  - Beside the file, C(group_vars/cluster_<name>.yml) takes the variables of one cluster and C(group_vars/all.yml) those
    of all.
  - Where two group variable files disagree, the narrower wins - C(env_*), C(ring_*) and C(nodes), then
    C(control_plane) and C(workers), then C(cluster_<name>), then C(<cluster>_control_plane) and C(<cluster>_workers).
options:
  plugin:
    description: Marks the file as a file of this plugin.
    type: str
    required: true
    choices: [kubescale.fleet.clusters]
  clusters:
    description:
      - Clusters by name. The name is a DNS label and names the API host, groups, and the directory of the cluster's
        state.
      - "Keys of a cluster: V(environment) (string, C(default) if left out), V(ring) (whole number from 0, 0 if left
        out) and either V(control_plane) and V(workers) (a list of machine names, or a mapping of machine name to host
        variables) or V(kubeconfig) (path of an existing cluster's kubeconfig, relative to this file)."
    type: dict
    required: true
  state_dir:
    description:
      - Directory for the files of each cluster on the controller, relative to the current directory.
      - Set by the environment variable only, so that one inventory serves several checkouts.
    type: path
    default: .state
    env:
      - name: KUBESCALE_STATE_DIR
"""

EXAMPLES = """
# inventory/production/clusters.yml
plugin: kubescale.fleet.clusters
clusters:
  berlin:
    environment: production
    ring: 1
    control_plane:
      berlin-cp1: {ansible_host: 192.0.2.11}
      berlin-cp2: {ansible_host: 192.0.2.12}
      berlin-cp3: {ansible_host: 192.0.2.13}
    workers:
      berlin-w1: {ansible_host: 192.0.2.21}
      berlin-w2: {ansible_host: 192.0.2.22}
  managed:
    environment: staging
    kubeconfig: managed.kubeconfig
"""

import functools
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin

from ..plugin_utils.common.entry import Findings, Node, Source
from ..plugin_utils.common.origin import where_failed, where_in
from ..plugin_utils.fleet.clusters import CLUSTER_VARIABLES

REQUIREMENTS = Path(__file__).resolve().parents[2] / "meta" / "requirements.txt"
FILE_NAMES = ("clusters.yml", "clusters.yaml")
#: Ansible's exit status for an inventory or playbook that cannot be read.
PARSER_ERROR = 4
#: Extensions of files beside a clusters.yml that nobody takes for an inventory.
TEXTS = (".md", ".txt", ".rst", ".orig", ".cfg", ".retry", ".kubeconfig", ".pyc", ".pyo", ".swp", ".bak")
#: The file of each cluster, by inventory.
FILES_OF: WeakKeyDictionary[InventoryData, dict[str, str]] = WeakKeyDictionary()
TOP_KEYS = ("plugin", "clusters")
CLUSTER_KEYS = ("environment", "ring", "control_plane", "workers", "kubeconfig")
RESERVED = ("all", "ungrouped", "localhost", "nodes", "workers", "clusters")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
RESERVED_NAME = "is a name that Ansible or this collection uses itself; take another"
LABEL_RULE = "lower case letters, digits and '-', beginning and ending with a letter or digit, 63 characters at most"


@dataclass
class Cluster:
    """One cluster of the file; machines map to their host variables, in the order of the file."""

    name: str
    environment: str = "default"
    ring: int = 0
    control_plane: dict[str, dict[str, Any]] = field(default_factory=dict)
    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    kubeconfig: str | None = None

    @property
    def group(self) -> str:
        """Return the cluster's name as part of a group name."""
        return group_name(self.name)

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """Return control planes and workers with their host variables."""
        return {**self.control_plane, **self.workers}


def error_message(file: str, errors: Sequence[str]) -> str:
    """Return one message with the name of the file and all errors; several errors have a line each."""
    if len(errors) == 1:
        return f"{file}: {errors[0]}"
    return f"{file}: {len(errors)} things are wrong:\n" + "\n".join(f"  {error}" for error in errors)


def missing_packages(requirements: Path) -> list[str]:
    """Return the packages of a requirements file that are not installed for this Python."""
    lines = [line for line in requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    names = [re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in lines]
    return [name for name in names if not is_installed(name)]


def is_installed(package: str) -> bool:
    """Return whether this Python has a package, by its name in package indexes."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def group_name(name: str) -> str:
    """Return the group name of a DNS name: '-' and '.' become '_'."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def is_label(name: object) -> bool:
    """Return whether ``name`` is a DNS label (RFC 1123)."""
    return isinstance(name, str) and LABEL.fullmatch(name) is not None


def read_machines(node: Node) -> dict[str, dict[str, Any]]:
    """Return the machines of a list of names, or of a mapping of name to host variables, with their variables."""
    if not node.is_set:
        return {}
    if not isinstance(node.value, (list, tuple, Mapping)):
        node.reject("must be a list of machine names or a mapping of machine name to host variables")
        return {}
    machines: dict[str, dict[str, Any]] = {}
    for name in node.value:
        if not isinstance(name, str) or len(name) > 253 or not all(is_label(part) for part in name.split(".")):
            # Host variables may hold secrets, so errors about their neighbours show no values.
            node.reject(f"{name!r} is not a machine name ({LABEL_RULE}; labels may be joined by '.')", show=False)
        elif name in machines:
            node.reject(f"machine {name} is listed twice", show=False)
        else:
            machines[name] = read_variables(node.get(name))
    return machines


def read_variables(node: Node) -> dict[str, Any]:
    """Return the host variables of a machine."""
    if not node.is_set:
        return {}
    if not isinstance(node.value, Mapping):
        node.reject("must be a mapping of host variables")
        return {}
    for variable in node.value:
        if not isinstance(variable, str) or not variable.isidentifier():
            node.reject(f"{variable!r} is not a variable name (letters, digits and '_')", show=False)
        elif variable in CLUSTER_VARIABLES:
            node.get(variable).reject("comes from clusters.yml itself and cannot be set for a machine", show=False)
    return dict(node.value)


def read_cluster(name: str, node: Node) -> Cluster:
    """Return one cluster of the file."""
    cluster = Cluster(name)
    if not is_label(name):
        node.reject(f"{name!r} is not a cluster name ({LABEL_RULE})", show=False)
    elif name in RESERVED:
        node.reject(RESERVED_NAME, show=False)
    if not node.is_mapping(CLUSTER_KEYS):
        return cluster
    cluster.environment = node.get("environment").text(cluster.environment, LABEL, f"must be a name ({LABEL_RULE})")
    cluster.ring = node.get("ring").integer(cluster.ring, least=0, digits=False)
    cluster.control_plane = read_machines(node.get("control_plane"))
    cluster.workers = read_machines(node.get("workers"))
    kubeconfig = node.get("kubeconfig")
    if kubeconfig.is_set:
        cluster.kubeconfig = kubeconfig.text("", re.compile(r".+"), "must be the path of a kubeconfig file")
        for machines in ("control_plane", "workers"):
            if node.get(machines).is_set:
                node.get(machines).reject(
                    "cannot stand beside kubeconfig: a cluster is either built on machines or an existing one",
                    show=False,
                )
    elif not node.get("control_plane").value:
        node.reject(
            "has neither control_plane (machines to build it on) nor kubeconfig (an existing cluster)", show=False
        )
    return cluster


def name_conflicts(clusters: Sequence[Cluster]) -> Iterator[str]:
    """Return an error for each name that is used twice: of machines, of clusters and machines, and of groups."""
    places: dict[str, str] = {}
    for cluster in clusters:
        for role, machines in (("control_plane", cluster.control_plane), ("workers", cluster.workers)):
            place = f"clusters.{cluster.name}.{role}"
            for machine in machines:
                if machine in places:
                    yield f"{place}.{machine}: is already in {places[machine]}; a machine can be in one place only"
                places.setdefault(machine, place)
                if machine in RESERVED:
                    yield f"{place}.{machine}: {RESERVED_NAME}"
    for cluster in clusters:
        if cluster.name in places:
            yield (
                f"clusters.{cluster.name}: has the name of a machine in {places[cluster.name]}; the cluster is a host "
                "too, so names must differ"
            )
    meanings: dict[str, str] = dict.fromkeys(
        ("nodes", "control_plane", "workers", "clusters"), "a group of all clusters"
    )
    for cluster in clusters:
        for group, meaning in (
            (f"{cluster.group}_control_plane", f"control plane of {cluster.name}"),
            (f"{cluster.group}_workers", f"workers of {cluster.name}"),
            (f"cluster_{cluster.group}", f"cluster {cluster.name}"),
            (f"env_{group_name(cluster.environment)}", f"environment {cluster.environment}"),
            (f"ring_{cluster.ring}", f"ring {cluster.ring}"),
        ):
            if meanings.setdefault(group, meaning) != meaning:
                yield (
                    f"clusters.{cluster.name}: needs group {group} ({meaning}), which already means: "
                    f"{meanings[group]}; rename one of them"
                )


def read_clusters(config: Mapping[str, Any]) -> tuple[list[str], list[Cluster]]:
    """Return all errors in the content of a clusters.yml, and its clusters."""
    findings = Findings()
    file = Node(config, "", Source("", where=functools.partial(where_in, config)), findings)
    file.is_mapping(TOP_KEYS)
    content = file.get("clusters")
    if not isinstance(content.value, Mapping) or not content.value:
        content.reject("must be a mapping of cluster name to its machines or kubeconfig")
        return findings.errors, []
    clusters = []
    for name in content.value:
        if not isinstance(name, str):
            content.get(name).reject(f"{name!r} is not text; quote the name", show=False)
        clusters.append(read_cluster(str(name), content.get(name)))
    return [*findings.errors, *name_conflicts(clusters)], clusters


def lacks_plugin(content: object) -> bool:
    """Return whether a file has clusters and not the key `plugin`. Other files are inventories of other plugins."""
    clusters = content.get("clusters") if isinstance(content, Mapping) and "plugin" not in content else None
    entries = clusters.values() if isinstance(clusters, Mapping) else ()
    return any(isinstance(entry, Mapping) and set(entry) & {*CLUSTER_KEYS} for entry in entries)


def left_out(folder: Path) -> list[str]:
    """Return the files of a folder that Ansible would read as an inventory if its configuration did not leave them out.

    Files that are never meant as one, such as pages of text, are not among them.
    """
    patterns = [re.compile(pattern) for pattern in constants.INVENTORY_IGNORE_PATTERNS]
    extensions = set(constants.INVENTORY_IGNORE_EXTS) - {*TEXTS}
    return sorted(
        file.name
        for file in folder.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and (file.suffix in extensions or any(pattern.search(file.name) for pattern in patterns))
    )


class InventoryModule(BaseInventoryPlugin):
    """Reads hosts and groups from a clusters.yml; see DOCUMENTATION."""

    NAME = "kubescale.fleet.clusters"
    trusted_by_default = True  # the file is the user's own, like any YAML inventory

    def verify_file(self, path: str) -> bool:
        """Accept only files named clusters.yml (or .yaml), so that other inventory files can be in the same folder."""
        if Path(path).name in ("cluster.yml", "cluster.yaml"):
            self.display.warning(f"{os.path.relpath(path)}: is not read as {self.NAME}; name it {FILE_NAMES[0]}")
        return bool(super().verify_file(path)) and Path(path).name in FILE_NAMES

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        """Fill the inventory.

        Raises:
            SystemExit: The file is wrong. A message named it and every wrong key.
            AnsibleParserError: Packages are missing, or the file belongs to another plugin.
        """
        super().parse(inventory, loader, path, cache)
        # Checked here, because Ansible reports a plugin that cannot be imported as a bug, in the middle of a run.
        if missing := missing_packages(REQUIREMENTS):
            raise AnsibleParserError(
                f"{sys.executable} lacks Python packages of this collection: {', '.join(missing)}. "
                f"Run: {sys.executable} -m pip install --requirement {REQUIREMENTS}"
            )
        file = os.path.relpath(path)
        errors, clusters = read_clusters(self._read(loader, path))
        files = FILES_OF.setdefault(inventory, {})
        for cluster in clusters:
            if (other := files.setdefault(cluster.name, file)) != file:
                errors.append(f"clusters.{cluster.name}: is in {other}, too; a cluster stands in one file")
        if errors:
            self._refuse(path, errors)
        if ignored := left_out(Path(path).absolute().parent):
            self.display.warning(f"{file}: files beside it that are not read as inventories: {', '.join(ignored)}")
        state = Path(self.get_option("state_dir")).absolute()
        for group in ("nodes", "control_plane", "workers", "clusters"):
            inventory.add_group(group)
        for group in ("control_plane", "workers"):
            inventory.add_child("nodes", group)
        # The controller's interpreter may not exist on machines, and "auto" costs a discovery per machine.
        inventory.set_variable("nodes", "ansible_python_interpreter", "/usr/bin/python3")
        for cluster in clusters:
            self._add(cluster, state, Path(path).absolute().parent)

    def _read(self, loader: DataLoader, path: str) -> Mapping[str, Any]:
        """Return the content of a file of this plugin. Raise AnsibleParserError for a file of another plugin."""
        try:
            return self._read_config_data(path)
        except AnsibleParserError:
            try:
                content = loader.load_from_file(path, cache="none")
            except AnsibleParserError as error:
                self._refuse(path, [" ".join(f"{error} ({where_failed(error)})".split())])
            if lacks_plugin(content):
                self._refuse(path, [f"must have the line plugin: {self.NAME}"])
            raise

    def _refuse(self, path: str, errors: Sequence[str]) -> NoReturn:
        """End the program. Ansible would make a warning of an exception, and try its other plugins on the file."""
        self.display.error(error_message(os.path.relpath(path), errors), wrap_text=False)
        raise SystemExit(PARSER_ERROR)

    def _add(self, cluster: Cluster, state: Path, directory: Path) -> None:
        """Add the groups, hosts and variables of one cluster; ``directory`` contains the inventory file."""
        inventory: Any = self.inventory
        whole = f"cluster_{cluster.group}"
        inventory.add_group(whole)
        for parent in (f"env_{group_name(cluster.environment)}", f"ring_{cluster.ring}"):
            inventory.add_group(parent)
            inventory.add_child(parent, whole)
        # A variable of one cluster must win over that of a role group, which has the same depth.
        inventory.set_variable(whole, "ansible_group_priority", 10)
        for role, machines in (("control_plane", cluster.control_plane), ("workers", cluster.workers)):
            group = f"{cluster.group}_{role}"
            inventory.add_group(group)
            inventory.add_child(role, group)
            inventory.add_child(whole, group)
            for machine, variables in machines.items():
                inventory.add_host(machine, group=group)
                for name, value in variables.items():
                    inventory.set_variable(machine, name, value)
            if role == "control_plane" and machines and len(machines) % 2 == 0:
                self.display.warning(
                    f"clusters.{cluster.name}.control_plane: {len(machines)} control planes: etcd needs a majority, so "
                    f"an even number survives no more failures than {len(machines) - 1} would; take an odd number"
                )

        inventory.add_host(cluster.name, group="clusters")
        inventory.add_child(whole, cluster.name)
        inventory.set_variable(cluster.name, "ansible_connection", "local")
        inventory.set_variable(cluster.name, "ansible_python_interpreter", sys.executable)

        home = state / cluster.name
        kubeconfig = (
            home / "kubeconfig"
            if cluster.kubeconfig is None
            else Path(os.path.normpath(directory / Path(cluster.kubeconfig).expanduser()))
        )
        for name, value in (
            ("cluster_name", cluster.name),
            ("cluster_environment", cluster.environment),
            ("cluster_ring", cluster.ring),
            ("cluster_state_dir", str(home)),
            ("cluster_kubeconfig", str(kubeconfig)),
            ("cluster_control_plane", list(cluster.control_plane)),
            ("cluster_workers", list(cluster.workers)),
            ("cluster_existing", cluster.kubeconfig is not None),
        ):
            inventory.set_variable(whole, name, value)
