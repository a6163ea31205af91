# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Facts in which a run of Ansible records its changes to the sets of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Fact with the names of the sets that this run applied to a cluster.
APPLIED_SETS = "kubescale_applied_sets"
#: Fact with the changes that earlier sets of a run in check mode would have made.
ASSUMED = "kubescale_assumed"


def facts_of(task_vars: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the facts that tasks of this run have set for the host."""
    return (task_vars or {}).get("ansible_facts") or {}


def applied_sets(task_vars: Mapping[str, Any] | None) -> list[str] | None:
    """Return the names of the sets that this run applied to the host's cluster; None if it applied or removed none."""
    return facts_of(task_vars).get(APPLIED_SETS)
