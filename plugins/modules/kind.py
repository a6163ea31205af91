# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: kind
short_description: Make or remove a kind cluster
version_added: 0.1.0
description:
  - Makes a kind cluster of one control plane and one worker on the controller, starts its nodes if they are stopped,
    and loads the images in the cache that workers run. An image without an archive there is pulled by the nodes.
  - Its nodes are made of the binaries and images in the cache, or of an image that is given.
    The image that is made is kept for later clusters; it is made anew when anything in it has changed.
  - What a killed run left half-made is removed and made again. A cluster that somebody else made is an error.
  - Uses Docker where a Docker daemon answers, else podman; E(KIND_EXPERIMENTAL_PROVIDER) decides otherwise.
  - Runs in the controller's process.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports what would be made, started, loaded or removed.
    support: full
  diff_mode:
    description: Lists what was made, started, loaded or removed.
    support: full
options:
  cluster:
    description: Name of the kind cluster.
    type: str
    required: true
  kubeconfig:
    description: Where its kubeconfig is written; a file that has no other cluster in it.
    type: path
    required: true
  state_dir:
    description: Directory for the record of what was made.
    type: path
    required: true
  image:
    description: Image of the nodes. Empty for one made of the cache.
    type: str
    default: ""
  state:
    description:
      - Whether the cluster shall exist.
      - V(absent) removes the kind cluster of this name, its kubeconfig, and kind's network if nothing else uses it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment: [kubescale.fleet.artifacts, kubescale.fleet.artifacts.versions]
"""

EXAMPLES = r"""
- name: Make the cluster
  kubescale.fleet.kind:
    cluster: kind
    kubeconfig: "{{ cluster_kubeconfig }}"
    state_dir: "{{ cluster_state_dir }}"
"""

RETURN = r"""
done:
  description: What was done (or would be, in check mode), by kind of thing.
  type: dict
  returned: success
  sample: {host: [], image: [], removed: [], created: [kind-control-plane, kind-worker], started: [], loaded: []}
nodes:
  description: >-
    The nodes: C(name), C(addresses) of the container, and C(serving), whether the kubelet has its serving certificate.
    Empty in check mode for nodes that are not running.
  type: list
  elements: dict
  returned: success
"""
