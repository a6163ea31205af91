# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: machine_facts
short_description: Read the facts about a machine that the node roles need
version_added: 0.1.0
description:
  - Reads all facts in one task and changes nothing. All node roles of a run use the fact C(kubescale_machine).
author: kubescale founders (@kubescale)
options:
  packages:
    description: Names of packages to look for, by package family (C(debian), C(redhat)).
    type: dict
    default: {}
  modules:
    description: Names of kernel modules to look for.
    type: list
    elements: str
    default: []
  names:
    description: Hosts, with or without port, that the machine must be able to resolve.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [kubescale.fleet.attributes]
"""

EXAMPLES = r"""
- name: Read facts of the machine
  kubescale.fleet.machine_facts:
    packages: {debian: [conntrack], redhat: [conntrack-tools]}
"""

RETURN = r"""
ansible_facts:
  description: The fact C(kubescale_machine).
  type: dict
  returned: success
  contains:
    kubescale_machine:
      description:
        - C(hostname), C(architecture) (as the kernel names it), C(system) (of os-release), C(family) (V(debian) or
          V(redhat), or empty), C(missing_packages), C(systemd) (whether systemd is PID 1), C(container) (whether the
          machine is a container), C(kernel) ([major, minor]), C(memory_mib), C(free_mib) (disk below
          /var/lib/containerd), C(swap) (devices in use), C(cgroup) (1 or 2), C(ignored_preflight_errors) (checks of
          kubeadm that fail on a good machine), C(oom_score) (whether processes may get a better OOM score), C(address)
          (IPv4 address of the default route), C(addresses) (all IPv4 addresses), C(interfaces) (network interface of
          each IPv4 address), C(containerd) (whether containerd runs), C(resolver) (C(file), the resolv.conf for pods,
          and C(servers), the name servers in it).
        - C(surroundings) - on a machine that is not a node yet, C(firewall), C(disks) (by path),
          C(missing_modules), C(proxies), C(openssl) ([major, minor]), C(installs) (whether Ansible can install
          packages), C(unresolved) (names that the machine cannot resolve).
        - C(identities) - values that no other machine may have, C(host name), C(machine ID) and C(product UUID). An
          unknown value is left out. A container has no product UUID, because it would show its host's.
        - C(listeners) - on a machine that is not a node yet, the processes that listen on TCP ports, by port.
        - C(node) - C(state) is V(none), V(unfinished) (a run of this collection was interrupted), V(ours) or
          V(foreign); C(cluster) and C(version) as this collection recorded them; C(ca) and C(admin) (SHA-256 of the
          cluster CA and of the administrator's certificate, hex, on control planes); C(serving) (whether the kubelet
          has a serving certificate); C(foreign) (files of a cluster that this collection did not make).
      type: dict
"""

import contextlib
import json
import os
import platform
import re
import socket
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubescale.fleet.plugins.module_utils.firewall import look_at_firewall
from ansible_collections.kubescale.fleet.plugins.module_utils.node import node_state, read
from ansible_collections.kubescale.fleet.plugins.module_utils.surroundings import (
    disk,
    has_bindings,
    missing_modules,
    openssl_version,
    proxies,
    resolver,
    selinux_enforces,
    unresolved,
)

# File systems that fill up on a node: images and containers, volumes of pods, logs of pods.
DISKS = ("/var/lib/containerd", "/var/lib/kubelet", "/var/log")
CAP_SYS_RESOURCE = 24
# A TCP socket's state in /proc/net/tcp.
LISTEN = "0A"


def os_release(text: str) -> dict[str, str]:
    """Return the settings of an os-release file."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.strip("\"'") for name, _unused, value in pairs}


def package_family(system: dict[str, str]) -> str:
    """Return the package family of a system: debian, redhat, or "" for any other."""
    names = {system.get("ID", ""), *system.get("ID_LIKE", "").split()}
    if names & {"debian", "ubuntu"}:
        return "debian"
    return "redhat" if names & {"rhel", "fedora", "centos"} else ""


def meminfo(text: str) -> int:
    """Return the memory in MiB from the text of /proc/meminfo."""
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(values["MemTotal"].split()[0]) // 1024


def swap_devices(text: str) -> list[str]:
    """Return the devices in the text of /proc/swaps."""
    return [line.split()[0] for line in text.splitlines()[1:] if line.strip()]


def has_capability(status: str, capability: int) -> bool:
    """Return whether the text of /proc/1/status allows a capability."""
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return bool(int(values.get("CapBnd", "0"), 16) >> capability & 1)


def installed_packages(module: AnsibleModule, family: str, names: list[str]) -> set[str]:
    """Return the packages among ``names`` that are installed."""
    if family == "debian":
        command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n", *names]
        lines = module.run_command(command)[1].splitlines()
        return {line.split()[1] for line in lines if line.startswith("installed ")}
    command = ["rpm", "--query", "--queryformat", "%{NAME}\\n", *names]
    return set(module.run_command(command)[1].splitlines()) & set(names)


