# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: sandbox
short_description: Make or remove the podman machines of a cluster
version_added: 0.1.0
description:
  - Machines are containers on the controller that boot systemd from a plain Debian root file system.
    It is made once and kept in the cache.
  - Makes the image, a network named as the cluster, and the machines; starts stopped ones; waits until each has booted.
  - Removes only what carries the cluster's label. The image stays.
author: kubescale founders (@kubescale)
attributes:
  check_mode:
    description: Reports what would be made, started or removed.
    support: full
  diff_mode:
    description: Lists what was made, started or removed.
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
    description: Whether the machines reach each other and the controller only. Ports cannot be published then.
    type: bool
    default: false
  mounts_cache:
    description: Whether machines read binaries and images from the cache directly. Without it these are transferred.
    type: bool
    default: true
  state:
    description: Whether the machines shall exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Make the machines
  kubescale.fleet.sandbox:
    cluster: demo
    machines: [demo-cp1, demo-w1]
    ports: [30080]
"""

RETURN = r"""
done:
  description: What was done (or would be, in check mode), by kind of thing.
  type: dict
  returned: success
  sample: {host: [], image: [], network: [], created: [demo-w1], started: [], bridge: []}
"""
