# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Render the roles that apply objects to a cluster's API: in unit tests, in API tests and in benchmarks.

The arguments are those of the tasks that the roles have, so a new variable of a role needs no change here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.origin import TEMPLATES_ALLOWED
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.manifests import parse_definition

from conftest import REPOSITORY

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18 trusts every text

    def trust_as_template(value: str) -> str:
        """Return the text."""
        return value


APPLY_SET = "kubescale.fleet.apply_set"
#: Fields of the result of kubescale.fleet.service_certificate that the roles register.
CERTIFICATE = {
    "reason": "",
    "certificate": "the certificate",
    "private_key": "its key",
    "ca": "the CA",
    "not_after": 1800000000,
}
#: Variables of a cluster made by kubeadm that an inventory or an earlier task sets.
CLUSTER = {
    "cluster_name": "test",
    "cluster_kubeconfig": "/does/not/exist",
    "cluster_existing": False,
    "kubescale_cluster": {
        "host": "192.0.2.1",
        "port": "6443",
        "pod_network": "10.244.0.0/16",
        "service_network": "10.96.0.0/16",
    },
    "__metrics_server_certificate": CERTIFICATE,
    "__prometheus_adapter_certificate": CERTIFICATE,
}
LOADER = DataLoader()
Variables = dict[str, Any]


def variables_of(inventory: Path, cluster: str) -> Variables:
    """Return the variables of a cluster of an inventory. Templates in them may be rendered."""
    program = str(Path(sys.executable).with_name("ansible-inventory"))
    command = [program, f"--inventory={inventory}", f"--host={cluster}"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return dict(trusted(json.loads(ended.stdout)))


def trusted(value: Any) -> Any:
    """Return a value whose strings Ansible renders as templates."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def rendered_sets(role: str, settings: Variables) -> list[Variables]:
    """Return the arguments of each task with which a role applies a set of objects.

    `settings` override the role's own variables. Tasks that would be skipped or would remove a set are left out.
    """
    folder = REPOSITORY / "roles" / role
    variables = CLUSTER | {"role_path": str(folder), "ansible_search_path": [str(folder)]}
    for file in (folder / "defaults/main.yml", folder / "vars/main.yml"):
        variables |= (LOADER.load_from_file(str(file), **TEMPLATES_ALLOWED) or {}) if file.exists() else {}
    # A loader of its own: lookups read the same files without trust, and a loader keeps what was read first.
    templar = Templar(loader=DataLoader(), variables=variables | settings)

    def applies(task: Variables) -> bool:
        conditions = task.get("when", [])
        conditions = conditions if isinstance(conditions, list) else [conditions]
        texts = [*(f"{{{{ {condition} }}}}" for condition in conditions), task[APPLY_SET].get("state", "present")]
        return all(templar.template(trust_as_template(text)) in (True, "present") for text in texts)

    tasks = LOADER.load_from_file(str(folder / "tasks/main.yml"), **TEMPLATES_ALLOWED)
    return [templar.template(task[APPLY_SET]) for task in tasks if APPLY_SET in task and applies(task)]


def render(role: str, **settings: Any) -> list[dict[str, Any]]:
    """Return the objects of a role's definitions, without those of `files`, on a cluster made by kubeadm."""
    return [item for arguments in rendered_sets(role, settings) for item in parse_definition(arguments["definition"])]
