# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: preflight
short_description: Check the variables of all hosts of the play before the first change
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - Reads the variables of every host of the play, and reports all errors together. Each error names the variable, its
    value, the file and line, the allowed values, and the hosts.
  - Variables must match C(meta/argument_specs.yml) of the roles of this collection that run on the host. A variable
    that begins with a role's name but is not a variable of the role is an error, because it is probably misspelled.
  - Also checks versions that are not pinned, an autoscaler's target and bounds, windows shorter than four scrapes,
    overlapping ranges of addresses, machines in two groups, and invalid kubeconfig files.
  - Takes no options, changes nothing, and opens no connection. Use it with C(run_once), in a play on all hosts.
extends_documentation_fragment: [kubescale.fleet.attributes]
"""

EXAMPLES = r"""
- name: Check inputs
  hosts: nodes:clusters
  gather_facts: false
  tasks:
    - name: Check the variables of all hosts
      kubescale.fleet.preflight:
      run_once: true
"""

RETURN = r"""
msg:
  description: All errors, one line each.
  returned: failure
  type: str
"""
