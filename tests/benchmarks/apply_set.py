# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The same objects by kubescale.fleet.apply_set and by kubernetes.core.k8s, against one API server, as ratios.

Seconds are those of a task among others of its kind in one `ansible-playbook`, less those of a playbook whose tasks do
nothing. So they include all that a task costs a person: arguments, imports, processes.
Run: python3 -m tests.benchmarks.apply_set (needs the binaries that tests/api needs).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conftest import REPOSITORY
from tests.api.cluster import control_plane
from tests.benchmarks import changes_of

Play = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured. The defaults are the benchmark's."""

    #: ConfigMaps, and components of five objects each.
    maps: int = 54
    components: int = 16
    #: Objects that the loop of kubernetes.core.k8s applies, as it is too slow for all of them.
    looped: int = 5
    #: Sets in one playbook, each in a namespace of its own (the collection's site.yml has nine).
    tasks: int = 3
    #: Converged runs, of which the fastest counts.
    rounds: int = 3


FULL = Size()


@dataclass(frozen=True)
class Run:
    """Wall seconds of a playbook, and its tasks that changed something."""

    seconds: float
    changed: int


@dataclass(frozen=True)
class Way:
    """A way to apply the objects: seconds per task of the first run and of converged runs, and changes of each run."""

    first: float
    converged: float
    changes: list[int]


def objects(namespace: str, size: Size = FULL) -> list[dict[str, Any]]:
    """Return objects such as a monitoring stack has. Deployments have no replicas, because no node runs here."""

    def one(kind: str, name: str, api_version: str = "v1", **body: Any) -> dict[str, Any]:
        metadata = {"name": name} | ({"namespace": namespace} if kind != "Namespace" else {})
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}

    result = [one("Namespace", namespace)]
    rbac = "rbac.authorization.k8s.io/v1"
    for number in range(size.maps):
        result.append(one("ConfigMap", f"dashboard-{number}", data={"dashboard.json": f'{{"panel": {number}}}' * 100}))
    for number in range(size.components):
        name, labels = f"component-{number}", {"app": f"component-{number}"}
        container = {"name": "main", "image": "example.com/main:1", "resources": {"requests": {"cpu": "10m"}}}
        template = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": name, "containers": [container]}}
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        workload = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        result += [
            one("ServiceAccount", name),
            one("Role", name, rbac, rules=[rule]),
            one("RoleBinding", name, rbac, roleRef=role, subjects=[{"kind": "ServiceAccount", "name": name}]),
            one("Service", name, spec={"selector": labels, "ports": [{"port": 80}]}),
            one("Deployment", name, "apps/v1", spec=workload),
        ]
    return result


def task_apply_set(kubeconfig: Path, namespace: str, size: Size) -> Play:
    """Return a task that applies all objects as a set."""
    arguments = {"name": namespace, "kubeconfig": str(kubeconfig), "wait": False, "definition": "{{ objects }}"}
    return {"name": "Apply", "kubescale.fleet.apply_set": arguments, "vars": {"objects": objects(namespace, size)}}


def task_k8s(kubeconfig: Path, namespace: str, size: Size) -> Play:
    """Return a task that gives all objects to kubernetes.core.k8s at once."""
    arguments = {"kubeconfig": str(kubeconfig), "apply": True, "definition": "{{ objects }}"}
    return {"name": "Apply", "kubernetes.core.k8s": arguments, "vars": {"objects": objects(namespace, size)}}


def task_k8s_loop(kubeconfig: Path, namespace: str, size: Size) -> Play:
    """Return a task that gives a few objects to kubernetes.core.k8s one after the other."""
    arguments = {"kubeconfig": str(kubeconfig), "apply": True, "definition": "{{ item }}"}
    return {"name": "Apply", "kubernetes.core.k8s": arguments, "loop": objects(namespace, size)[: size.looped]}


def run(folder: Path, tasks: list[Play]) -> Run:
    """Run tasks as a playbook. Raise RuntimeError if it fails."""
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    path, phases = folder / "play.yml", folder / "phases.json"
    path.write_text(yaml.safe_dump([play], sort_keys=False))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,", str(path)]
    environment = {**os.environ, "KUBESCALE_PHASES_FILE": str(phases)}
    started = time.monotonic()
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if ended.returncode:
        raise RuntimeError(f"the benchmark's playbook failed:\n{ended.stdout[-3000:]}\n{ended.stderr[-1000:]}")
    return Run(seconds, changes_of(phases))


def measure(kubeconfig: Path, folder: Path, size: Size = FULL) -> dict[str, Way]:
    """Return the figures of each way to apply the objects."""
    idle = [{"name": "Nothing", "ansible.builtin.debug": {"msg": ""}}] * size.tasks
    nothing = min(run(folder, idle).seconds for _ in range(size.rounds))
    result = {}
    for name, make in (("apply-set", task_apply_set), ("k8s", task_k8s), ("k8s-loop", task_k8s_loop)):
        once = make is task_k8s_loop
        tasks = [make(kubeconfig, f"{name}-{number}", size) for number in range(1 if once else size.tasks)]
        first, *again = (run(folder, tasks) for _ in range(2 if once else 1 + size.rounds))
        best = min(each.seconds for each in again)
        changes = [first.changed, *(each.changed for each in again)]
        result[name] = Way((first.seconds - nothing) / len(tasks), (best - nothing) / len(tasks), changes)
    return result


def figures(size: Size = FULL) -> dict[str, Way]:
    """Return the figures of each way, measured on a control plane that is started for them."""
    with tempfile.TemporaryDirectory(prefix="kubescale-bench-") as scratch:
        folder = Path(scratch)
        (folder / "cluster").mkdir()
        with control_plane(folder / "cluster") as kubeconfig:
            return measure(kubeconfig, folder, size)


def main() -> None:
    """Print a table."""
    found = figures()
    count = len(objects("any"))
    ours = found["apply-set"]
    rows = {
        f"apply_set, {count} objects": (ours, 1.0),
        f"kubernetes.core.k8s, {count} objects in one call": (found["k8s"], 1.0),
        f"kubernetes.core.k8s in a loop ({FULL.looped} measured, for {count})": (
            found["k8s-loop"],
            count / FULL.looped,
        ),
    }
    print(f"{'':60}{'first run':>18}{'converged':>18}")
    for title, (way, factor) in rows.items():
        pairs = ((way.first, ours.first), (way.converged, ours.converged))
        cells = [f"{value * factor:.2f} s {value * factor / mine:5.1f}x" for value, mine in pairs]
        print(f"{title:60}{cells[0]:>18}{cells[1]:>18}")


if __name__ == "__main__":
    main()
