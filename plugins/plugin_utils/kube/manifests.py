# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read, check, order, compare and show manifests of Kubernetes objects."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from ..common.errors import FleetError
from ..common.origin import untagged
from ..common.yaml_io import YAML_DUMPER, YAML_LOADER
from .objects import JSON, Value
from .parsed_files import parsed

#: Kinds in the order of application. A kind that is missing here is a custom resource, of PHASE_CUSTOM.
PHASES: tuple[tuple[str, ...], ...] = (
    ("Namespace",),
    ("CustomResourceDefinition",),
    (
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Secret",
        "Service",
        "Endpoints",
        "EndpointSlice",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "StorageClass",
        "PriorityClass",
        "RuntimeClass",
        "IngressClass",
        "Ingress",
        "NetworkPolicy",
        "ResourceQuota",
        "LimitRange",
        "PodDisruptionBudget",
    ),
    ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController", "Pod", "Job", "CronJob"),
    (),
    (
        "APIService",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ),
    ("HorizontalPodAutoscaler",),
)
PHASE_CUSTOM = 4
PHASE_API_SERVICE = 5
_PHASE_OF = {kind: number for number, kinds in enumerate(PHASES) for kind in kinds}
#: API groups to which PHASES applies, besides *.k8s.io. In any other group, a kind is a custom resource.
_BUILT_IN_GROUPS = ("", "apps", "autoscaling", "batch", "policy")

#: Kinds with a pod template, and custom resources for which the Prometheus operator creates such kinds.
_TEMPLATED = {("apps", kind) for kind in ("DaemonSet", "Deployment", "StatefulSet")}
_OPERATED = {("monitoring.coreos.com", kind) for kind in ("Alertmanager", "Prometheus")}

#: Annotation whose only purpose is that a change of it makes a controller or kubelet read the object again.
REMINDER_ANNOTATION = "fleet.kubescale.io/reminder"
#: Replaces the value of a Secret in all output.
REDACTED = "(redacted)"
_SERVER_METADATA = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


class DefinitionError(FleetError):
    """The definition cannot be applied. The message names each wrong object and its error."""


class Key(NamedTuple):
    """Identity of one object, independent of the version of its API group."""

    group: str
    kind: str
    namespace: str
    name: str


class Ref(NamedTuple):
    """Identity of one object. `namespace` is "" for cluster-wide kinds."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def group(self) -> str:
        """Return the API group, "" for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def key(self) -> Key:
        """Return the identity without the version."""
        return Key(self.group, self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}"

    def as_dict(self) -> JSON:
        """Return the identity with the field names of Kubernetes manifests."""
        return {"apiVersion": self.api_version, "kind": self.kind, "namespace": self.namespace, "name": self.name}


def ref_of(obj: Mapping[str, Any]) -> Ref:
    """Return the identity of an object with kind, apiVersion and name."""
    metadata = obj["metadata"]
    return Ref(obj["apiVersion"], obj["kind"], metadata.get("namespace") or "", metadata["name"])


def parse_definition(definition: Value, files: Iterable[str] = ()) -> list[JSON]:
    """Return the objects of YAML files and of a definition: YAML text, one object, or a list of both.

    Empty documents are left out. An object of kind List is replaced by its items. Raise DefinitionError if an object
    lacks apiVersion, kind or metadata.name, or occurs twice.
    """
    objects: list[Any] = []
    for name in files:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DefinitionError(f"files: {name} cannot be read: {error}") from error
        objects += parsed(text, functools.partial(_load, source=f"file {name}"))
    objects += _flatten(definition, "definition")
    problems = [problem for number, obj in enumerate(objects, 1) if (problem := _problem(obj, number))]
    seen: dict[Key, int] = {}
    for number, obj in enumerate(objects, 1):
        if _problem(obj, number):
            continue
        ref = ref_of(obj)
        first = seen.setdefault(ref.key, number)
        if first != number:
            problems.append(f"{ref} ({ref.api_version}) occurs twice, as objects {first} and {number}")
    if problems:
        raise DefinitionError("definition: " + "; ".join(problems))
    return objects


def phase_of(obj: Mapping[str, Any]) -> int:
    """Return the phase of an object, as an index of PHASES."""
    group = str(obj["apiVersion"]).rpartition("/")[0]
    if group not in _BUILT_IN_GROUPS and not group.endswith(".k8s.io"):
        return PHASE_CUSTOM
    return _PHASE_OF.get(obj["kind"], PHASE_CUSTOM)


