# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the entries of all autoscaled apps of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaled_apps
short_description: All autoscaled apps of a cluster
description:
  - Returns the entries of the cluster's variable C(autoscaled_apps), then the entries of the demo app and the sample
    apps, if the cluster has them.
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Takes no terms.
    type: list
    elements: str
notes:
  - Call it with C(query), which returns a list also for one app.
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
        """Return the entries. A variable that is not set has the default of the app's role."""
        try:
            value = reader(variables or {}, self._templar.template, self._loader.load_from_file)
            return [entry for entry, _unused in all_entries(value)]
        except AppError as error:
            raise AnsibleLookupError(str(error)) from error
