# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the image that the pods of a component run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: image
short_description: Image that pods run
description:
  - Returns each image from C(artifacts_images), or else the pinned image in the version of C(artifacts_versions).
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Names of images, the last part of the repositories in C(files/artifacts.yml).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show which image the pods of Prometheus run
  ansible.builtin.debug:
    msg: "{{ lookup('kubescale.fleet.image', 'prometheus').reference }}"
"""

RETURN = r"""
_raw:
  description: Images, in the order of the names.
  type: list
  elements: dict
  contains:
    reference:
      description: Repository with tag or digest.
      type: str
    version:
      description: Version for labels, the tag without a leading v.
      type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.apps.sample_apps import pins_of
from ..plugin_utils.artifacts.pins import ArtifactError
from ..plugin_utils.artifacts.references import image_reference


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.image."""

    def run(
        self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object
    ) -> list[dict[str, Any]]:
        """Return each image; see RETURN. Raise AnsibleLookupError for an unknown name, with the known names."""
        images = self._templar.template((variables or {}).get("artifacts_images") or {})
        try:
            pins = pins_of(variables, self._templar)
            return [image_reference(name, pins, images)._asdict() for name in terms]
        except ArtifactError as error:
            raise AnsibleLookupError(str(error)) from error
