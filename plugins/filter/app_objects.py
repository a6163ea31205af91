# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the Kubernetes objects of autoscaled apps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: app_objects
short_description: Objects of autoscaled apps
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes entries of C(autoscaled_apps) and returns their autoscalers, alerts and scrape jobs.
  - Fails if entries are wrong, with an error for each of them.
options:
  _input:
    description: The entries.
    type: list
    elements: dict
    required: true
  flavor:
    description:
      - Flavour of Prometheus. If it is empty, the collection runs no Prometheus, and only autoscalers are returned.
    type: str
    default: operator
    choices: [operator, standalone, '']
"""

EXAMPLES = r"""
- name: Apply the objects of the apps
  kubescale.fleet.apply_set:
    name: hpa
    kubeconfig: "{{ cluster_kubeconfig }}"
    definition: "{{ query('kubescale.fleet.autoscaled_apps') | kubescale.fleet.app_objects }}"
"""

RETURN = r"""
_value:
  description: Kubernetes objects.
  type: list
  elements: dict
"""

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils.common.origin import once_per_content


@once_per_content
def app_objects(entries: Sequence[Any], flavor: str = "operator") -> list[dict[str, Any]]:
    """Return the objects of entries; see DOCUMENTATION."""
    # The import is here because ansible-doc also loads filters where their libraries are not installed.
    from ..plugin_utils.apps import objects
    from ..plugin_utils.apps.model import AppError
    from ..plugin_utils.apps.parse import parse_apps

    try:
        return objects.app_objects(parse_apps(entries), flavor)
    except AppError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter kubescale.fleet.app_objects."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"app_objects": app_objects}
