# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Checks of variables before the first change of a run. Each returns a list of error messages."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

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

LEAST_RESOLUTION = 10
#: Cached: a comparison with all known names is slow, and hosts share most of their variables.
_suggestion = functools.cache(suggestion)
# Least similarity of an unknown variable to a known one to be reported as a misspelling (1.0: equal).
LIKENESS = 0.9
LIKENESS_WITHIN_ROLE = 0.75
# Kinds of receiver that Alertmanager has.
RECEIVERS = (
    "discord_configs",
    "email_configs",
    "incidentio_configs",
    "jira_configs",
    "mattermost_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "opsgenie_configs",
    "pagerduty_configs",
    "pushover_configs",
    "rocketchat_configs",
    "slack_configs",
    "sns_configs",
    "telegram_configs",
    "victorops_configs",
    "webex_configs",
    "webhook_configs",
    "wechat_configs",
)
# Variables of machines that have the prefix of a role and are not options of that role.
MACHINE_VARIABLES = ("sandbox_address",)
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
# Least values of numbers among them.
LEAST = {
    "rollout_parallel": 1,
    "rollout_max_failures": 0,
    "rollout_timeout": 1,
    "rollout_gate_timeout": 0,
    "rollout_soak": 0,
}


@dataclass(frozen=True)
class Setting:
    """A variable, its value, and the place that set the value (file and line, or another source)."""

    name: str
    value: Any
    where: str = ""

    def __str__(self) -> str:
        return f"{self.name} = {self.value!r}" + (f" ({self.where})" if self.where else "")


def check_option(setting: Setting, option: Mapping[str, Any]) -> tuple[Setting, list[str]]:
    """Check one variable against its entry in argument_specs.yml; return the converted setting and the errors."""
    result = ArgumentSpecValidator({setting.name: dict(option)}).validate(
        {setting.name: setting.value}, validate_role_argument_spec=True
    )
    typed = Setting(setting.name, result.validated_parameters.get(setting.name), setting.where)
    if option.get("no_log") and result.error_messages:
        shown = Setting(setting.name, "(hidden)", setting.where)
        return typed, [f"{shown}: must be of type {option.get('type', 'str')}"]
    return typed, [f"{setting}: {message}" for message in result.error_messages]


def check_names(
    names: Iterable[str], roles: Mapping[str, Mapping[str, Any]], wheres: Mapping[str, str]
) -> dict[str, str]:
    """Return an error message for each misspelled or removed variable, by variable.

    Args:
        names: Variables of a host.
        roles: Options by variable, by role.
        wheres: Place that set a variable, by variable.
    """
    known = frozenset(itertools.chain.from_iterable(roles.values())) | {*MACHINE_VARIABLES, *SHARED_VARIABLES}
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


def check_least(setting: Setting) -> list[str]:
    """Check that a number has its least value or more; check_option reports other types."""
    if not isinstance(setting.value, int) or setting.value >= LEAST[setting.name]:
        return []
    return [f"{setting}: must be {LEAST[setting.name]} or more"]


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
    place = f" ({images.where})" if images.where else ""
    try:
        pins = versioned_pins(versions.value if isinstance(versions.value, Mapping) else {}, catalogue())
    except ArtifactError:
        return []  # check_artifacts reports the versions
    return [f"{text}{place}" for text in check_images(images.value, pins)]


def check_alerting(receiver: Setting, config: Setting) -> list[str]:
    """Check the receivers of alerts. Messages show no values, because every value may be a secret."""
    if not isinstance(receiver.value, Mapping) or not isinstance(config.value, Mapping):
        return []  # check_option reports the type
    if receiver.value and config.value:
        return [f"{receiver.name}: has no effect beside {config.name}; set only one of the two"]
    wrong = _receiver_problems(receiver.name, receiver.value)
    if not config.value:
        return wrong
    receivers = config.value.get("receivers") or []
    names = [str(item.get("name")) for item in receivers if isinstance(item, Mapping)]
    if len(names) != len(receivers) or len(set(names)) != len(names) or "None" in names:
        wrong.append(f"{config.name}.receivers: must be dictionaries, each with a unique name")
        return wrong
    for number, item in enumerate(receivers):
        content = {key: value for key, value in item.items() if key != "name"}
        wrong += _receiver_problems(f"{config.name}.receivers[{number}]", content)
    route = config.value.get("route")
    if not isinstance(route, Mapping) or not route.get("receiver"):
        wrong.append(f"{config.name}.route.receiver: must name one of {config.name}.receivers")
        return wrong
    return wrong + _route_problems(f"{config.name}.route", route, names)


