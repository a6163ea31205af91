# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the configuration of prometheus-adapter for autoscaled apps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: adapter_config
short_description: Rules of prometheus-adapter for autoscaled apps
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes entries of C(autoscaled_apps) and returns the configuration of prometheus-adapter that serves their metrics.
  - Fails if entries are wrong, with an error for each of them.
positional: rules
options:
  _input:
    description: The entries.
    type: list
    elements: dict
    required: true
  rules:
    description: Rules for further metrics, in the format of C(prometheus_adapter_rules).
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

from ..plugin_utils.common.origin import once_per_content


@once_per_content
def adapter_config(entries: Sequence[Any], rules: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the adapter's configuration for entries; see DOCUMENTATION."""
    # The import is here because ansible-doc also loads filters where their libraries are not installed.
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
        """Return the filters by name."""
        return {"adapter_config": adapter_config}
