# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Check the variables of all hosts of the play in one task."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ..plugin_utils.apps.catalogue import all_entries
from ..plugin_utils.apps.model import AppError
from ..plugin_utils.apps.parse import examine_apps
from ..plugin_utils.common.action import Action, display
from ..plugin_utils.common.components import MACHINE_ROLES
from ..plugin_utils.common.entry import Findings
from ..plugin_utils.common.origin import where_in, where_set
from ..plugin_utils.common.text import first_names
from ..plugin_utils.fleet import preflight, relations
from ..plugin_utils.fleet.alerting import check_alerting
from ..plugin_utils.fleet.values import Setting, check_option, role_options, value_problem

API_GROUP = "clusters"
NAMED_HOSTS = 4
must_be_below = functools.partial(relations.check_order, equal=False)
# Checks of one cluster's variables that types cannot express: the check, and its arguments in order.
CHECKS: tuple[tuple[Callable[..., list[str]], tuple[str, ...]], ...] = (
    (preflight.check_artifact_images, ("artifacts_images", "artifacts_versions")),
    (relations.check_bundle, ("artifacts_source", "artifacts_bundle")),
    (check_alerting, ("alertmanager_receiver", "alertmanager_config")),
    (relations.check_volume, ("prometheus_flavor", "prometheus_storage_class", "prometheus_replicas")),
    (preflight.check_sample_apps, ("sample_apps",)),
    (relations.check_order, ("prometheus_adapter_relist_interval", "prometheus_adapter_max_age")),
    *(
        (must_be_below, (f"{role}_certificate_renew_before_days", f"{role}_certificate_days"))
        for role in ("metrics_server", "prometheus_adapter")
    ),
    (relations.check_node_ports, ("demo_app_node_port", "prometheus_node_port", "grafana_node_port")),
    (relations.check_owner, ("resource_metrics_owner", "prometheus_adapter_state")),
    (relations.check_owner, ("external_metrics_owner", "prometheus_adapter_state")),
)
NETWORKS = ("control_plane_pod_network", "control_plane_service_network")
# Variables of the artifact source. Machines and API hosts use them.
ARTIFACTS = ("artifacts_source", "artifacts_mirrors", "artifacts_versions")
# Variables that hold a machine's address.
ADDRESSES = ("ansible_host", "node_prep_address", "sandbox_address")
# Variables that Ansible needs to connect, before there are facts.
CONNECTION = ("ansible_host", "ansible_port")
# Variables of roles in the constants above; a test proves that they exist.
CHECKED = {name for _unused, names in CHECKS for name in names} | set(NETWORKS) | set(ARTIFACTS)


#: What a template may use that only later tasks know.
LATER = re.compile(r"'(kubescale_machine|ansible_facts|ansible_\w+)' is undefined")


def reason_of(error: AnsibleError) -> str:
    """Return why a template cannot be resolved, on one line."""
    return " ".join(str(getattr(error, "message", None) or error).split())


Checked = tuple[Setting | None, list[str]]


class Shared:
    """Keeps what all hosts of a run share: the options of all roles, and the outcomes for values without a template."""

    def __init__(
        self, options: Mapping[str, Mapping[str, Any]], loader: DataLoader, hostvars: Mapping[str, Any]
    ) -> None:
        self.options = options
        self.loader = loader
        self.hostvars = hostvars
        self.defaults = {name: option["default"] for name, option in options.items() if "default" in option}
        self.outcomes: dict[tuple[str, str, str], Checked] = {}
        #: Whether there is an error about the names of variables, by all names of a host.
        self.names: dict[frozenset[str], bool] = {}


