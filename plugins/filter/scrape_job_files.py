# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Gives role prometheus the scrape jobs of a Prometheus without operator."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scrape_job_files
short_description: Scrape jobs of a Prometheus without operator
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes names of components and returns files for C(scrape_config_files), by name.
  - They have the jobs of kubelets, API servers, the components, and of what is annotated with C(prometheus.io/scrape).
positional: apiserver_series
options:
  _input:
    description: Roles of components that have a job. What others have is annotated, or scraped by nobody.
    type: list
    elements: str
    required: true
  apiserver_series:
    description: Which series of API servers are kept, a regular expression for C(NAME;LE), their name and label C(le).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the scrape jobs of kubelets, API servers and node_exporter
  ansible.builtin.debug:
    msg: "{{ ['node_exporter'] | kubescale.fleet.scrape_job_files('apiserver_request_total;') }}"
"""

RETURN = r"""
_value:
  description: Text of each file, by its name.
  type: dict
"""

from collections.abc import Callable, Collection
from typing import Any


def scrape_job_files(components: Collection[str], apiserver_series: str) -> dict[str, str]:
    """Text of each file; see DOCUMENTATION."""
    # Not above: ansible-doc loads filters where their libraries are not installed.
    from ..plugin_utils.apps.scraping import job_files

    return job_files(components, apiserver_series)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"scrape_job_files": scrape_job_files}
