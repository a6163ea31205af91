# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Whose an object is: a set's or somebody else's; what taking it over means, and what of theirs has no use then."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..kube.client import JSON, Api
from ..kube.manifests import Key, Ref, owned_fields, ref_of

MANAGER = "kubescale.fleet"
PART_OF_LABEL = "applyset.kubernetes.io/part-of"
#: What runs pods behind a Service.
_WORKLOADS = ("DaemonSet", "Deployment", "StatefulSet")
#: Kinds that are never deleted to be made anew: what others keep in them would go, too.
IRREPLACEABLE = frozenset({"CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"})
#: Managers that write into anybody's objects what belongs to the cluster (finalizers, allocated addresses).
_CLUSTER_MANAGERS = ("kube-", "cloud-controller-manager", "clusterrole-aggregation-controller")


def labels_of(obj: Mapping[str, Any]) -> JSON:
    """Labels of an object."""
    return obj["metadata"].get("labels") or {}


def is_member(obj: Mapping[str, Any], set_id: str) -> bool:
    """Whether an object is of the set, or of no set and applied by us before (somebody took the label away)."""
    label = labels_of(obj).get(PART_OF_LABEL)
    return bool(label == set_id or (label is None and owned_fields(obj, MANAGER) is not None))


def owner_of(obj: Mapping[str, Any]) -> str:
    """Whom an object belongs to, as far as it says so: Helm's release, the object that owns it, or its managers."""
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
    return f"was made with {' and '.join(managers)}" if managers else "was made by nobody who left a name"


def _is_clusters_own(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("manager", "")).startswith(_CLUSTER_MANAGERS)


def all_fields_ours(obj: Mapping[str, Any]) -> list[JSON]:
    """managedFields of an object as if all that people and their tools wrote into it had been applied by us.

    The next apply then leaves the object as we describe it: what we do not name goes away, as with our own objects.
    The status and what the cluster's own controllers wrote stay theirs.
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
    """What stays behind when APIServices and Services, as they were (`adopted`), are taken over.

    That is the Service that an APIService pointed to, and the workloads whose pods a Service chose; those whose keys
    are `kept` are in use.
    """
    services: dict[Key, JSON] = {}
    for obj in adopted:
        service: JSON | None = obj if (obj["kind"], obj["apiVersion"]) == ("Service", "v1") else None
        if obj["kind"] == "APIService" and (target := obj["spec"].get("service")):
            service = api.get("v1", "Service", target["name"], target["namespace"])
        if service is not None:
            services[ref_of(service).key] = service
    found = dict(services)
    for service in services.values():
        if not (selector := service["spec"].get("selector")):
            continue
        for kind in _WORKLOADS:
            for item in api.list("apps/v1", kind, service["metadata"]["namespace"]).items:
                if selector.items() <= (item["spec"]["template"]["metadata"].get("labels") or {}).items():
                    found[ref_of(item).key] = item
    return [obj for key, obj in found.items() if key not in kept]


def others_that_serve(api: Api, groups: Mapping[str, Collection[str]]) -> list[tuple[Ref, str, str]]:
    """APIServices and CRDs of API groups that shall be served by sets of ours, and are not theirs.

    Args:
        groups: Ids of the sets that may serve it, by API group.

    Returns:
        Each object, whom it belongs to, and its API group.
    """
    found = []
    for api_version, kind in (
        ("apiregistration.k8s.io/v1", "APIService"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ):
        for item in api.list(api_version, kind, metadata_only=kind != "APIService").items:
            group = item["metadata"]["name"].partition(".")[2]
            # An APIService without a service is the API server's own, for a CRD or what is built in.
            local = kind == "APIService" and not item["spec"].get("service")
            if group in groups and not local and not any(is_member(item, set_id) for set_id in groups[group]):
                found.append((ref_of(item), owner_of(item), group))
    return found


def how_to_adopt(role: str | None) -> str:
    """What a person can do about objects of others; `role` is the role of this collection that would make them."""
    if role is None:
        return "To take these objects over, say adopt: true."
    return (
        f"To take these objects over, set {role}_adopt to true (-e {role}_adopt=true). To leave them to their owner, "
        f"set {role}_state to absent."
    )
