# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Checks of variables before the first change of a run. Each returns a list of error messages."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..apps.sample_apps import catalogue, sample_app_names
from ..artifacts.build import Builder
from ..artifacts.cache import Cache
from ..artifacts.pins import ArtifactError, machine_architecture, versioned_pins
from ..artifacts.references import check_images
from ..artifacts.sources import SOURCES, Request
from ..common.components import ROLES
from ..common.paths import cache_directory
from ..common.text import suggestion
from ..kube.kubeconfig import KubeconfigError, check_kubeconfig, read_kubeconfig
from .clusters import CLUSTER_VARIABLES
from .former_variables import FORMER_VARIABLES
from .values import Setting

#: Cached: a comparison with all known names is slow, and hosts share most of their variables.
_suggestion = functools.cache(suggestion)
# Least similarity of an unknown variable to a known one to be reported as a misspelling (1.0: equal).
LIKENESS = 0.9
LIKENESS_WITHIN_ROLE = 0.75
# Variables of machines that have the prefix of a role and are not options of that role.
MACHINE_VARIABLES = ("sandbox_address",)
# Variables of playbooks, which the command line sets.
PLAYBOOK_VARIABLES = (
    "app",
    "component",
    "detailed_exit",
    "force_conflicts",
    "output",
    "output_file",
    "report_minutes",
    "revision",
    "rollout_restart",
    "run",
    "site_ready_timeout",
)
# Variables of a cluster that belong to no single role, as options of an argument spec.
SHARED_VARIABLES: dict[str, dict[str, Any]] = {
    "adopt": {"type": "list", "elements": "str", "choices": list(ROLES)},
    "autoscaled_apps": {"type": "raw"},
    "sample_apps": {"type": "raw"},
    "cluster_renamed_from": {"type": "str"},
    "high_availability": {"type": "bool"},
    "resource_metrics_owner": {"choices": ["metrics_server", "adapter"]},
    "external_metrics_owner": {"choices": ["adapter", "none"]},
    "rollout_parallel": {"type": "int"},
    "rollout_max_failures": {"type": "int"},
    "rollout_on_failure": {"choices": ["halt", "rollback"]},
    "rollout_canary": {"type": "bool"},
    "rollout_timeout": {"type": "int"},
    "rollout_gate_timeout": {"type": "int"},
    "rollout_soak": {"type": "int"},
}


def check_names(
    names: Iterable[str], roles: Mapping[str, Mapping[str, Any]], wheres: Mapping[str, str]
) -> dict[str, str]:
    """Return an error message for each misspelled or removed variable, by variable.

    Args:
        names: Variables of a host.
        roles: Options by variable, by role.
        wheres: Place that set a variable, by variable.
    """
    known = frozenset(itertools.chain.from_iterable(roles.values())) | {
        *MACHINE_VARIABLES,
        *PLAYBOOK_VARIABLES,
        *SHARED_VARIABLES,
    }
    errors: dict[str, str] = {}
    for name in names:
        if name in known or name.startswith(("ansible_", "inventory_")) or name in CLUSTER_VARIABLES:
            continue
        owner = max((role for role in roles if name.startswith(f"{role}_")), key=len, default=None)
        hint = _suggestion(name, known, LIKENESS_WITHIN_ROLE if owner else LIKENESS)
        if not owner and not hint:
            continue
        where = f" ({wheres[name]})" if wheres.get(name) else ""
        if name in FORMER_VARIABLES:
            errors[name] = f"{name}{where}: was removed; use {FORMER_VARIABLES[name]}"
        elif owner:
            hint = hint or f"; it has {', '.join(sorted(roles[owner]))}"
            errors[name] = f"{name}{where}: role {owner} has no such variable{hint}"
        else:
            errors[name] = f"{name}{where}: no role has such a variable{hint} (If it is your own variable, rename it.)"
    return errors


