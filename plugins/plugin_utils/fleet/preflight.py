# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Checks of a run's variables before its first change; each returns what is wrong in sentences, none if all is well."""

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

from ..apps.sample_apps import sample_app_names
from ..artifacts.build import Builder
from ..artifacts.cache import Cache
from ..artifacts.pins import ArtifactError, machine_architecture, versioned_pins
from ..artifacts.sources import SOURCES, Request
from ..common.paths import cache_directory
from ..common.text import suggestion
from ..kube.kubeconfig import KubeconfigError, check_kubeconfig, read_kubeconfig
from .clusters import CLUSTER_VARIABLES

LEAST_RESOLUTION = 10
#: All hosts have mostly the same variables, and a comparison with all known ones is slow.
_suggestion = functools.cache(suggestion)
# How alike a variable must be to one of a role to be taken for a misspelling of it (1.0: equal).
LIKENESS = 0.9
LIKENESS_WITHIN_ROLE = 0.75
# What a receiver of Alertmanager may consist of.
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
# Variables of machines that start with a role's prefix and are no options of that role.
MACHINE_VARIABLES = ("sandbox_address",)
# Variables that were there once, and what says the same now.
FORMER_VARIABLES = {
    **{
        f"hpa_{name}": f"demo_app_{name}, or autoscaled_apps for an app of your own"
        for name in ("target", "min_replicas", "max_replicas", "scale_down_stabilization")
    },
    **dict.fromkeys(("hpa_namespace", "hpa_name", "hpa_metric"), "autoscaled_apps"),
}
# Variables of a cluster that belong to no single role, and what they may be.
SHARED_VARIABLES: dict[str, dict[str, Any]] = {
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
# The least that some of them may be.
LEAST = {
    "rollout_parallel": 1,
    "rollout_max_failures": 0,
    "rollout_timeout": 1,
    "rollout_gate_timeout": 0,
    "rollout_soak": 0,
}


@dataclass(frozen=True)
class Setting:
    """A variable with its value and where that was set (file and line, or how it came)."""

    name: str
    value: Any
    where: str = ""

    def __str__(self) -> str:
        return f"{self.name} = {self.value!r}" + (f" ({self.where})" if self.where else "")


def check_option(setting: Setting, option: Mapping[str, Any]) -> tuple[Setting, list[str]]:
    """Check one variable against its entry in a role's argument_specs.yml; return it as roles see it, too."""
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
    """Find misspelled variables.

    Args:
        names: Variables of a host.
        roles: Options by variable, by role.
        wheres: Where a variable was set.

    Returns:
        What is wrong, by variable.
    """
    known = frozenset(itertools.chain.from_iterable(roles.values())) | {*MACHINE_VARIABLES, *SHARED_VARIABLES}
    found: dict[str, str] = {}
    for name in names:
        if name in known or name.startswith(("ansible_", "inventory_")) or name in CLUSTER_VARIABLES:
            continue
        owner = max((role for role in roles if name.startswith(f"{role}_")), key=len, default=None)
        hint = _suggestion(name, known, LIKENESS_WITHIN_ROLE if owner else LIKENESS)
        if not owner and not hint:
            continue
        where = f" ({wheres[name]})" if wheres.get(name) else ""
        if name in FORMER_VARIABLES:
            found[name] = f"{name}{where}: is not there any more; say {FORMER_VARIABLES[name]}"
        elif owner:
            hint = hint or f"; it has {', '.join(sorted(roles[owner]))}"
            found[name] = f"{name}{where}: role {owner} has no such variable{hint}"
        else:
            found[name] = f"{name}{where}: no role has such a variable{hint} (Rename it if it is your own.)"
    return found


def check_version(version: Setting, pinned: Sequence[str]) -> list[str]:
    """Check that a component's version is one of those that are pinned with their checksums."""
    if str(version.value) in pinned:
        return []
    return [
        f"{version}: is not a pinned version; allowed: {', '.join(pinned)} (files/artifacts.yml). For another one, "
        "leave this variable out and set artifacts_versions"
    ]


def check_least(setting: Setting) -> list[str]:
    """Check that a number is not smaller than it may be; check_option says so if it is none."""
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
        return []  # check_option says so
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


def check_alerting(receiver: Setting, config: Setting) -> list[str]:
    """Check who is told of alerts; no value is shown, as any may hold a secret."""
    if not isinstance(receiver.value, Mapping) or not isinstance(config.value, Mapping):
        return []  # check_option says so
    if receiver.value and config.value:
        return [f"{receiver.name}: is of no effect beside {config.name}; set one of the two"]
    wrong = _receiver_problems(receiver.name, receiver.value)
    if not config.value:
        return wrong
    receivers = config.value.get("receivers") or []
    names = [str(item.get("name")) for item in receivers if isinstance(item, Mapping)]
    if len(names) != len(receivers) or len(set(names)) != len(names) or "None" in names:
        wrong.append(f"{config.name}.receivers: must be dictionaries, each with a name of its own")
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
    """What is wrong with the content of a receiver, without its values."""
    wrong = []
    for key, entries in receiver.items():
        if key not in RECEIVERS:
            hint = suggestion(key, RECEIVERS) or f"; there are {', '.join(RECEIVERS)}"
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
        wrong.append(f"{name}.receiver = {route['receiver']!r}: is none of the receivers {', '.join(receivers)}")
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
    """Check that not several pods of one Deployment would have one volume between them."""
    if flavor.value != "standalone" or not storage_class.value or not isinstance(replicas.value, int):
        return []
    if replicas.value <= 1:
        return []
    return [
        f"{storage_class}: with {flavor} it is for one Prometheus, but {replicas}; leave the class out, or take "
        "prometheus_flavor: operator, which makes a volume for each"
    ]


def check_resolution(resolution: Setting) -> list[str]:
    """Check how often metrics-server reads kubelets, in seconds: it does not start with less than 10."""
    if not isinstance(resolution.value, int) or resolution.value >= LEAST_RESOLUTION:
        return []
    return [f"{resolution}: must be {LEAST_RESOLUTION} or more seconds"]


def check_order(less: Setting, more: Setting) -> list[str]:
    """Check that one number is not above another."""
    if not isinstance(less.value, int) or not isinstance(more.value, int) or less.value <= more.value:
        return []
    return [f"{less}: must not be above {more}"]


def check_networks(networks: Sequence[Setting], addresses: Sequence[Setting] = ()) -> list[str]:
    """Check address ranges: each a CIDR, none overlapping another, and no machine's address inside one."""
    wrong = []
    parsed = []
    for setting in networks:
        try:
            parsed.append((setting, ipaddress.ip_network(str(setting.value))))
        except ValueError as error:
            wrong.append(f"{setting}: must be a range of addresses such as 10.244.0.0/16: {error}")
    for (one, first), (other, second) in itertools.combinations(parsed, 2):
        if first.version == second.version and first.overlaps(second):
            wrong.append(f"{one}: overlaps {other}; take ranges that share no address")
    for address in addresses:
        try:
            number = ipaddress.ip_address(str(address.value))
        except ValueError:
            continue  # a name; Ansible resolves it
        wrong += [
            f"{address}: is an address inside {setting}; take another range" for setting, net in parsed if number in net
        ]
    return wrong


def sandbox_ranges(addresses: Sequence[Setting]) -> list[Setting]:
    """The networks of sandbox machines, each a /24, with what is no address as it is, for check_networks to refuse."""
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
        f"{settings[names[0]]}: {' and '.join(names)} have the same; each machine needs its own"
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
        wrong.append(f"{host}: is in control_plane and in workers; a machine has one of these parts")
    if "nodes" in groups and not roles:
        wrong.append(f"{host}: is in nodes, but neither in control_plane nor in workers")
    if "clusters" in groups and "nodes" in groups:
        wrong.append(f"{host}: is in clusters and in nodes; the host of a cluster's API is not one of its machines")
    missing = [name for name in CLUSTER_VARIABLES if name not in known]
    if missing:
        wrong.append(
            f"{host}: has no {', '.join(missing)}; clusters.yml of the inventory sets them (plugin: "
            "kubescale.fleet.clusters), an inventory written by hand must set them for all hosts of a cluster"
        )
    return wrong


def check_kubeconfig_file(kubeconfig: Setting) -> list[str]:
    """Check that an existing cluster's kubeconfig is there and is one."""
    try:
        check_kubeconfig(read_kubeconfig(Path(str(kubeconfig.value))), str(kubeconfig.value))
    except KubeconfigError as error:
        return [f"{kubeconfig.name}: {error}"]
    return []
