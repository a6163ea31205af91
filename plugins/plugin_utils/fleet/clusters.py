# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What the inventory plugin and the checks of inventories agree on; imports nothing, as every command loads it."""

from __future__ import annotations

# Variables that a cluster's hosts need; clusters.yml gives them, an inventory written by hand must.
CLUSTER_VARIABLES = (
    "cluster_name",
    "cluster_environment",
    "cluster_ring",
    "cluster_state_dir",
    "cluster_kubeconfig",
    "cluster_control_plane",
    "cluster_workers",
    "cluster_existing",
)
