# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the scrape jobs of a Prometheus without operator."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scrape_job_files
short_description: Scrape jobs of a Prometheus without operator
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Takes names of components and returns files for C(scrape_config_files), by name.
  - The files contain the jobs of kubelets, API servers, the components, and targets annotated with
    C(prometheus.io/scrape).
positional: apiserver_series
options:
  _input:
    description: Roles whose components get a job. Other components are annotated or are not scraped.
    type: list
    elements: str
    required: true
  apiserver_series:
    description: Regular expression for the series of API servers to keep. It matches C(NAME;LE), name and label C(le).
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
    """Return the text of each file; see DOCUMENTATION."""
    # The import is here because ansible-doc also loads filters where their libraries are not installed.
    from ..plugin_utils.apps.scraping import job_files

    return job_files(components, apiserver_series)


class FilterModule:
    """The filter kubescale.fleet.scrape_job_files."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"scrape_job_files": scrape_job_files}