def _receiver_problems(name: str, receiver: Mapping[str, Any]) -> list[str]:
    """Return the errors of a receiver's content, without its values."""
    wrong = []
    for key, entries in receiver.items():
        if key not in RECEIVERS:
            hint = suggestion(key, RECEIVERS) or f"; allowed: {', '.join(RECEIVERS)}"
            wrong.append(f"{name}.{key}: Alertmanager has no such kind of receiver{hint}")
        elif not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            wrong.append(f"{name}.{key}: must be a list of dictionaries")
        else:
            wrong += [
                f"{name}.{key}[{number}].url: must be a URL such as https://hooks.example/alerts"
                for number, entry in enumerate(entries)
                if key == "webhook_configs"
                and "url_file" not in entry
                and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", str(entry.get("url", "")))
            ]
    return wrong


def _route_problems(name: str, route: Mapping[str, Any], receivers: Sequence[str]) -> list[str]:
    wrong = []
    if "receiver" in route and str(route["receiver"]) not in receivers:
        wrong.append(f"{name}.receiver = {route['receiver']!r}: is not one of the receivers {', '.join(receivers)}")
    for number, child in enumerate(route.get("routes") or []):
        wrong += _route_problems(f"{name}.routes[{number}]", child, receivers)
    return wrong


def check_sample_apps(names: Setting) -> list[str]:
    """Check the names of sample apps."""
    try:
        sample_app_names(names.value)
    except ArtifactError as error:
        return [f"{line} ({names.where})" if names.where else line for line in str(error).splitlines()]
    return []


def check_volume(flavor: Setting, storage_class: Setting, replicas: Setting) -> list[str]:
    """Check that the pods of one Deployment do not share one volume."""
    if flavor.value != "standalone" or not storage_class.value or not isinstance(replicas.value, int):
        return []
    if replicas.value <= 1:
        return []
    return [
        f"{storage_class}: with {flavor} only one Prometheus can have a volume, but {replicas}; remove the class, "
        "or set prometheus_flavor: operator, which creates a volume for each pod"
    ]


def check_resolution(resolution: Setting) -> list[str]:
    """Check the scrape interval of metrics-server in seconds. It does not start with less than 10."""
    if not isinstance(resolution.value, int) or resolution.value >= LEAST_RESOLUTION:
        return []
    return [f"{resolution}: must be {LEAST_RESOLUTION} or more seconds"]


def check_order(less: Setting, more: Setting) -> list[str]:
    """Check that ``less`` is not above ``more``."""
    if not isinstance(less.value, int) or not isinstance(more.value, int) or less.value <= more.value:
        return []
    return [f"{less}: must not be above {more}"]


def check_networks(networks: Sequence[Setting], addresses: Sequence[Setting] = ()) -> list[str]:
    """Check that address ranges are CIDRs, do not overlap, and contain no address of a machine."""
    wrong = []
    parsed = []
    for setting in networks:
        try:
            parsed.append((setting, ipaddress.ip_network(str(setting.value))))
        except ValueError as error:
            wrong.append(f"{setting}: must be a range of addresses such as 10.244.0.0/16: {error}")
    for (one, first), (other, second) in itertools.combinations(parsed, 2):
        if first.version == second.version and first.overlaps(second):
            wrong.append(f"{one}: overlaps {other}; choose ranges without a common address")
    for address in addresses:
        try:
            number = ipaddress.ip_address(str(address.value))
        except ValueError:
            continue  # a name; Ansible resolves it
        wrong += [
            f"{address}: is an address inside {setting}; choose another range"
            for setting, net in parsed
            if number in net
        ]
    return wrong


def sandbox_ranges(addresses: Sequence[Setting]) -> list[Setting]:
    """Return the /24 networks of sandbox addresses. Other values stay, so check_networks rejects them."""
    ranges: dict[str, Setting] = {}
    for setting in addresses:
        try:
            value = str(ipaddress.ip_network(f"{setting.value}/24", strict=False))
        except ValueError:
            value = str(setting.value)
        ranges.setdefault(value, Setting(setting.name, value, setting.where))
    return list(ranges.values())


def check_distinct(settings: Mapping[str, Setting]) -> list[str]:
    """Check that no two machines have the same value, such as an address. ``settings`` is by machine."""
    machines: dict[str, list[str]] = {}
    for machine, setting in settings.items():
        if setting.value in (None, ""):
            continue
        machines.setdefault(str(setting.value), []).append(machine)
    return [
        f"{settings[names[0]]}: {' and '.join(names)} have the same value; each machine needs its own"
        for names in machines.values()
        if len(names) > 1
    ]


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
    try:
        check_kubeconfig(read_kubeconfig(Path(str(kubeconfig.value))), str(kubeconfig.value))
    except KubeconfigError as error:
        return [f"{kubeconfig.name}: {error}"]
    return []
