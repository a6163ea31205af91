# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The same objects by kubescale.fleet.apply_set and by kubernetes.core.k8s, against one API server, as ratios.

Seconds are those of a task among TASKS of its kind in one `ansible-playbook`, less what a playbook costs whose tasks do
nothing, so that they hold all that a task costs a person: arguments, imports, processes.
Run: python3 -m tests.benchmarks.apply_set (needs the binaries that tests/api needs).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

import conftest  # makes the collection importable
from tests.api.cluster import control_plane

#: Objects that the loop of kubernetes.core.k8s applies; it is too slow for all of them.
LOOPED = 5
#: Sets in one playbook, each in a namespace of its own (the collection's site.yml has nine).
TASKS = 3
ROUNDS = 3
Play = dict[str, Any]


def objects(namespace: str) -> list[dict[str, Any]]:
    """135 objects such as a monitoring stack has; Deployments without replicas, as no node runs here."""

    def one(kind: str, name: str, api_version: str = "v1", **body: Any) -> dict[str, Any]:
        metadata = {"name": name} | ({"namespace": namespace} if kind != "Namespace" else {})
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}

    result = [one("Namespace", namespace)]
    rbac = "rbac.authorization.k8s.io/v1"
    for number in range(54):
        result.append(one("ConfigMap", f"dashboard-{number}", data={"dashboard.json": f'{{"panel": {number}}}' * 100}))
    for number in range(16):
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


def task_apply_set(kubeconfig: Path, namespace: str) -> Play:
    """One task that applies all objects as a set."""
    arguments = {"name": namespace, "kubeconfig": str(kubeconfig), "wait": False, "definition": "{{ objects }}"}
    return {"name": "Apply", "kubescale.fleet.apply_set": arguments, "vars": {"objects": objects(namespace)}}


def task_k8s(kubeconfig: Path, namespace: str) -> Play:
    """One task that gives all objects to kubernetes.core.k8s at once."""
    arguments = {"kubeconfig": str(kubeconfig), "apply": True, "definition": "{{ objects }}"}
    return {"name": "Apply", "kubernetes.core.k8s": arguments, "vars": {"objects": objects(namespace)}}


def task_k8s_loop(kubeconfig: Path, namespace: str) -> Play:
    """One task that gives LOOPED objects to kubernetes.core.k8s one after the other."""
    arguments = {"kubeconfig": str(kubeconfig), "apply": True, "definition": "{{ item }}"}
    return {"name": "Apply", "kubernetes.core.k8s": arguments, "loop": objects(namespace)[:LOOPED]}


def seconds(folder: Path, tasks: list[Play]) -> float:
    """Wall time of a playbook. Raises RuntimeError if it fails."""
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    path = folder / "play.yml"
    path.write_text(yaml.safe_dump([play], sort_keys=False))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,", str(path)]
    started = time.monotonic()
    ended = subprocess.run(command, cwd=conftest.REPOSITORY, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"the benchmark's playbook failed:\n{ended.stdout[-3000:]}\n{ended.stderr[-1000:]}")
    return time.monotonic() - started


def measure(kubeconfig: Path, folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds per task of (first, converged) runs by way of doing it; converged ones are the best of ROUNDS."""
    idle = [{"name": "Nothing", "ansible.builtin.debug": {"msg": ""}}] * TASKS
    nothing = min(seconds(folder, idle) for _ in range(ROUNDS))
    result = {}
    for name, make in (("apply-set", task_apply_set), ("k8s", task_k8s), ("k8s-loop", task_k8s_loop)):
        tasks = [make(kubeconfig, f"{name}-{number}") for number in range(1 if make is task_k8s_loop else TASKS)]
        first = seconds(folder, tasks)
        again = min(seconds(folder, tasks) for _ in range(1 if make is task_k8s_loop else ROUNDS))
        result[name] = ((first - nothing) / len(tasks), (again - nothing) / len(tasks))
    return result


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory(prefix="kubescale-bench-") as scratch:
        folder = Path(scratch)
        (folder / "cluster").mkdir()
        with control_plane(folder / "cluster") as kubeconfig:
            found = measure(kubeconfig, folder)
    count = len(objects("any"))
    ours = found["apply-set"]
    rows = {
        f"apply_set, {count} objects": (ours, 1.0),
        f"kubernetes.core.k8s, {count} objects in one call": (found["k8s"], 1.0),
        f"kubernetes.core.k8s in a loop ({LOOPED} measured, for {count})": (found["k8s-loop"], count / LOOPED),
    }
    print(f"{'':60}{'first run':>18}{'converged':>18}")
    for title, (pair, factor) in rows.items():
        cells = [
            f"{value * factor:.2f} s {value * factor / mine:5.1f}x" for value, mine in zip(pair, ours, strict=True)
        ]
        print(f"{title:60}{cells[0]:>18}{cells[1]:>18}")


if __name__ == "__main__":
    main()
