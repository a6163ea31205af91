# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""All apps of a cluster that are scaled, whoever named them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaled_apps
short_description: All autoscaled apps of a cluster
description:
  - Returns the entries of the cluster's variable C(autoscaled_apps), and after them those of the apps that the
    collection brings, as far as the cluster has them.
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Nothing.
    type: list
    elements: str
notes:
  - Call it with C(query), so that one app is a list, too.
"""

EXAMPLES = r"""
- name: Show the apps
  ansible.builtin.debug:
    msg: "{{ query('kubescale.fleet.autoscaled_apps') | map(attribute='name') }}"
"""

RETURN = r"""
_raw:
  description: Entries, as docs/autoscaled-apps.md describes them.
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.apps.catalogue import all_entries, reader
from ..plugin_utils.apps.model import AppError


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.autoscaled_apps."""

    def run(
        self, terms: list[str] | None = None, variables: Mapping[str, Any] | None = None, **kwargs: object
    ) -> list[Any]:
        """Return the entries. What no variable says is the default of the role that makes the app."""
        try:
            value = reader(variables or {}, self._templar.template, self._loader.load_from_file)
            return [entry for entry, _unused in all_entries(value)]
        except AppError as error:
            raise AnsibleLookupError(str(error)) from error
