# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the folder of a component in the controller's cache."""

from __future__ import annotations

DOCUMENTATION = r"""
name: artifact
short_description: Folder of a component in the controller's cache
description:
  - Returns the folder of each component in the cache, for the version of C(artifacts_versions), or else the pinned one.
  - The folder exists once the role C(artifacts) has run.
author: kubescale founders (@kubescale)
options:
  _terms:
    description: Names of components in C(files/artifacts.yml).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show where the operator's files are
  ansible.builtin.debug:
    msg: "{{ lookup('kubescale.fleet.artifact', 'prometheus_operator') }}"
"""

RETURN = r"""
_raw:
  description: Absolute paths, in the order of the names.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.apps.sample_apps import pins_of
from ..plugin_utils.artifacts.cache import Cache
from ..plugin_utils.artifacts.pins import ArtifactError, machine_architecture
from ..plugin_utils.common.paths import cache_directory


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.artifact."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object) -> list[str]:
        """Return the folder of each component. Raise AnsibleLookupError for an unknown name, with the known names."""
        try:
            cache = Cache(cache_directory(), pins_of(variables, self._templar), machine_architecture())
            return [str(cache.component(name)) for name in terms]
        except ArtifactError as error:
            raise AnsibleLookupError(str(error)) from error
