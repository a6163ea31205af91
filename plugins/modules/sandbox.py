# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: sandbox
short_description: Create or remove the podman machines of a cluster
version_added: 0.1.0
description:
  - Machines are containers on the controller that boot systemd from a plain Debian root file system. The cache keeps
    that file system.
  - Creates the image, a network with the name of the cluster, and the machines; starts stopped machines; waits until
    each has booted.
  - Removes only objects with the cluster's label, and keeps the image.
author: kubescale founders (@kubescale)
attributes:
  diff_mode:
    description: Lists what was created, started or removed.
    support: full
options:
  cluster:
    description: Name of the cluster, its network and label.
    type: str
    required: true
  machines:
    description:
      - Names of the cluster's machines in the inventory, the first control plane first.
      - Each needs the host variable C(sandbox_address).
    type: list
    elements: str
    required: true
  ports:
    description: TCP ports of the first machine that are published on 127.0.0.1 of the controller under the same number.
    type: list
    elements: int
    default: []
  suite:
    description: Debian release of the machines.
    type: str
    choices: [bookworm, trixie]
    default: bookworm
  internal:
    description: Whether the machines can connect to each other and the controller only. No ports can be published then.
    type: bool
    default: false
  mounts_cache:
    description: Whether the cache is mounted into the machines. Otherwise binaries and images are transferred.
    type: bool
    default: true
  state:
    description: Whether the machines must exist.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment: [kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Create the machines
  kubescale.fleet.sandbox:
    cluster: demo
    machines: [demo-cp1, demo-w1]
    ports: [30080]
"""

RETURN = r"""
done:
  description: What was created, started or removed, or would be in check mode, by category.
  type: dict
  returned: success
  sample: {host: [], image: [], network: [], created: [demo-w1], started: [], bridge: []}
"""
