# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options of actions that measure or scale apps."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``kubescale.fleet.apps``, and ``.prometheus`` and ``.report`` beside it."""

    DOCUMENTATION = r"""
options:
  apps:
    description: Entries of autoscaled apps, as the lookup P(kubescale.fleet.autoscaled_apps#lookup) gives them.
    type: list
    elements: dict
"""

    PROMETHEUS = r"""
options:
  prometheus_flavor:
    description: How Prometheus is run.
    type: str
    choices: [operator, standalone]
    default: operator
"""

    REPORT = r"""
options:
  report:
    description: Folder in which C(report.json) and C(report.html) are brought up to date.
    type: path
"""
