# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The configuration of prometheus-adapter for autoscaled apps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: adapter_config
short_description: Rules of prometheus-adapter for autoscaled apps
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes entries of C(autoscaled_apps) and returns the configuration by which prometheus-adapter serves their metrics.
  - Entries that are wrong are an error that names each of them.
positional: rules
options:
  _input:
    description: The entries.
    type: list
    elements: dict
    required: true
  rules:
    description: Further metrics, as C(prometheus_adapter_rules) names them.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show the rules
  ansible.builtin.debug:
    msg: "{{ query('kubescale.fleet.autoscaled_apps') | kubescale.fleet.adapter_config }}"
"""

RETURN = r"""
_value:
  description: C(rules) and C(externalRules), both lists.
  type: dict
"""

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def adapter_config(entries: Sequence[Any], rules: Sequence[Any] = ()) -> dict[str, Any]:
    """The adapter's configuration for entries; see DOCUMENTATION."""
    # Not above: ansible-doc loads filters where their libraries are not installed.
    from ..plugin_utils.apps import rules as adapter_rules
    from ..plugin_utils.apps.model import AppError
    from ..plugin_utils.apps.parse import parse_apps

    try:
        return adapter_rules.adapter_config(parse_apps(entries), rules)
    except AppError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter kubescale.fleet.adapter_config."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"adapter_config": adapter_config}
