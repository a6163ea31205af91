# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Connect to a podman container with one call of podman per task."""

from __future__ import annotations

DOCUMENTATION = r"""
name: podman
short_description: Run tasks in podman containers, with pipelining
author: kubescale founders (@kubescale)
version_added: 0.1.0
description:
  - The connection of the same name in containers.podman copies every module into the container, with five calls of
    podman. This connection sends the module to the container's Python as input, with one call, if pipelining is on.
options:
  remote_addr:
    description: Name or ID of the container.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_podman_host
  remote_user:
    description: User in the container. Defaults to the user of the container's image.
    type: str
    ini:
      - section: defaults
        key: remote_user
    env:
      - name: ANSIBLE_REMOTE_USER
    vars:
      - name: ansible_user
  podman_extra_args:
    description: Arguments for podman, before its subcommand.
    type: str
    default: ""
    vars:
      - name: ansible_podman_extra_args
  podman_executable:
    description: Name or path of podman.
    type: str
    default: podman
    vars:
      - name: ansible_podman_executable
extends_documentation_fragment:
  - ansible.builtin.connection_pipelining
"""

EXAMPLES = r"""
# inventory/clusters.yml, beside `pipelining = true` in the section [connection] of ansible.cfg
plugin: kubescale.fleet.clusters
clusters:
  demo:
    control_plane:
      demo-cp1: {ansible_connection: kubescale.fleet.podman}
"""

import shlex

from ansible.plugins.connection import ensure_connect
from ansible_collections.containers.podman.plugins.connection.podman import Connection as PodmanConnection


class Connection(PodmanConnection):
    """The connection of containers.podman, with input for commands."""

    transport = "kubescale.fleet.podman"
    has_pipelining = True

    def _connect(self) -> Connection:
        # Only copying files needs the container's file system mounted, and podman can copy them without a mount.
        self._connected = True
        return self

    @ensure_connect
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = False) -> tuple[int, bytes, bytes]:
        """Run a command in the container. Return its exit status, output and error output."""
        options = ["exec", "--interactive"]
        if self.user:
            options += ["--user", self.user]
        return self._podman(options, shlex.split(cmd), in_data)
