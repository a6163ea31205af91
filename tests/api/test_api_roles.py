# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The roles that work on a cluster's API, on a real one without nodes: what a run changes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import connect

import conftest

from .cluster import control_plane

# In the order of the playbooks. Nothing answers behind an APIService here, and a namespace only goes away while all of
# them answer: the two that bring one are removed first.
ROLES = ["prometheus", "node_exporter", "kube_state_metrics", "alertmanager", "grafana", "demo_app", "hpa"]
AGGREGATED = ["metrics_server", "prometheus_adapter"]
KINDS = [
    ("v1", "Namespace"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apiregistration.k8s.io/v1", "APIService"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
]
# What Kubernetes puts into every namespace.
OF_NAMESPACES = [("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane of its own: what these roles set up would disturb other tests."""
    with control_plane(tmp_path_factory.mktemp("roles")) as path:
        yield path


@pytest.fixture(scope="module")
def run(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run roles on the control plane; gives the changed objects and the diffs by role."""
    folder = tmp_path_factory.mktemp("play")
    inventory = {"plugin": "kubescale.fleet.clusters", "clusters": {"roles": {"kubeconfig": str(kubeconfig)}}}
    (folder / "clusters.yml").write_text(yaml.safe_dump(inventory))

    def run(*roles: str, check: bool = False, **variables: Any) -> dict[str, Any]:
        play = {
            "hosts": "clusters",
            "gather_facts": False,
            "module_defaults": {"kubescale.fleet.apply_set": {"wait": False}},
            "roles": [f"kubescale.fleet.{role}" for role in roles],
        }
        (folder / "play.yml").write_text(json.dumps([play]))
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"--inventory={folder}/clusters.yml",
            "--diff",
        ]
        command += [*(["--check"] if check else []), f"--extra-vars={json.dumps(variables)}", str(folder / "play.yml")]
        environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        ended = subprocess.run(
            command, cwd=conftest.REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        output, _ = json.JSONDecoder().raw_decode(ended.stdout, ended.stdout.index("{\n"))
        results = [task["hosts"]["roles"] for task in output["plays"][0]["tasks"]]
        return {
            f"{found['kind']} {found['namespace']}/{found['name']}": found["action"]
            for result in results
            for found in result.get("objects", [])
            if found["action"] not in ("unchanged", "kept")
        }

    return run


@pytest.fixture
def everything(kubeconfig: Path) -> Callable[[], set[str]]:
    """Function that names every object of the kinds that roles make, but for the parents of sets."""

    def names() -> set[str]:
        api = connect(kubeconfig)
        return {
            f"{kind} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
            for version, kind in KINDS
            if (version, kind) in api.resources()
            for item in api.list(version, kind).items
            if (kind, item["metadata"]["name"]) not in OF_NAMESPACES
            and "applyset.kubernetes.io/id" not in item["metadata"].get("labels", {})
        }

    return names


@pytest.fixture(scope="module")
def applied(run: Run) -> None:
    """All roles, applied twice: the second time nothing may change."""
    first = run(*ROLES, *AGGREGATED)
    assert "created" in first.values()
    assert run(*ROLES, *AGGREGATED) == {}


@pytest.mark.usefixtures("applied")
def test_check_mode_agrees_that_nothing_is_to_do(run: Run) -> None:
    assert run(*ROLES, *AGGREGATED, check=True) == {}


@pytest.mark.usefixtures("applied")
def test_a_changed_rule_is_the_only_change(run: Run) -> None:
    rules = [{"series": "hits_total", "as": "hits_per_second", "window": 60, "function": "rate"}]
    assert run(*ROLES, *AGGREGATED, check=True, prometheus_adapter_rules=rules) == {
        "ConfigMap custom-metrics/adapter-config": "configured",
        "Deployment custom-metrics/prometheus-adapter": "configured",
    }


@pytest.mark.usefixtures("applied")
def test_the_certificate_is_renewed_before_it_ends(run: Run) -> None:
    due = {"prometheus_adapter_certificate_days": 366, "prometheus_adapter_certificate_renew_before_days": 365}
    renewed = run("prometheus_adapter", **due)
    assert renewed == {
        "Secret custom-metrics/cm-adapter-serving-certs": "configured",
        # A CA of its own, as the cluster's is out of reach here.
        "APIService /v1beta1.custom.metrics.k8s.io": "configured",
        "APIService /v1beta2.custom.metrics.k8s.io": "configured",
    }
    assert run("prometheus_adapter") == {}


@pytest.mark.usefixtures("applied")
def test_without_prometheus_its_monitors_go_and_nothing_else(run: Run) -> None:
    gone = run("node_exporter", "kube_state_metrics", "demo_app", prometheus_state="absent")
    assert gone == {
        "ServiceMonitor node-exporter/node-exporter": "pruned",
        "ServiceMonitor monitoring/kube-state-metrics": "pruned",
        "ServiceMonitor demo/demo-app": "pruned",
    }
    run("node_exporter", "kube_state_metrics", "demo_app")


@pytest.mark.usefixtures("applied")
def test_each_component_goes_alone_and_comes_back(run: Run, everything: Callable[[], set[str]]) -> None:
    run(*AGGREGATED, **{f"{role}_state": "absent" for role in AGGREGATED})
    before = everything()
    absent = {f"{role}_state": "absent" for role in ROLES[1:]}
    left = before
    for role in reversed(ROLES[1:]):
        deleted = run(role, **absent)
        assert left - everything() == deleted.keys() & before, role
        left = everything()
        assert deleted, role
    assert run(*ROLES[1:], **absent) == {}
    run(*ROLES)
    assert everything() == before


@pytest.mark.usefixtures("applied")
def test_aggregated_apis_come_and_go_without_a_trace(run: Run, everything: Callable[[], set[str]]) -> None:
    run(*AGGREGATED, **{f"{role}_state": "absent" for role in AGGREGATED})
    before = everything()
    for role in AGGREGATED:
        run(role)
        assert any(name.startswith("APIService") for name in everything() - before), role
        run(role, **{f"{role}_state": "absent"})
        assert everything() == before, role
