# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# The action plugin of the same name does the work; this file is its documentation.
DOCUMENTATION = r"""
module: artifacts
short_description: Fill the controller's cache with every binary and image
version_added: 0.1.0
description:
  - Builds what C(files/artifacts.yml) pins from Go modules, PyPI, npm and Debian packages, and keeps it in a cache.
  - The cache lies in E(KUBESCALE_CACHE), or in C(kubescale) in the user's cache directory.
  - What is there already is not made again; an interrupted build goes on where it was.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports what would be made.
    support: full
options: {}
"""

EXAMPLES = r"""
- name: Fill the cache
  kubescale.fleet.artifacts:
"""

RETURN = r"""
cache:
  description: The cache's directory.
  type: str
  returned: success
made:
  description: What was made, or would be in check mode, as name and version.
  type: list
  elements: str
  returned: success
"""
