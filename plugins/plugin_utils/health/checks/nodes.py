# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The nodes, and the workloads of the components on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...common.components import NAMESPACES
from ...kube.objects import condition, explain, holds, matches, why_not_ready
from ...kube.readiness import readiness
from ..facts import NODES, PODS, Watched, key
from ..link import Cause, Finding, broken, link, ok
from ..settings import Settings

#: Namespaces of the components, and of the cluster itself.
OURS = frozenset(NAMESPACES.values()) - {""}


@link(
    "every machine is a Ready node",
    {
        "node_missing": Cause(
            "A machine of the inventory is not a node of the cluster.",
            "run site.yml with --tags control_plane,worker; on the machine: journalctl -u kubelet -u containerd -n 100",
        ),
        "node_not_ready": Cause(
            "A node that is not Ready runs no new pods, so an autoscaler has nowhere to scale to.",
            "kubectl describe node {node}; on the machine: journalctl -u kubelet -u containerd -n 100",
        ),
    },
)
def nodes_ready(facts: Watched, settings: Settings) -> Finding:
    """Check that every node is Ready, and that every machine is a node."""
    nodes = {node["metadata"]["name"]: node for node in facts.items(NODES)}
    bad = {
        name: f"{name} is not Ready ({explain(condition(node, 'Ready'))})"
        for name, node in sorted(nodes.items())
        if not holds(node, "Ready")
    }
    missing = [f"{name} has not joined" for name in settings.machines if name not in nodes]
    if missing or not nodes:
        return broken("node_missing", "; ".join([*missing, *bad.values()]) or "the cluster has no nodes")
    if bad:
        return broken("node_not_ready", "; ".join(bad.values()), node=next(iter(bad)))
    return ok(f"{len(nodes)} nodes Ready")


@link(
    "Deployments, DaemonSets and StatefulSets of the components are available",
    {
        "workload_unavailable": Cause(
            "Every later link is served by one of these.",
            "kubectl --namespace {namespace} get pods --output wide; then describe and logs of the pod that the "
            "evidence names",
        )
    },
)
def workloads_available(facts: Watched, _settings: Settings) -> Finding:
    """Check that the components' workloads run their current revision with all replicas available."""
    bad, count = [], 0
    for kind in ("Deployment", "DaemonSet", "StatefulSet"):
        for item in facts.items(f"/apis/apps/v1/{kind.lower()}s"):
            if item["metadata"]["namespace"] not in OURS:
                continue
            count += 1
            # The items of a list have no kind.
            verdict = readiness({"apiVersion": "apps/v1", "kind": kind, **item})
            if not verdict.ready:
                evidence = f"{kind} {key(item)}: {verdict.reason}{pod_trouble(facts, item)}"
                bad.append((evidence, item["metadata"]["namespace"]))
    if bad:
        return broken("workload_unavailable", "; ".join(text for text, _unused in bad), namespace=bad[0][1])
    return ok(f"{count} workloads available")


def pod_trouble(facts: Watched, workload: Mapping[str, Any]) -> str:
    """Return why the first pod of a workload that is not Ready is not, in parentheses, or an empty text."""
    namespace, selector = workload["metadata"]["namespace"], workload["spec"]["selector"]
    for pod in facts.items(PODS):
        metadata = pod["metadata"]
        mine = metadata["namespace"] == namespace and matches(selector, metadata.get("labels") or {})
        if mine and "deletionTimestamp" not in metadata and not holds(pod, "Ready"):
            return f" (pod {metadata['name']}: {why_not_ready(pod)})"
    return ""