def check_version(version: Setting, pinned: Sequence[str]) -> list[str]:
    """Check that a component's version is one of those that are pinned with their checksums."""
    if str(version.value) in pinned:
        return []
    return [
        f"{version}: is not a pinned version; allowed: {', '.join(pinned)} (files/artifacts.yml). For another "
        "version, remove this variable and set artifacts_versions"
    ]


def check_same(settings: Sequence[Setting]) -> list[str]:
    """Check that all hosts of a cluster have the same value of a variable."""
    for setting in settings:
        if setting.value != settings[0].value:
            return [f"{setting}: another host of the cluster has {settings[0]}; set it for all hosts (group_vars/all)"]
    return []


def check_artifacts(source: Setting, mirrors: Setting, versions: Setting) -> list[str]:
    """Check the source of artifacts: versions that it has, and a mirror of every host that it needs."""
    if not isinstance(mirrors.value, Mapping) or not isinstance(versions.value, Mapping):
        return []  # check_option reports the type
    wrong = [
        f"{Setting(f'{mirrors.name}[{host}]', url, mirrors.where)}: must be a URL such as https://mirror.example/{host}"
        for host, url in mirrors.value.items()
        if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", str(url))
    ]
    try:
        pins = versioned_pins(versions.value)
        known = SOURCES.get(source.value)  # check_option rejects other values
        if not wrong and known and known.is_checked_early:
            cache = Cache(cache_directory(), pins, machine_architecture())
            known.plan(Request(Builder(cache), mirrors.value))
    except ArtifactError as error:
        wrong.append(str(error))
    return wrong


def check_artifact_images(images: Setting, versions: Setting) -> list[str]:
    """Check the images that replace pinned ones."""
    if not isinstance(images.value, Mapping):
        return []  # check_option reports the type
    try:
        pins = versioned_pins(versions.value if isinstance(versions.value, Mapping) else {}, catalogue())
    except ArtifactError:
        return []  # check_artifacts reports the versions
    return [f"{text}{images.place}" for text in check_images(images.value, pins)]


def check_sample_apps(names: Setting) -> list[str]:
    """Check the names of sample apps."""
    try:
        sample_app_names(names.value)
    except ArtifactError as error:
        return [f"{line}{names.place}" for line in str(error).splitlines()]
    return []


def check_place(host: str, groups: Sequence[str], clusters: Iterable[str], known: Mapping[str, Any]) -> list[str]:
    """Check that a host is in the groups that the playbooks need, and in one cluster only.

    Args:
        host: Name of a machine or of an API host.
        groups: Groups it is in.
        clusters: Groups of clusters (``cluster_<name>``).
        known: The host's variables.
    """
    wrong = []
    mine = sorted(set(groups) & set(clusters))
    if len(mine) > 1:
        wrong.append(f"{host}: is in {' and '.join(mine)}; a machine belongs to one cluster")
    roles = [group for group in ("control_plane", "workers") if group in groups]
    if len(roles) > 1:
        wrong.append(f"{host}: is in control_plane and in workers; a machine has only one of these roles")
    if "nodes" in groups and not roles:
        wrong.append(f"{host}: is in nodes, but neither in control_plane nor in workers")
    if "clusters" in groups and "nodes" in groups:
        wrong.append(f"{host}: is in clusters and in nodes; the API host of a cluster is not one of its machines")
    missing = [name for name in CLUSTER_VARIABLES if name not in known]
    if missing:
        wrong.append(
            f"{host}: has no {', '.join(missing)}; clusters.yml sets them (plugin kubescale.fleet.clusters). Another "
            "inventory must set them for all hosts of a cluster"
        )
    return wrong


def check_kubeconfig_file(kubeconfig: Setting) -> list[str]:
    """Check that the kubeconfig of an existing cluster exists and is valid."""
    if not Path(str(kubeconfig.value)).is_file():
        return [f"{kubeconfig}: there is no such file; write the kubeconfig's path to this cluster in clusters.yml"]
    try:
        check_kubeconfig(read_kubeconfig(Path(str(kubeconfig.value))), str(kubeconfig.value))
    except KubeconfigError as error:
        return [f"{kubeconfig.name}: {error}"]
    return []
