# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Values that variables of roles may have: their types in ``argument_specs.yml``, and their kinds here."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader

from ..common.origin import TEMPLATES_ALLOWED
from ..common.paths import COLLECTION
from ..kube.quantity import quantity

NODE_PORTS = range(30000, 32768)
_DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Setting:
    """A variable, its value, and the place that set the value (file and line, or another source)."""

    name: str
    value: Any
    where: str = ""

    def __str__(self) -> str:
        return f"{self.name} = {self.value!r}{self.place}"

    @property
    def place(self) -> str:
        """The place in parentheses, to follow a text; "" if it is not known."""
        return f" ({self.where})" if self.where else ""


class Kind(NamedTuple):
    """Allowed values of a variable: what they are, in words, and whether a value is one of them."""

    words: str
    holds: Callable[[Any], bool]


def between(least: int, most: int | None = None) -> Kind:
    """Return the kind of whole numbers from `least` to `most`."""
    words = f"from {least} to {most}" if most is not None else f"{least} or more"
    return Kind(f"must be {words}", lambda value: least <= value and (most is None or value <= most))


def _is_duration(value: str) -> bool:
    return bool(_DURATION.fullmatch(value)) and any(digit in value for digit in "123456789")


def _amount(value: object) -> float:
    """Return the number that a quantity stands for; -1 if the value is none."""
    try:
        return -1 if isinstance(value, bool) else quantity(str(value))
    except ValueError:
        return -1


def _is_resources(value: Mapping[str, Any]) -> bool:
    amounts = [item for item in value.values() if isinstance(item, Mapping)]
    known = set(value) <= {"requests", "limits"} and len(amounts) == len(value)
    return known and all(_amount(amount) >= 0 for entry in amounts for amount in entry.values())


def _is_host(value: str) -> bool:
    """Return whether a text is a host name or an IPv4 address."""
    return bool(_HOST.fullmatch(value)) and ".." not in value


def _is_url(value: str) -> bool:
    """Return whether a text is an HTTP URL of a server, without user, query and fragment."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    extra = parts.username or parts.query or parts.fragment
    return parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and port != 0 and not extra


def _is_endpoint(value: str) -> bool:
    """Return whether a text is a host and a port, or empty."""
    host, _colon, port = value.rpartition(":")
    return not value or (_is_host(host) and port.isdecimal() and 0 < int(port) < 65536)


def _is_address(value: str) -> bool:
    try:
        address = ipaddress.IPv4Address(value) if value else None
    except ValueError:
        return False
    return address is None or not (address.is_loopback or address.is_multicast or address.is_unspecified)


NODE_PORT = Kind(
    f"must be 0 (no port) or from {NODE_PORTS[0]} to {NODE_PORTS[-1]}", lambda value: value == 0 or value in NODE_PORTS
)
QUANTITY = Kind("must be a quantity above 0, such as 10Gi or 500m", lambda value: _amount(value) > 0)
DURATION = Kind("must be a duration above 0 with its units, such as 12h or 7d", _is_duration)
RESOURCES = Kind("must have requests and limits with quantities, such as {requests: {cpu: 50m}}", _is_resources)
URL = Kind("must be a URL such as http://prometheus.example:9090", _is_url)
ENDPOINT = Kind("must be a host and a port, without scheme, such as 'api.example:6443'", _is_endpoint)
ADDRESS = Kind("must be an IPv4 address of the machine, such as 192.0.2.11", _is_address)
PORTS = Kind(
    "must be different ports from 1 to 65535",
    lambda value: len(set(value)) == len(value) and all(0 < port < 65536 for port in value),
)
FILE = Kind("must be a file on the controller", lambda value: not value or Path(value).expanduser().is_file())
FILES = Kind("must be files on the controller", lambda value: all(map(FILE.holds, value)))

#: Kinds by the names of variables. The first pattern that matches decides.
KINDS: tuple[tuple[str, Kind], ...] = (
    ("*_node_port", NODE_PORT),
    ("*_resources", RESOURCES),
    ("*_storage_size", QUANTITY),
    ("*_retention", DURATION),
    ("*_url", URL),
    ("*_scrape_interval", between(1)),
    ("*_relist_interval", between(1)),
    ("*_max_age", between(1)),
    ("demo_app_*_replicas", between(0)),
    ("*_replicas", between(1)),
    ("*_resolution", between(10)),
    ("*_days", between(1)),
    ("*_stabilization", between(0, 3600)),
    ("load_rate", between(1, 1000)),
    ("load_weight", Kind("must be above 0", lambda value: 0 < value < float("inf"))),
    ("load_duration", between(10, 3600)),
    ("load_hold", between(0)),
    ("*_soak", between(0)),
    ("*_max_failures", between(0)),
    ("*_gate_timeout", between(0)),
    ("verify_timeout", between(0)),
    ("*_timeout", between(1)),
    ("rollout_parallel", between(1)),
    ("control_plane_endpoint", ENDPOINT),
    ("node_prep_address", ADDRESS),
    ("sandbox_address", ADDRESS),
    ("sandbox_ports", PORTS),
    ("grafana_image_archive", FILE),
    ("node_prep_image_archives", FILES),
)


@functools.cache
def kind_of(name: str) -> Kind | None:
    """Return the kind of a variable's values; None if its type says all."""
    return next((kind for pattern, kind in KINDS if fnmatchcase(name, pattern)), None)


def value_problem(name: str, value: object) -> str:
    """Return what is wrong with a value that has the type of its variable, or ""."""
    kind = kind_of(name)
    return "" if kind is None or (value is not None and kind.holds(value)) else kind.words


#: Validators by variable and option. To make one takes longer than to use it.
_VALIDATORS: dict[tuple[str, str], ArgumentSpecValidator] = {}


def _validator(name: str, option: Mapping[str, Any]) -> ArgumentSpecValidator:
    key = name, repr(option)
    if key not in _VALIDATORS:
        _VALIDATORS[key] = ArgumentSpecValidator({name: dict(option)})
    return _VALIDATORS[key]


def role_options(loader: DataLoader) -> dict[str, dict[str, Any]]:
    """Return the options of every role of the collection: variable to option, by role."""
    roles = {}
    for file in sorted(COLLECTION.glob("roles/*/meta/argument_specs.yml")):
        content = loader.load_from_file(str(file), **TEMPLATES_ALLOWED)
        roles[file.parents[1].name] = content["argument_specs"]["main"].get("options", {})
    return roles


def check_option(setting: Setting, option: Mapping[str, Any]) -> tuple[Setting, list[str]]:
    """Check one variable against its entry in argument_specs.yml; return the converted setting and the errors."""
    expected = option.get("type", "str")
    shown = replace(setting, value="(hidden)") if option.get("no_log") else setting
    # Ansible would make text of a list or a boolean.
    if expected == "str" and isinstance(setting.value, (bool, list, Mapping)):
        return setting, [f"{shown}: must be text"]
    try:
        result = _validator(setting.name, option).validate(
            {setting.name: setting.value}, validate_role_argument_spec=True
        )
    except OverflowError:  # an infinite number
        return setting, [f"{shown}: must be of type {expected}"]
    typed = replace(setting, value=result.validated_parameters.get(setting.name))
    if result.error_messages:
        problems = [f"must be of type {expected}"] if option.get("no_log") else result.error_messages
        return typed, [f"{shown}: {text}" for text in problems]
    problem = value_problem(setting.name, typed.value)
    return typed, [f"{shown}: {problem}"] if problem else []
