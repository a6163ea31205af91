# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: node_artifacts
short_description: Put binaries and images from the controller's cache on a machine
version_added: 0.1.0
description:
  - Installs binaries with the pinned checksum, and imports images into containerd's C(k8s.io) namespace.
  - Only what the machine lacks is transferred; nothing where the cache itself is mounted at C(/var/cache/kubescale).
  - Images that the cache has no archive of (see the role C(artifacts)) are pulled by the machine's containerd, several
    at once, through the mirrors that C(/etc/containerd/certs.d) names. Pods' images come the same way.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports what would be installed and imported.
    support: full
options:
  binaries:
    description: Keys of C(machine_files) in C(files/artifacts.yml).
    type: list
    elements: str
    default: []
  images:
    description: Kinds of machines whose images to import; containerd must be running.
    type: list
    elements: str
    choices: [control_plane, worker]
    default: []
  archives:
    description: Image archives on the controller, as C(docker save) writes them, to import as well.
    type: list
    elements: path
    default: []
  architecture:
    description: The machine's architecture, as its kernel names it. That of the controller by default.
    type: str
    choices: [x86_64, aarch64]
  mirrors:
    description:
      - Base URL that is used in place of a registry, by the registry's host. Nothing else is asked then.
      - Each is a file below C(/etc/containerd/certs.d), which is removed when its host is no longer named. Files that
        somebody else wrote are left alone, and one in the way is an error.
    type: dict
    default: {}
extends_documentation_fragment: [kubescale.fleet.artifacts, kubescale.fleet.artifacts.versions]
"""

EXAMPLES = r"""
- name: Install containerd and its parts
  kubescale.fleet.node_artifacts:
    binaries: [containerd, runc, cni_plugins]

- name: Import what a worker runs
  kubescale.fleet.node_artifacts:
    images: [worker]
"""

RETURN = r"""
mirrored:
  description: Registries whose mirror was written, changed or removed, or would be in check mode.
  type: list
  elements: str
  returned: success
installed:
  description: Paths of the binaries that were installed or replaced, or would be in check mode.
  type: list
  elements: str
  returned: success
imported:
  description: References of the images that were imported, or would be in check mode.
  type: list
  elements: str
  returned: success
pulled:
  description: References of the images that were pulled, or would be in check mode.
  type: list
  elements: str
  returned: success
"""
