# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Variables of a cluster that the inventory plugin sets. Imports nothing, because every command loads this file."""

from __future__ import annotations

# Variables that every host of a cluster needs. clusters.yml sets them; other inventories must set them as well.
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
