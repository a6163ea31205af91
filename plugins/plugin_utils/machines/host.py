# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The controller's host where machines or nodes are containers: its tools, limits, kernel settings and bridges."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ..common.errors import FleetError

#: A machine with pods uses about 60 instances. All machines of the host share the kernel's default of 128.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_MACHINE = 256
INTERFACES = Path("/sys/class/net")
#: Value of addr_assign_type of an interface whose address was set (include/uapi/linux/netdevice.h, NET_ADDR_SET).
ADDRESS_SET = 3
#: podman lowers its limit of processes to the kernel's default pid_max, and cannot raise it again without privilege.
MOST_FILES, MOST_PROCESSES = 1048576, 32768
#: Command → Debian package. podman makes networks with iptables.
TOOLS = {"podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap", "iptables": "iptables", "ip": "iproute2"}


class SandboxError(FleetError):
    """Containers cannot be made or removed. The message gives the reason and the remedy."""


def check_host() -> None:
    """Raise SandboxError if this host lacks a tool, or this process lacks rights."""
    missing = sorted(package for tool, package in TOOLS.items() if shutil.which(tool) is None)
    if missing:
        raise SandboxError(
            f"Machines in containers need {', '.join(missing)} on this host. "
            f"On Debian or Ubuntu: apt-get install --yes {' '.join(missing)}"
        )
    if os.geteuid():
        raise SandboxError("Kubernetes nodes in containers need root on this host: run the same command with sudo.")


def has_unified_cgroups() -> bool:
    """Return whether this host has cgroup v2 only."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def ulimits() -> list[str]:
    """Return the limits of containers in podman's notation. Its defaults may exceed the hard limits of this process."""
    files, processes = _limit(resource.RLIMIT_NOFILE, MOST_FILES), _limit(resource.RLIMIT_NPROC, MOST_PROCESSES)
    return [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]


def _limit(kind: int, most: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def raise_inotify(machines: int, check: bool, say: Callable[[str], None]) -> list[str]:
    """Raise the number of inotify instances to what ``machines`` need. Return the change as text, if there is one."""
    wanted = machines * INOTIFY_PER_MACHINE
    now = int(INOTIFY.read_text(encoding="ascii"))
    if now >= wanted:
        return []
    if not check:
        try:
            INOTIFY.write_text(str(wanted), encoding="ascii")
        except OSError as error:
            raise SandboxError(
                f"fs.inotify.max_user_instances is {now}, but {machines} machines need {wanted}, and writing it failed "
                f"({error.strerror}). Run as root: sysctl -w fs.inotify.max_user_instances={wanted}"
            ) from error
        say(f"  sandbox: raised this host's fs.inotify.max_user_instances from {now} to {wanted} (until it reboots)")
    return [f"fs.inotify.max_user_instances {now} -> {wanted}"]


def keep_address(bridge: str, check: bool) -> list[str]:
    """Fix the hardware address of a bridge. Return the change as text, if there is one.

    A bridge takes the lowest address of its members until its address is set. So when a machine goes or comes, the
    host may get a new address in the network, and the other machines answer to the old one until they ask again: a
    stream was seen to be silent for 90 s.
    """
    interface = INTERFACES / bridge
    if not bridge or not interface.exists() or int((interface / "addr_assign_type").read_text()) == ADDRESS_SET:
        return []
    address = (interface / "address").read_text(encoding="ascii").strip()
    if not check:
        command = ["ip", "link", "set", "dev", bridge, "address", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()}")
    return [f"{bridge} keeps {address}"]
