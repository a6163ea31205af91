# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: examine_machine
short_description: Fail if a machine cannot be a node of its cluster
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Compares the fact C(kubescale_machine) of M(kubescale.fleet.machine_facts) with the needs of the cluster, and fails
    with all problems. Each problem names the machine, the value and the remedy.
  - Compares the machine with the cluster's other machines, if they have the fact, too.
  - Tries to connect to the future API of the first control plane from the controller. A refused connection is enough.
options:
  kubernetes:
    description: Version of Kubernetes that the run would install. A node keeps its version.
    type: str
    required: true
  address:
    description: IPv4 address of the machine in its cluster. Empty for the address of its default route.
    type: str
    default: ""
  kubelet:
    description:
      - The machine's KubeletConfiguration. Free disk space is compared with its C(evictionHard), and the machine's name
        servers are only checked if C(resolvConf) is the machine's.
    type: dict
    default: {}
  tolerate_swap:
    description: Whether swap may be in use.
    type: bool
    default: false
  tolerate:
    description: Problems that are right as they are.
    type: list
    elements: str
    choices: [endpoint, firewall, proxy, resolver, selinux]
    default: []
extends_documentation_fragment: [kubescale.fleet.attributes]
"""

EXAMPLES = r"""
- name: Look at the machine
  kubescale.fleet.machine_facts:

- name: Check that the machine can be a node
  kubescale.fleet.examine_machine:
    kubernetes: 1.37.0
"""

RETURN = r"""
problems:
  description: The problems, as sentences.
  type: list
  elements: str
  returned: failure
"""
