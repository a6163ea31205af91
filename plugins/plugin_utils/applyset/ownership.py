# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Owners of objects: sets, other tools, and other objects."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..kube.client import JSON, Api
from ..kube.manifests import Key, Ref, owned_fields, ref_of
from ..kube.objects import matches, service_selector

MANAGER = "kubescale.fleet"
#: Label of every member, with the id of its set.
PART_OF_LABEL = "applyset.kubernetes.io/part-of"
#: Label of a namespace that several sets use and that one of ours created.
SHARED_LABEL = "fleet.kubescale.io/shared"
#: Kinds of objects that Kubernetes creates by itself or derives from other objects.
DERIVED_KINDS = {"Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision"}
#: Kinds that run the pods behind a Service.
_WORKLOADS = ("DaemonSet", "Deployment", "StatefulSet")
#: Kinds that are never deleted to be created again, because the objects that others keep in them would go, too.
IRREPLACEABLE = frozenset({"CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"})
#: Prefixes of managers whose fields in any object belong to the cluster, such as finalizers and allocated addresses.
_CLUSTER_MANAGERS = ("kube-", "cloud-controller-manager", "clusterrole-aggregation-controller")


def labels_of(obj: Mapping[str, Any]) -> JSON:
    """Return the labels of an object."""
    return obj["metadata"].get("labels") or {}


def group_kind(obj: Mapping[str, Any]) -> str:
    """Return the kind and group of an object, such as "Deployment.apps" or "ConfigMap"."""
    group = str(obj["apiVersion"]).rpartition("/")[0]
    return f"{obj['kind']}.{group}" if group else str(obj["kind"])


def set_id(name: str, namespace: str) -> str:
    """Return the id of the set whose parent is ConfigMap `name` in `namespace`, as KEP-3659 derives it."""
    digest = hashlib.sha256(f"{name}.{namespace}.ConfigMap.".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def is_member(obj: Mapping[str, Any], set_id: str) -> bool:
    """Return whether an object is in the set, or was applied by us and has lost the label of its set."""
    label = labels_of(obj).get(PART_OF_LABEL)
    return bool(label == set_id or (label is None and owned_fields(obj, MANAGER) is not None))


def owner_of(obj: Mapping[str, Any]) -> str:
    """Return who owns an object: its Helm release, its owner references, or else the managers of its fields."""
    metadata = obj["metadata"]
    annotations = metadata.get("annotations") or {}
    if release := annotations.get("meta.helm.sh/release-name"):
        return f"belongs to Helm release {annotations.get('meta.helm.sh/release-namespace', '?')}/{release}"
    owners = [f"{owner['kind']} {owner['name']}" for owner in metadata.get("ownerReferences") or []]
    if owners:
        return f"belongs to {' and '.join(owners)}"
    managers = dict.fromkeys(
        entry["manager"]
        for entry in metadata.get("managedFields") or []
        if not entry.get("subresource") and not _is_clusters_own(entry)
    )
    return f"was made with {' and '.join(managers)}" if managers else "has no manager"


def _is_clusters_own(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("manager", "")).startswith(_CLUSTER_MANAGERS)


def all_fields_ours(obj: Mapping[str, Any]) -> list[JSON]:
    """Return the managedFields of an object as if we had applied all fields that people and their tools wrote.

    The next apply then removes the fields that its manifest does not have, as in our own objects. The status and the
    fields of the cluster's own controllers stay theirs.
    """
    theirs: list[JSON] = []
    ours: list[JSON] = []
    for entry in obj["metadata"].get("managedFields") or []:
        foreign = entry.get("apiVersion") != obj["apiVersion"] or entry.get("subresource") or _is_clusters_own(entry)
        (theirs if foreign else ours).append(entry)
    fields: JSON = {}
    for entry in ours:
        fields = _union(fields, entry.get("fieldsV1") or {})
    entry = {"manager": MANAGER, "operation": "Apply", "apiVersion": obj["apiVersion"], "fieldsType": "FieldsV1"}
    return [*theirs, {**entry, "fieldsV1": fields}]


def _union(one: JSON, other: Mapping[str, Any]) -> JSON:
    return {**one, **{key: _union(one.get(key) or {}, value) for key, value in other.items()}}


def left_without_use(api: Api, adopted: Iterable[JSON], kept: Collection[Key]) -> list[JSON]:
    """Return the objects that nothing uses any more once APIServices and Services (`adopted`) are taken over.

    These are the Service of an APIService, and the workloads whose pods a Service selects. An object with a key in
    `kept` is still used.
    """
    services: dict[Key, JSON] = {}
    for obj in adopted:
        service: JSON | None = obj if (obj["kind"], obj["apiVersion"]) == ("Service", "v1") else None
        if obj["kind"] == "APIService" and (target := obj["spec"].get("service")):
            service = api.get("v1", "Service", target["name"], target["namespace"])
        if service is not None:
            services[ref_of(service).key] = service
    unused = dict(services)
    for service in services.values():
        if not (selector := service_selector(service)):
            continue
        for kind in _WORKLOADS:
            for item in api.list("apps/v1", kind, service["metadata"]["namespace"]).items:
                if matches(selector, item["spec"]["template"]["metadata"].get("labels") or {}):
                    unused[ref_of(item).key] = item
    return [obj for key, obj in unused.items() if key not in kept]


def others_that_serve(api: Api, groups: Mapping[str, Collection[str]]) -> list[tuple[Ref, str, str]]:
    """Return the APIServices and CRDs that serve an API group and are not members of the sets that may serve it.

    Args:
        groups: Ids of the sets that may serve a group, by API group.

    Returns:
        Each object, its owner in words, and its API group.
    """
    foreign = []
    for api_version, kind in (
        ("apiregistration.k8s.io/v1", "APIService"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ):
        for item in api.list(api_version, kind, metadata_only=kind != "APIService").items:
            group = item["metadata"]["name"].partition(".")[2]
            # An APIService without a service is the API server's own, for a CRD or a built-in group.
            local = kind == "APIService" and not item["spec"].get("service")
            if group in groups and not local and not any(is_member(item, set_id) for set_id in groups[group]):
                foreign.append((ref_of(item), owner_of(item), group))
    return foreign


def how_to_adopt(role: str | None) -> str:
    """Return advice about objects of others that `role` of this collection, or a task of no role, would create."""
    if role is None:
        return "To take these objects over, set adopt: true."
    return (
        f"To take these objects over, name {role} in the list adopt (-e adopt={role}). To leave them to their owner, "
        f"set {role}_state to absent."
    )
