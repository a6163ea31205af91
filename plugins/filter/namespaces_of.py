# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the namespaces of objects."""

from __future__ import annotations

DOCUMENTATION = r"""
name: namespaces_of
short_description: Namespaces of objects
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes Kubernetes objects and returns their namespaces in the format of option C(shared_namespaces) of
    M(kubescale.fleet.apply_set). A namespace that exists keeps its labels.
options:
  _input:
    description: The objects.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Apply objects in namespaces that may be missing
  kubescale.fleet.apply_set:
    name: mine
    kubeconfig: "{{ cluster_kubeconfig }}"
    definition: "{{ objects }}"
    shared_namespaces: "{{ objects | kubescale.fleet.namespaces_of }}"
"""

RETURN = r"""
_value:
  description: One dictionary with C(name) for each namespace, in order of their names.
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def namespaces_of(objects: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the namespaces of objects; see DOCUMENTATION."""
    return [{"name": name} for name in sorted({item["metadata"]["namespace"] for item in objects})]


class FilterModule:
    """The filter kubescale.fleet.namespaces_of."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"namespaces_of": namespaces_of}