def in_phases(objects: Iterable[JSON]) -> list[list[JSON]]:
    """Return objects grouped by phase, in the order of application, without empty phases."""
    groups: list[list[JSON]] = [[] for _unused in PHASES]
    for obj in objects:
        groups[phase_of(obj)].append(obj)
    return [group for group in groups if group]


def in_removal_phases(objects: Iterable[JSON]) -> list[list[JSON]]:
    """Return objects grouped by phase, in the order of deletion.

    APIServices and webhooks come first, because a broken one blocks the deletion of namespaces. Then the order of
    application is reversed, so that custom resources go before the workloads that serve them.
    """
    order = [PHASE_API_SERVICE, *(number for number in reversed(range(len(PHASES))) if number != PHASE_API_SERVICE)]
    groups: dict[int, list[JSON]] = {number: [] for number in order}
    for obj in objects:
        groups[phase_of(obj)].append(obj)
    return [groups[number] for number in order if groups[number]]


def plain(obj: Mapping[str, Any] | None) -> JSON:
    """Return an object without its status and the metadata that the server writes, or {} for None."""
    if obj is None:
        return {}
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _SERVER_METADATA}
    return {key: value for key, value in obj.items() if key not in ("status", "metadata")} | {"metadata": metadata}


def redact(obj: JSON, other: JSON | None = None) -> JSON:
    """Return a Secret without its values, marked where they differ from `other`. Return other kinds unchanged."""
    if obj.get("kind") != "Secret":
        return obj
    result = dict(obj)
    for section in ("data", "stringData"):
        if isinstance(values := result.get(section), Mapping):
            old = (other or {}).get(section) or {}
            result[section] = {
                key: "(redacted, changed)" if other and key in old and old[key] != value else REDACTED
                for key, value in values.items()
            }
    annotations = result.get("metadata", {}).get("annotations") or {}
    if "kubectl.kubernetes.io/last-applied-configuration" in annotations:
        redacted = {**annotations, "kubectl.kubernetes.io/last-applied-configuration": REDACTED}
        result["metadata"] = {**result["metadata"], "annotations": redacted}
    return result


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> JSON:
    """Return one entry of Ansible's diff for an object that was created, changed or deleted."""
    known = after or before or {}
    old, new = plain(before), plain(after)
    if not (old and new) and known["kind"] == "CustomResourceDefinition":
        old, new = _without_schemas(old), _without_schemas(new)
    title = f"{ref_of(known)} ({known['apiVersion']})"
    return {
        "before_header": title,
        "after_header": title,
        "before": _as_yaml(redact(old)) if old else "",
        "after": _as_yaml(redact(new, old)) if new else "",
    }


def _without_schemas(crd: JSON) -> JSON:
    """Return a CRD without its schemas. A schema can have 20,000 lines, which hide the rest of a diff."""
    if not crd:
        return crd
    versions = [{**version, "schema": "(left out)"} for version in crd["spec"].get("versions") or []]
    return {**crd, "spec": {**crd["spec"], "versions": versions}}


