# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Look at name servers, disks, kernel modules and proxies of a future node. Runs on machines: Python 3.9."""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .node import read

MIB = 1024 * 1024
RESOLV_CONF = Path("/etc/resolv.conf")
#: The real name servers, where /etc/resolv.conf names systemd-resolved's stub on 127.0.0.53.
RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")
#: Interpreters in which Ansible's modules dnf and dnf5 look for the bindings of the package manager, beside their own.
INTERPRETERS = ("/usr/libexec/platform-python", "/usr/bin/python3", "/usr/bin/python")
#: Oldest Python on which the modules of the supported versions of Ansible run.
LEAST_PYTHON = (3, 9)
_BINDINGS = """
import importlib.util, sys
print(*sys.version_info[:2], any(map(importlib.util.find_spec, ("dnf", "libdnf5"))))
"""


def name_servers(text: str) -> list[str]:
    """Return the name servers in the text of a resolv.conf."""
    lines = [line.split() for line in text.splitlines()]
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def is_loopback(server: str) -> bool:
    """Return whether a name server is this machine itself."""
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def resolver(etc: Path = RESOLV_CONF, resolved: Path = RESOLVED_CONF) -> dict[str, Any]:
    """Return the resolv.conf for pods: `file`, and `servers` in it.

    A pod cannot reach a name server on its node's loopback address, so the file of systemd-resolved with the real
    servers comes first then.
    """
    servers = name_servers(read(etc))
    if any(map(is_loopback, servers)):
        real = name_servers(read(resolved))
        if real and not any(map(is_loopback, real)):
            return {"file": str(resolved), "servers": real}
    return {"file": str(etc), "servers": servers}


def disk(path: Path) -> dict[str, Any]:
    """Return the file system where ``path`` is or will be: `device`, and `total_mib` and `free_mib`."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    return {"device": existing.stat().st_dev, "total_mib": usage.total // MIB, "free_mib": usage.free // MIB}


def missing_modules(names: list[str], release: str, root: Path = Path("/")) -> list[str]:
    """Return the kernel modules that are neither part of the kernel, nor loaded, nor installed.

    Without a list of installed modules, as in a container, only modules with a visible effect are judged.
    """
    folder = root / "lib/modules" / release
    lists = read(folder / "modules.dep") + read(folder / "modules.builtin")
    installed = {Path(name.split(":")[0]).name.split(".ko")[0] for name in lists.split("\n")}
    filesystems = read(root / "proc/filesystems").split()
    effects = {
        "br_netfilter": (root / "proc/sys/net/bridge").is_dir(),
        "overlay": "overlay" in filesystems,
    }

    def is_missing(name: str) -> bool:
        if effects.get(name) or (root / "sys/module" / name).exists() or name in installed:
            return False
        return bool(lists) or name in effects

    return [name for name in names if is_missing(name)]


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `https_proxy` (without user and password) and `no_proxy` as a Go program in this environment reads them.

    kubeadm writes these variables of its environment into the pods of the control plane.
    """

    def value(name: str) -> str:
        return environment.get(name.upper()) or environment.get(name) or ""

    proxy = value("https_proxy")
    if "@" in proxy:
        url = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        proxy = f"{url.scheme}://".lstrip(":/") + url.netloc.rpartition("@")[2]
    return {"https_proxy": proxy, "no_proxy": value("no_proxy")}


def selinux_enforces(root: Path = Path("/")) -> bool:
    """Return whether SELinux denies what its policy does not allow."""
    return read(root / "sys/fs/selinux/enforce").strip() == "1"


def openssl_version(text: str) -> list[int]:
    """Return major and minor version from the output of `openssl version`, or [] if there is none."""
    found = re.match(r"OpenSSL (\d+)\.(\d+)", text)
    return [int(part) for part in found.groups()] if found else []


def has_bindings(run: Callable[[list[str]], str], interpreter: str) -> bool:
    """Return whether Ansible can install packages with dnf: its bindings belong to a Python that is new enough."""
    for python in dict.fromkeys([interpreter, *INTERPRETERS]):
        words = run([python, "-c", _BINDINGS]).split()
        if len(words) == 3 and words[2] == "True" and (int(words[0]), int(words[1])) >= LEAST_PYTHON:
            return True
    return False


def unresolved(names: list[str]) -> list[str]:
    """Return the hosts that this machine cannot resolve. A name may end with a port."""

    def is_known(name: str) -> bool:
        try:
            return bool(socket.getaddrinfo(name, None))
        except OSError:
            return False

    hosts = [re.sub(r":\d+$", "", name).strip("[]") for name in names]
    return [host for host in hosts if not is_known(host)]
