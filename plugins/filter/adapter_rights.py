# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the rights that prometheus-adapter needs for its configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
name: adapter_rights
short_description: Rights that prometheus-adapter needs for its configuration
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes a configuration of prometheus-adapter and returns the rules of a ClusterRole with the rights that it needs,
    and no others.
options:
  _input:
    description: The configuration. C(rules) and C(resourceRules) are read; both are optional.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the rights
  ansible.builtin.debug:
    msg: "{{ config | kubescale.fleet.adapter_rights }}"
  vars:
    config: "{{ query('kubescale.fleet.autoscaled_apps') | kubescale.fleet.adapter_config }}"
"""

RETURN = r"""
_value:
  description: Rules, each with C(apiGroups), C(resources) and C(verbs).
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ..plugin_utils.apps.rules import adapter_rights


class FilterModule:
    """The filter kubescale.fleet.adapter_rights."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"adapter_rights": adapter_rights}