def projection(live: Value, desired: Value) -> Value:
    """Return the fields of a live object that `desired` sets."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        return {key: projection(live[key], value) for key, value in desired.items() if key in live}
    if isinstance(desired, list) and isinstance(live, list) and len(desired) == len(live):
        return [projection(one, other) for one, other in zip(live, desired, strict=True)]
    return live


def owned_fields(obj: Mapping[str, Any], manager: str) -> Value:
    """Return the entry of managedFields for server-side apply by `manager`, or None if it owns no field."""
    for entry in obj.get("metadata", {}).get("managedFields") or []:
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return entry
    return None


def was_changed(before: Mapping[str, Any], after: Mapping[str, Any], desired: Mapping[str, Any], manager: str) -> bool:
    """Return whether an apply of `desired` changed `before` to `after`. Ignore what controllers wrote in between.

    A dry run does not change the resource version. So compare the fields that `desired` sets, and their ownership.
    """
    old, new = before.get("metadata", {}), after.get("metadata", {})
    if all(old.get(key) == new.get(key) for key in ("resourceVersion", "managedFields")):
        return plain(before) != plain(after)
    if owned_fields(before, manager) != owned_fields(after, manager):
        return True
    return bool(projection(plain(before), desired) != projection(plain(after), desired))


def changed_fields(
    before: Mapping[str, Any], after: Mapping[str, Any], desired: Mapping[str, Any] | None, manager: str
) -> list[str]:
    """Return paths of the fields that an apply of `desired` changed, such as `spec.containers[web].image`.

    Ignore a field that `desired` does not set and `manager` did not own: a controller may have written it meanwhile.
    Without `desired`, all fields count. A list whose members have no names is one field. The paths contain no values.
    The list is empty if only the ownership of fields changed.
    """
    entry = owned_fields(before, manager)
    owned = entry.get("fieldsV1") or {} if entry else {}
    return sorted(_differing("", plain(before), plain(after), desired, owned, every=desired is None))


def _differing(path: str, old: Value, new: Value, desired: Value, owned: Value, every: bool) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            mine = desired.get(key) if isinstance(desired, Mapping) else None
            had = owned.get(f"f:{key}") if isinstance(owned, Mapping) else None
            if every or mine is not None or had is not None:
                # If the manager sets a field to no mapping, or owns it as a whole, it owns all fields below.
                whole = every or had == {} or (not isinstance(mine, Mapping) and not had)
                below = f"{path}[{key}]" if set("./") & set(key) else f"{path}.{key}".lstrip(".")
                yield from _differing(below, old.get(key), new.get(key), mine, had, whole)
    elif isinstance(old, list) and isinstance(new, list) and (pairs := _pairs_by_name(old, new)):
        changed = [
            below
            for name, one, other in pairs
            for below in _differing(f"{path}[{name}]", one, other, None, None, every=True)
        ]
        yield from changed or [path]  # only the order of the members differs
    else:
        yield path


def _pairs_by_name(old: list[Any], new: list[Any]) -> list[tuple[str, Any, Any]]:
    """Return pairs of members with the same name, in order. Return [] if a member has no unique name."""
    members: list[dict[str, Any]] = []
    for items in (old, new):
        named = {str(item["name"]): item for item in items if isinstance(item, Mapping) and item.get("name")}
        if len(named) != len(items):
            return []
        members.append(named)
    return [(name, members[0].get(name), members[1].get(name)) for name in {**members[0], **members[1]}]


def restarts_pods(obj: Mapping[str, Any], fields: Iterable[str]) -> bool:
    """Return whether a change of these fields of an object replaces pods."""
    kind = (str(obj["apiVersion"]).rpartition("/")[0], obj["kind"])
    if kind in _OPERATED:
        return any(path.startswith("spec") and path != "spec.replicas" for path in fields)
    return kind in _TEMPLATED and any(path.startswith("spec.template") for path in fields)


class _Loader(YAML_LOADER):
    """Read YAML as Kubernetes does: without dates, and with `=` as text."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
        for first, resolvers in YAML_LOADER.yaml_implicit_resolvers.items()
    }


class _Dumper(YAML_DUMPER):
    """Write YAML without aliases, and strings of several lines as blocks."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _as_yaml(obj: JSON) -> str:
    return str(yaml.dump(obj, Dumper=_Dumper, default_flow_style=False, width=160))


def _load(text: str, source: str) -> list[Any]:
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise DefinitionError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    return [item for document in documents for item in _flatten(document, source)]


def _flatten(value: Value, source: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        text = str.__str__(value)  # libyaml rejects Ansible's subclasses of str
        return _load(text, source) if ":" in text or not text.strip() else [text]
    if isinstance(value, Mapping):
        obj = untagged(value)
        if obj.get("kind") == "List" and isinstance(obj.get("items"), list):
            return [item for entry in obj["items"] for item in _flatten(entry, source)]
        return [obj]
    if isinstance(value, Iterable):
        return [item for entry in value for item in _flatten(entry, source)]
    return [value]


def _problem(obj: Value, number: int) -> str:
    if not isinstance(obj, dict):
        return f"object {number} is {obj!r:.60}, not a mapping"
    kind, metadata = obj.get("kind"), obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name")
    label = f"object {number} ({kind or 'without kind'} {name or 'without name'})"
    missing = [key for key in ("apiVersion", "kind") if not isinstance(obj.get(key), str) or not obj[key]]
    if not isinstance(name, str) or not name:
        missing.append("metadata.name")
    if missing:
        return f"{label} has no {' and no '.join(missing)} (each must be a non-empty string)"
    namespace = metadata.get("namespace")
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        return f"{label} has metadata.namespace {namespace!r}; it must be a non-empty string, or not be set"
    for key in ("labels", "annotations"):
        values = metadata.get(key) or {}
        if not isinstance(values, dict):
            return f"{label} has metadata.{key} {values!r:.40}; it must be a mapping"
        for name_, value in values.items():
            if not isinstance(value, str):
                return f"{label} has metadata.{key}.{name_}: {value!r}; it must be a string (quote it)"
    return ""
