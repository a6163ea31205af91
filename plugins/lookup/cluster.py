# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the facts that follow from a cluster's variables and the defaults of all roles."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster
short_description: Facts that follow from the variables of a cluster
description:
  - Returns the flavour of Prometheus, the components of the cluster, and the servers of the metrics APIs, from the
    cluster's variables and the defaults of all roles. So no role repeats a default of another role.
author: kubescale founders (@kubescale)
version_added: 0.1.0
options:
  _terms:
    description: Takes no terms.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show whether the cluster has the Prometheus operator
  ansible.builtin.debug:
    msg: "{{ lookup('kubescale.fleet.cluster').prometheus == 'operator' }}"
"""

RETURN = r"""
_raw:
  description: One dictionary.
  type: list
  elements: dict
  contains:
    flavor:
      description: Flavour of Prometheus, V(operator) or V(standalone).
      type: str
    prometheus:
      description: The flavour, or an empty text if C(prometheus_state) is V(absent).
      type: str
    prometheus_host:
      description: Host name of Prometheus inside the cluster.
      type: str
    scrape_interval:
      description: Seconds between two scrapes of a target whose monitor sets no interval.
      type: int
    high_availability:
      description: The variable C(high_availability).
      type: bool
    resource_metrics:
      description: The role that serves C(metrics.k8s.io).
      type: str
    external_metrics:
      description: Whether prometheus-adapter serves C(external.metrics.k8s.io).
      type: bool
    adopt:
      description: The roles that take over objects of other owners, from the variable C(adopt).
      type: list
      elements: str
    present:
      description: The roles whose components the cluster has, in the order of application.
      type: list
      elements: str
    jobs:
      description: The roles in C(present) for which a Prometheus without operator has a scrape job.
      type: list
      elements: str
    monitors:
      description: The roles in C(jobs) that have a monitor, if the Prometheus operator runs Prometheus.
      type: list
      elements: str
    namespaces:
      description: The namespace of each role's pods, as M(kubescale.fleet.apply_set) takes it in C(shared_namespaces).
      type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase

from ..plugin_utils.common.components import describe_cluster


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.cluster."""

    def run(
        self, terms: list[str] | None = None, variables: Mapping[str, Any] | None = None, **kwargs: object
    ) -> list[dict[str, Any]]:
        """Return a list of one dictionary; see RETURN."""
        return [describe_cluster(variables or {}, self._templar.template)._asdict()]