class HostVariables:
    """The variables of one host as roles see them: the inventory's variables over the defaults of the roles."""

    def __init__(self, raw: Mapping[str, Any], shared: Shared) -> None:
        self.raw = raw
        self._shared = shared
        self._checked: dict[str, Checked] = {}
        # In ansible-core 2.18 numbers have no origin, but the names of variables have one.
        self._names = {name: name for name in raw}
        self._options = shared.options
        self._defaults = shared.defaults
        self._templar = Templar(loader=shared.loader, variables={**shared.defaults, **raw, "hostvars": shared.hostvars})

    def get(self, name: str) -> Setting | None:
        """Return a variable as roles see it; None if it is not set or depends on a later task."""
        return self.checked(name)[0]

    def checked(self, name: str) -> Checked:
        """Return a variable, and the errors about its template and its value."""
        if name not in self._checked:
            self._checked[name] = self._check(name)
        return self._checked[name]

    def _check(self, name: str) -> Checked:
        source = self.raw if name in self.raw else self._defaults
        if name not in source:
            return None, []
        place = where_set(source[name]) or where_set(self._names[name]) if source is self.raw else "default"
        text = repr(source[name])
        if "{{" in text or "{%" in text or hasattr(source[name], "_ciphertext"):
            return self._check_value(name, source, place)
        key = name, place, text
        if key not in self._shared.outcomes:
            self._shared.outcomes[key] = self._check_value(name, source, place)
        return self._shared.outcomes[key]

    def _check_value(self, name: str, source: Mapping[str, Any], place: str) -> Checked:
        option = self._options.get(name, {})
        try:
            value = self._templar.template(source[name])
        except AnsibleError as error:
            reason = reason_of(error)
            if source is self._defaults or (LATER.search(reason) and name not in CONNECTION):
                return None, []
            shown = "(hidden)" if option.get("no_log") else getattr(source[name], "_ciphertext", source[name])
            return None, [f"{Setting(name, shown, place)}: cannot be resolved: {reason}"]
        setting = Setting(name, value, place)
        problem = value_problem(name, value) if name in ADDRESSES else ""
        return check_option(setting, option) if option else (setting, [f"{setting}: {problem}"] if problem else [])

    def wrong_names(self, roles: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the errors about misspelled and removed variables. Hosts with the same variables have the same."""
        names = frozenset(self.raw)
        if names not in self._shared.names:
            self._shared.names[names] = bool(preflight.check_names(names, roles, {}))
        if not self._shared.names[names]:
            return []
        wheres = {name: where_set(value) or where_set(name) for name, value in self.raw.items()}
        return list(preflight.check_names(self.raw, roles, wheres).values())

    def default(self, name: str) -> str:
        """Return the default of a variable as roles see it."""
        return str(self._templar.template(self._defaults[name]))

    def all(self, *names: str) -> list[Setting]:
        """Return the given variables that are known."""
        return [setting for setting in map(self.get, names) if setting is not None]


def check_apps(host: HostVariables) -> Findings:
    """Return errors and warnings about the autoscaled apps of a cluster."""

    def value(name: str, _role: str) -> object:
        setting = host.get(name)
        return setting.value if setting else None

    def where(name: str, path: str) -> str:
        setting = host.get(name)
        return where_in(host.raw.get(name), path) or (setting.where if setting else "")

    try:
        entries = all_entries(value, where)
    except AppError as error:
        return Findings([str(error)])
    rules = value("prometheus_adapter_rules", "")
    return examine_apps(entries, rules if isinstance(rules, list) else ())[1]


class Problems:
    """Error messages, each with the hosts that have the error."""

    def __init__(self) -> None:
        self._hosts: dict[str, list[str]] = {}

    def add(self, host: str, texts: Sequence[str]) -> None:
        """Add the error messages of a host."""
        for text in texts:
            hosts = self._hosts.setdefault(text, [])
            if host not in hosts:
                hosts.append(host)

    def lines(self) -> list[str]:
        """Return one line per error message."""
        return [f"{text} [{first_names(hosts, NAMED_HOSTS)}]" for text, hosts in self._hosts.items()]


class ActionModule(Action):
    """The action of the module `preflight`."""

    def act(self, _args: dict[str, Any]) -> dict[str, Any]:
        """Check all hosts of the play, and return all errors together."""
        variables = self.variables
        roles = role_options(self._loader)
        every_option = dict(preflight.SHARED_VARIABLES)
        every_option |= {name: option for options in roles.values() for name, option in options.items()}
        groups: dict[str, list[str]] = variables["groups"]
        shared = Shared(every_option, self._loader, variables["hostvars"])
        hosts = {
            name: HostVariables(variables["hostvars"].raw_get(name), shared)
            for name in sorted(variables["ansible_play_hosts_all"])
        }
        apis = set(groups.get(API_GROUP, []))
        clusters = {group for group, names in groups.items() if group.startswith("cluster_") and apis & set(names)}
        members: dict[str, dict[str, HostVariables]] = {}
        for name, host in hosts.items():
            members.setdefault(str(host.raw.get("cluster_name")), {})[name] = host
        problems = Problems()
        warnings: list[str] = []
        for name, host in hosts.items():
            member_of = host.raw["group_names"]
            problems.add(name, self._check_place(name, host, member_of, clusters))
            problems.add(name, self._check_options(host, member_of, roles))
            problems.add(name, self._check_values(host, member_of, roles))
            if API_GROUP in member_of:
                findings = check_apps(host)
                problems.add(name, findings.errors)
                warnings += [f"{text} [{name}]" for text in findings.warnings]
        nodes = set(groups.get("nodes", []))
        problems.add("all machines", self._check_addresses({name: hosts[name] for name in hosts if name in nodes}))
        for cluster in groups.get(API_GROUP, []):
            everyone = members.get(cluster, {})
            problems.add(cluster, self._check_networks({name: everyone[name] for name in everyone if name in nodes}))
            problems.add(cluster, self._check_artifacts(everyone))
        for text in dict.fromkeys(warnings):
            # Not a warning of the task: a configuration that hides results hides these as well.
            display.display(f"Mind: {text}", color="yellow")
        lines = problems.lines()
        if not lines:
            return {}
        count = "1 thing is" if len(lines) == 1 else f"{len(lines)} things are"
        title = f"{count} wrong, nothing was changed:"
        return {"failed": True, "msg": "\n".join([title, *(f"- {line}" for line in lines)])}

    @staticmethod
    def _check_place(name: str, host: HostVariables, mine: Sequence[str], clusters: Collection[str]) -> list[str]:
        wrong = preflight.check_place(name, mine, clusters, host.raw)
        if API_GROUP in mine and (existing := host.get("cluster_existing")) and existing.value:
            for kubeconfig in host.all("cluster_kubeconfig"):
                wrong += preflight.check_kubeconfig_file(kubeconfig)
        return wrong

    @staticmethod
    def _check_options(host: HostVariables, mine: Sequence[str], roles: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Check the names of all variables, and the values of variables that the roles of this host use."""
        wrong = host.wrong_names(roles)
        for name in {*preflight.SHARED_VARIABLES, *ADDRESSES, *CONNECTION} & host.raw.keys():
            wrong += host.checked(name)[1]
        for role, options in roles.items():
            if MACHINE_ROLES.get(role, API_GROUP) not in mine:
                continue
            for name, option in options.items():
                if name in host.raw:
                    wrong += host.checked(name)[1]
                elif option.get("required"):
                    wrong.append(f"{name}: role {role} needs it: {option['description']}")
        return wrong

    @staticmethod
    def _check_values(host: HostVariables, mine: Sequence[str], roles: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Run the checks that types cannot express, on the hosts whose roles use the variables."""
        wrong = []
        for role, options in roles.items():
            if MACHINE_ROLES.get(role, API_GROUP) not in mine:
                continue
            for name, option in options.items():
                if name.endswith("_version") and name in host.raw and "default" in option:
                    for version in host.all(name):
                        wrong += preflight.check_version(version, [host.default(name)])
        for check, names in CHECKS if API_GROUP in mine else []:
            settings = host.all(*names)
            if len(settings) == len(names):
                wrong += check(*settings)
        return wrong

    @staticmethod
    def _check_artifacts(hosts: Mapping[str, HostVariables]) -> list[str]:
        """Check the artifact source of a cluster: the same on all its hosts, and complete."""
        wrong: list[str] = []
        for name in ARTIFACTS:
            known = [setting for host in hosts.values() for setting in host.all(name)]
            wrong += preflight.check_same(known)
        if not wrong and (host := next(iter(hosts.values()), None)):
            settings = host.all(*ARTIFACTS)
            if len(settings) == len(ARTIFACTS):
                wrong += preflight.check_artifacts(*settings)
        return wrong

    @staticmethod
    def _check_addresses(machines: Mapping[str, HostVariables]) -> list[str]:
        """Check that no two machines have the same address, over all clusters."""
        wrong: list[str] = []
        for name in ADDRESSES:
            known = {}
            for machine, host in machines.items():
                for setting in host.all(name):
                    port = host.get("ansible_port") if name == "ansible_host" else None
                    known[machine] = replace(setting, value=f"{setting.value}:{port.value}") if port else setting
            wrong += relations.check_distinct(known)
        return wrong

    @staticmethod
    def _check_networks(machines: Mapping[str, HostVariables]) -> list[str]:
        """Check that the ranges of one cluster do not overlap and contain no address of its machines."""
        wrong: list[str] = []
        sandbox = [setting for host in machines.values() for setting in host.all("sandbox_address")]
        # Addresses of sandbox machines must be in the sandbox's range.
        others = [host for host in machines.values() if host.get("sandbox_address") is None]
        addresses = [setting for host in others for setting in host.all("ansible_host", "node_prep_address")]
        for host in machines.values():
            networks = host.all(*NETWORKS)
            ranges = [*networks, *relations.sandbox_ranges(sandbox)]
            found = relations.check_networks(ranges, addresses)
            for network in networks:
                found += relations.check_range(len(machines), network)
            wrong += [text for text in found if text not in wrong]
        return wrong
