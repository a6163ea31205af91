# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: kind
short_description: Create or remove a kind cluster
version_added: 0.1.0
description:
  - Creates a kind cluster of one control plane and one worker on the controller, starts stopped nodes, and loads the
    images that workers run from the cache. The nodes pull an image without an archive in the cache.
  - Builds an image for the nodes from the binaries and images in the cache, or uses O(image). The built image is kept
    for later clusters, and is built again if its content changes.
  - Removes the incomplete cluster of a killed run and creates it again. Fails if somebody else made the cluster.
  - Uses Docker if a Docker daemon answers, else podman. E(KIND_EXPERIMENTAL_PROVIDER) overrides this.
  - Runs in the controller's process.
author: kubescale founders (@kubescale)
attributes:
  diff_mode:
    description: Lists what was created, started, loaded or removed.
    support: full
options:
  cluster:
    description: Name of the kind cluster.
    type: str
    required: true
  kubeconfig:
    description: Path of the kubeconfig to write. The file must not contain another cluster.
    type: path
    required: true
  state_dir:
    description: Directory for the record of the created cluster.
    type: path
    required: true
  image:
    description: Image of the nodes. If empty, the image is built from the cache.
    type: str
    default: ""
  state:
    description:
      - Whether the cluster must exist.
      - V(absent) removes the kind cluster of this name, its kubeconfig, and kind's network if nothing else uses it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  [kubescale.fleet.artifacts, kubescale.fleet.artifacts.versions, kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Create the cluster
  kubescale.fleet.kind:
    cluster: kind
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
"""

RETURN = r"""
done:
  description: What was created, started, loaded or removed, or would be in check mode, by category.
  type: dict
  returned: success
  sample: {host: [], image: [], removed: [], created: [kind-control-plane, kind-worker], started: [], loaded: []}
nodes:
  description: >-
    The nodes: C(name), C(addresses) of the container, and C(serving), whether the kubelet has its serving certificate.
    Empty in check mode if the nodes are not running.
  type: list
  elements: dict
  returned: success
"""
