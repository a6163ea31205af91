# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the version of a component that a run installs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: artifact_version
short_description: Version of a component
description:
  - Returns the version of each component from C(artifacts_versions), or else the pinned version.
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Names of components in C(files/artifacts.yml).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show which Kubernetes is installed
  ansible.builtin.debug:
    msg: "{{ lookup('kubescale.fleet.artifact_version', 'kubernetes') }}"
"""

RETURN = r"""
_raw:
  description: Versions, in the order of the names.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.apps.sample_apps import pins_of
from ..plugin_utils.artifacts.pins import ArtifactError


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.artifact_version."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object) -> list[str]:
        """Return the version of each component. Raise AnsibleLookupError for an unknown name, with the known names."""
        try:
            components = pins_of(variables, self._templar)["components"]
        except ArtifactError as error:
            raise AnsibleLookupError(str(error)) from error
        if unknown := [name for name in terms if name not in components]:
            raise AnsibleLookupError(f"{unknown[0]!r} is none of {', '.join(sorted(components))} (files/artifacts.yml)")
        return [components[name]["version"] for name in terms]
