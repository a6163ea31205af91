# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options of actions that use pinned binaries and images."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``kubescale.fleet.artifacts``, with ``.versions`` for versions that are not the pinned ones."""

    DOCUMENTATION = r"""
options:
  sample_apps:
    description: Names of sample apps whose images are wanted, too, as a list or as a text that is one in YAML.
    type: raw
    default: []
"""

    VERSIONS = r"""
options:
  versions:
    description:
      - Versions other than the pinned ones, by component.
      - Each has C(version), C(sha256) (by architecture, then by file name; the name may be left out for a component of
        one file) and C(digests) (of images, by repository).
    type: dict
    default: {}
"""
