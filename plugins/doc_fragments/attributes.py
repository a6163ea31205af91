# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of how modules behave in check mode."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``kubescale.fleet.attributes`` of modules that only read; ``.changes``, ``.objects`` of others."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Does the same, because it changes nothing.
    support: full
"""

    CHANGES = r"""
attributes:
  check_mode:
    description: Reports the changes without making them.
    support: full
"""

    OBJECTS = r"""
attributes:
  diff_mode:
    description: Before and after of every object that changes; values of Secrets are redacted.
    support: full
"""
