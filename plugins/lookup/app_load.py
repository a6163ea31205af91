# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the default load on autoscaled apps."""

from __future__ import annotations

DOCUMENTATION = r"""
name: app_load
short_description: Default load on autoscaled apps
description:
  - Returns the load that role C(load) puts on each named app by default.
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Names of autoscaled apps.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the request that the demo app gets
  ansible.builtin.debug:
    msg: "{{ lookup('kubescale.fleet.app_load', 'demo-app').request }}"
"""

RETURN = r"""
_raw:
  description: >-
    Dictionaries with C(namespace), C(request) and C(series) (empty for users' own apps),
    C(rate) and C(weight).
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.apps.catalogue import load_of


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.app_load."""

    def run(
        self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object
    ) -> list[dict[str, Any]]:
        """Return the load of each app. Raise AnsibleLookupError for an unknown name, with the known names."""
        apps = lookup_loader.get("kubescale.fleet.autoscaled_apps", loader=self._loader, templar=self._templar)
        entries = apps.run([], variables)
        known = [entry["name"] for entry in entries]
        if unknown := [name for name in terms if name not in known]:
            raise AnsibleLookupError(
                f"there is no autoscaled app {unknown[0]!r}; this cluster has {', '.join(known) or 'none'} "
                "(autoscaled_apps, sample_apps)"
            )
        return [load_of(name, entries) for name in terms]
