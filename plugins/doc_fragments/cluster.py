# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options by which actions find a cluster and its sets."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``kubescale.fleet.cluster``; ``.context``, ``.sets``, ``.components`` and ``.wait`` add to it.

    ``.term`` is for lookups, which take the kubeconfig as their term.
    """

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description: Path of the cluster's kubeconfig on the controller.
    type: path
    required: true
"""

    CONTEXT = r"""
options:
  context:
    description: Context of the kubeconfig; its current one by default.
    type: str
"""

    SETS = r"""
options:
  parent_namespace:
    description: Namespace of the sets' parents. It must exist.
    type: str
    default: kube-system
"""

    COMPONENTS = r"""
options:
  component:
    description: Names of the sets; V(_) is the same as V(-). All sets when empty.
    type: list
    elements: str
    default: []
"""

    WAIT = r"""
options:
  wait_timeout:
    description: Seconds that the task may wait in all.
    type: int
    default: 300
"""

    TERM = r"""
options:
  _terms:
    description: Path of the cluster's kubeconfig, on the controller.
    type: list
    elements: str
    required: true
"""
