# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the names of a cluster's sample apps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sample_app_names
short_description: Names of the sample apps that a cluster has
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes the variable C(sample_apps), a list or the text of a list in YAML, which C(-e sample_apps=[node,spring]) sets.
  - Fails for an unknown name, with the known names.
options:
  _input:
    description: The variable.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show the names
  ansible.builtin.debug:
    msg: "{{ '[node,spring]' | kubescale.fleet.sample_app_names }}"
"""

RETURN = r"""
_value:
  description: The names, each once.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def sample_app_names(value: object) -> list[str]:
    """Return the names, each once."""
    # The import is here because ansible-doc also loads filters where their libraries are not installed.
    from ..plugin_utils.apps import sample_apps
    from ..plugin_utils.artifacts.pins import ArtifactError

    try:
        return sample_apps.sample_app_names(value)
    except ArtifactError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter kubescale.fleet.sample_app_names."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"sample_app_names": sample_app_names}
