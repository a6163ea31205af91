# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: artifacts
short_description: Fill the controller's cache with every binary and image
version_added: 0.1.0
description:
  - Downloads or builds the components that C(files/artifacts.yml) pins, and keeps them in a cache.
  - The cache is in E(KUBESCALE_CACHE), or in C(kubescale) in the user's cache directory.
  - Does not repeat what the cache has already, so the next run continues an interrupted one.
  - Rejects a download without the pinned SHA-256. Follows redirects, except from https to http.
  - Runs on the controller, in Ansible's own process.
author: kubescale founders (@kubescale)
options:
  source:
    description: Source of binaries and images. C(docs/artifacts.md) describes each one.
    type: str
    choices: [auto, upstream, mirror, bundle, build]
    default: auto
  mirrors:
    description: Base URL that replaces a host of upstream, by host.
    type: dict
    default: {}
  bundle:
    description: Archive on the controller for O(source=bundle), as M(kubescale.fleet.bundle) writes it.
    type: path
extends_documentation_fragment:
  [kubescale.fleet.artifacts, kubescale.fleet.artifacts.versions, kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Fill the cache
  kubescale.fleet.artifacts:

- name: Fill the cache from a mirror
  kubescale.fleet.artifacts:
    source: mirror
    mirrors:
      dl.k8s.io: https://nexus.example/k8s
      github.com: https://nexus.example/github
      ghcr.io: https://harbor.example/ghcr
      quay.io: https://harbor.example/quay
      registry.k8s.io: https://harbor.example/k8s
"""

RETURN = r"""
cache:
  description: The cache's directory.
  type: str
  returned: success
made:
  description: Components that were made, or would be in check mode, as name and version.
  type: list
  elements: str
  returned: success
"""