def addresses(module: AnsibleModule) -> tuple[str, dict[str, str]]:
    """Return the IPv4 address of the default route ("" if there is none), and the interfaces of all addresses."""
    ip = module.get_bin_path("ip")
    if not ip:
        return "", {}
    links = json.loads(module.run_command([ip, "-json", "-4", "address", "show", "scope", "global"])[1] or "[]")
    interfaces = {
        entry["local"]: link["ifname"] for link in links for entry in link.get("addr_info", []) if "local" in entry
    }
    # Only reads the kernel's route and sends nothing. The address is reserved for documentation.
    route = json.loads(module.run_command([ip, "-json", "-4", "route", "get", "192.0.2.1"])[1] or "[]")
    return (route[0].get("prefsrc", "") if route else ""), interfaces


def listening(table: str) -> dict[str, str]:
    """Return port → inode of the listening sockets in the text of /proc/net/tcp or tcp6."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {str(int(row[1].rpartition(":")[2], 16)): row[9] for row in rows if row[3] == LISTEN}


def listeners(proc: Path = Path("/proc")) -> dict[str, str]:
    """Return the processes that listen on TCP ports, by port, such as "nginx (process 17)"."""
    ports = {**listening(read(proc / "net/tcp6")), **listening(read(proc / "net/tcp"))}
    if not ports:
        return {}
    owners: dict[str, str] = {}
    for process in (folder for folder in proc.iterdir() if folder.name.isdigit()):
        with contextlib.suppress(OSError):  # the process ended
            name = f"{read(process / 'comm').strip()} (process {process.name})"
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):  # the process closed it
                    owners[str(descriptor.readlink())] = name
    return {
        port: owners.get(f"socket:[{inode}]", "the kernel, or a process of another namespace")
        for port, inode in ports.items()
    }


def identities(container: bool) -> dict[str, str]:
    """Return the values that identify this machine. A container's product UUID would be its host's."""
    values = {"host name": socket.gethostname(), "machine ID": read(Path("/etc/machine-id")).strip()}
    if not container:
        values["product UUID"] = read(Path("/sys/class/dmi/id/product_uuid")).strip().lower()
    return {name: value for name, value in values.items() if value}


def listens(path: Path) -> bool:
    """Return whether a process listens on a Unix socket. The file alone may be left over."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def surroundings(module: AnsibleModule, family: str) -> dict[str, Any]:
    """Return what can keep a cluster from working on a machine that has all that a node needs."""

    def run(command: list[str]) -> str:
        program = module.get_bin_path(command[0])
        if not program:
            return ""
        code, output, _unused = module.run_command([program, *command[1:]], environ_update={"LC_ALL": "C"})
        return str(output) if code == 0 else ""

    return {
        "firewall": look_at_firewall(run),
        "disks": {path: disk(Path(path)) for path in DISKS},
        "missing_modules": missing_modules(module.params["modules"], platform.release()),
        "proxies": proxies(os.environ),
        "selinux": selinux_enforces(),
        "openssl": openssl_version(run(["openssl", "version"])),
        # The module apt installs the bindings that it lacks.
        "installs": family != "redhat" or has_bindings(run, sys.executable),
        "unresolved": unresolved(module.params["names"]),
    }


def look(module: AnsibleModule) -> dict[str, Any]:
    """Return the fact."""
    system = os_release(read(Path("/etc/os-release")))
    family = package_family(system)
    packages = module.params["packages"].get(family, [])
    address, interfaces = addresses(module)
    kernel = re.match(r"(\d+)\.(\d+)", platform.release())
    container = bool(read(Path("/run/systemd/container")))
    node = node_state()
    cgroup = 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1
    return {
        "hostname": socket.gethostname(),
        "architecture": platform.machine(),
        "system": system.get("PRETTY_NAME", system.get("ID", "unknown")),
        "family": family,
        "missing_packages": sorted(set(packages) - installed_packages(module, family, packages)) if packages else [],
        "systemd": Path("/run/systemd/system").is_dir(),
        "container": container,
        "kernel": [int(part) for part in kernel.groups()] if kernel else [0, 0],
        "memory_mib": meminfo(read(Path("/proc/meminfo"))),
        "free_mib": disk(Path("/var/lib/containerd"))["free_mib"],
        "swap": swap_devices(read(Path("/proc/swaps"))),
        "cgroup": cgroup,
        # kubeadm refuses cgroup v1, and cannot read the build options of the kernel in a container.
        "ignored_preflight_errors": ["Swap", *(["SystemVerification"] if container or cgroup == 1 else [])],
        "oom_score": has_capability(read(Path("/proc/1/status")), CAP_SYS_RESOURCE),
        "address": address,
        "addresses": list(interfaces),
        "interfaces": interfaces,
        "resolver": resolver(),
        "containerd": listens(Path("/run/containerd/containerd.sock")),
        "identities": identities(container),
        # On a node, Kubernetes itself listens. Reading all processes would slow down each run.
        "listeners": listeners() if node["state"] == "none" else {},
        "surroundings": surroundings(module, family) if node["state"] != "ours" else {},
        "node": node,
    }


def main() -> None:
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={"packages": {"type": "dict", "default": {}}, "modules": names, "names": names},
        supports_check_mode=True,
    )
    module.exit_json(changed=False, ansible_facts={"kubescale_machine": look(module)})


if __name__ == "__main__":
    main()
