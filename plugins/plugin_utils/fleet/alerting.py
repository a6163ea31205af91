# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Check the receivers of alerts before the first change of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..common.text import suggestion
from .values import Setting

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


def check_alerting(receiver: Setting, config: Setting) -> list[str]:
    """Check the receivers of alerts. Messages show no values, because every value may be a secret."""
    if not isinstance(receiver.value, Mapping) or not isinstance(config.value, Mapping):
        return []  # check_option reports the type
    if receiver.value and config.value:
        return [f"{receiver.name}: has no effect beside {config.name}; set only one of the two{receiver.place}"]
    wrong = [f"{text}{receiver.place}" for text in _receiver_problems(receiver.name, receiver.value)]
    return wrong + [f"{text}{config.place}" for text in _config_problems(config)] if config.value else wrong


def _config_problems(config: Setting) -> list[str]:
    """Return the errors of a whole configuration, without its values."""
    wrong: list[str] = []
    receivers = config.value.get("receivers") or []
    if not isinstance(receivers, list):
        return [f"{config.name}.receivers: must be a list of dictionaries, each with a unique name"]
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
    children = route.get("routes") or []
    if not isinstance(children, list) or not all(isinstance(child, Mapping) for child in children):
        return [*wrong, f"{name}.routes: must be a list of dictionaries"]
    for number, child in enumerate(children):
        wrong += _route_problems(f"{name}.routes[{number}]", child, receivers)
    return wrong
