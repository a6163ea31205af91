# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What prometheus-adapter may read of a cluster's API, by what it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Objects that a rule may be about, by the resource that it names: API group and name in the API.
LISTED = {
    "pod": ("", "pods"),
    "service": ("", "services"),
    "ingress": ("networking.k8s.io", "ingresses"),
    "namespace": ("", "namespaces"),
}
#: For metrics.k8s.io it keeps a list of all nodes and pods.
WATCHED = [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]}]


def adapter_rights(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rules of the adapter's ClusterRole for a configuration.

    Who asks for objects by label makes the adapter list them; an object asked for by its name is not looked up. A
    namespace is what such a rule is about only when it names nothing in it.
    """
    listed = set()
    for rule in config.get("rules") or []:
        named = {override["resource"] for override in rule["resources"].get("overrides", {}).values()}
        listed |= {LISTED[resource] for resource in named - {"namespace"} or named}
    rights = [
        {"apiGroups": [group], "resources": sorted(name for of, name in listed if of == group), "verbs": ["list"]}
        for group in sorted({group for group, _unused in listed})
    ]
    return rights + (WATCHED if config.get("resourceRules") else [])
