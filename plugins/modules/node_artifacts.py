# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: node_artifacts
short_description: Install binaries and images from the controller's cache on a machine
version_added: 0.1.0
description:
  - Installs binaries with the pinned checksum, and imports images into containerd's C(k8s.io) namespace.
  - Transfers only files that the machine lacks, and none if the cache is mounted at C(/var/cache/kubescale).
  - The machine's containerd pulls images without an archive in the cache (see the role C(artifacts)), several at a
    time, through the mirrors in C(/etc/containerd/certs.d). It pulls the images of pods in the same way.
author: kubescale founders (@kubescale)
options:
  binaries:
    description: Keys of C(machine_files) in C(files/artifacts.yml).
    type: list
    elements: str
    default: []
  images:
    description: Kinds of machines whose images are imported. containerd must run.
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
    description: The machine's architecture in its kernel's notation. Defaults to the controller's architecture.
    type: str
    choices: [x86_64, aarch64]
  mirrors:
    description:
      - Base URL that replaces a registry, by the registry's host. containerd then contacts the mirror only.
      - Each mirror is a file below C(/etc/containerd/certs.d). The file is removed when its host is not in the mapping
        any more. Fails if a file exists that this collection did not write.
    type: dict
    default: {}
extends_documentation_fragment:
  [kubescale.fleet.artifacts, kubescale.fleet.artifacts.versions, kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Install containerd and its parts
  kubescale.fleet.node_artifacts:
    binaries: [containerd, runc, cni_plugins]

- name: Import the images of a worker
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
