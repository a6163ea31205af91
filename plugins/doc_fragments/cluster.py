# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the options by which modules find a cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment ``kubescale.fleet.cluster``, with ``.context`` and ``.sets`` for what is in a cluster."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig of the cluster, on the controller.
    type: path
    required: true
"""

    CONTEXT = r"""
options:
  context:
    description:
      - Context of the kubeconfig; its current one by default.
    type: str
"""

    SETS = r"""
options:
  parent_namespace:
    description:
      - Namespace of the sets' parents.
    type: str
    default: kube-system
"""
