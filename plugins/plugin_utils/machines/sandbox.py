# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Machines of a cluster as podman containers that boot systemd, on the controller.

Everything made for a cluster carries its name in a label, so removing finds exactly that, also what a killed run left
half-made. A machine's settings are kept as a digest in another label: podman reports settings in forms of its own,
which are hard to compare, and a machine that may be a running node is never replaced silently.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import posixpath
import resource
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifacts.build import make_root_filesystem
from ..artifacts.pins import ArtifactError
from ..common.errors import FleetError

CLUSTER_LABEL = "kubescale.fleet/cluster"
SETTINGS_LABEL = "kubescale.fleet/settings"
# Debian releases that machines can be made of, and what each one's systemd must be told where cgroups are not unified.
SUITES: dict[str, list[str]] = {
    "bookworm": [],
    "trixie": ["SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0"],
}
# What a fresh server has and kubeadm's machines need; a machine is never asked to download packages in the sandbox.
PACKAGES = [
    *("ca-certificates", "conntrack", "dbus", "ebtables", "ethtool", "iproute2", "iptables", "kmod", "libseccomp2"),
    *("mount", "nftables", "openssl", "procps", "python3", "python3-cryptography", "socat", "systemd", "systemd-sysv"),
    "util-linux",
]
# No console to log in at, no package updates in the background, and a place for the host's modules.
SETUP = (
    "for unit in getty.target apt-daily.timer apt-daily-upgrade.timer; do "
    'ln -s /dev/null "$1/etc/systemd/system/$unit"; done; mkdir -p "$1/lib/modules"'
)
CACHE_IN_MACHINE = "/var/cache/kubescale"
# A machine with pods uses about 60; the kernel's default of 128 is shared by all machines of the host.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_MACHINE = 256
# podman lowers its own limit of processes to the kernel's default pid_max, and cannot raise it again without privilege.
MOST_FILES, MOST_PROCESSES = 1048576, 32768
BOOT_SECONDS = 60
INTERFACES = Path("/sys/class/net")
# How the kernel says that somebody has set an interface's address (include/uapi/linux/netdevice.h, NET_ADDR_SET).
ADDRESS_SET = 3
# States of podman containers that have been started at least once.
COMPLETE = ("running", "exited", "paused", "stopped")
# Command → Debian package. iptables is what podman makes networks with.
TOOLS = {"podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap", "iptables": "iptables", "ip": "iproute2"}


class SandboxError(FleetError):
    """The machines cannot be made or removed; the message says why and what to do."""


@dataclass(frozen=True)
class Machine:
    """One machine: its name (container, host name, inventory), IPv4 address and TCP ports published on 127.0.0.1."""

    name: str
    address: str
    ports: tuple[int, ...] = ()


def subnet_of(machines: Sequence[Machine]) -> ipaddress.IPv4Network:
    """Return the /24 network all addresses lie in; raises SandboxError for an address that is wrong or used twice."""
    networks: dict[ipaddress.IPv4Network, str] = {}
    owners: dict[str, str] = {}
    for machine in machines:
        try:
            address = ipaddress.IPv4Address(machine.address)
        except ValueError:
            raise SandboxError(
                f"sandbox_address of {machine.name} is {machine.address!r}, but must be an IPv4 address such as "
                "10.89.77.11"
            ) from None
        network = ipaddress.IPv4Network((address, 24), strict=False)
        if address in (network[0], network[1], network[255]):
            raise SandboxError(
                f"sandbox_address of {machine.name} is {machine.address}, which {network} needs itself; "
                f"allowed are {network[2]} to {network[254]}"
            )
        other = owners.setdefault(machine.address, machine.name)
        if other != machine.name:
            raise SandboxError(f"sandbox_address of {machine.name} is {machine.address}, the same as that of {other}")
        networks.setdefault(network, machine.name)
    if len(networks) != 1:
        found = ", ".join(f"{name} in {network}" for network, name in networks.items())
        raise SandboxError(
            f"sandbox_address: all machines of a cluster must be in one /24 network, but: {found or 'none'}"
        )
    return next(iter(networks))


def podman(*arguments: str, timeout: float | None = None) -> str:
    """Run podman and return its output; raises SandboxError with what it said."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "level=warning" not in line]
        raise SandboxError(f"podman {' '.join(arguments[:4])} …: {' '.join(lines) or done.stdout.strip()}")
    return done.stdout


class Sandbox:
    """The machines of one cluster.

    Args:
        cluster: Its name, also that of its network.
        cache: The controller's cache, for the root file system.
        suite: A Debian release of SUITES.
        internal: Whether the machines' network leads nowhere else.
        mounts_cache: Whether machines see the cache; without it, everything comes to them as to any other machine.
        run: Runs podman with the given arguments and returns its output.
        say: Shows a line to the person.
        unified_cgroups: Whether this host has cgroup v2 only; found out if None.
    """

    def __init__(
        self,
        cluster: str,
        cache: Path,
        suite: str = "bookworm",
        internal: bool = False,
        mounts_cache: bool = True,
        run: Callable[..., str] = podman,
        say: Callable[[str], None] = print,
        unified_cgroups: bool | None = None,
    ) -> None:
        self.cluster = cluster
        self.cache = cache
        self.suite = suite
        self.internal = internal
        self.mounts_cache = mounts_cache
        self.run = run
        self.say = say
        if unified_cgroups is None:
            unified_cgroups = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.unified_cgroups = unified_cgroups

    # -- what there is ---------------------------------------------------------------------------------------------

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return every container of this host by name, half-made ones (podman's "external") included."""
        found = json.loads(self.run("ps", "--all", "--external", "--format", "json"))
        return {item["Names"][0]: item for item in found}

    def ours(self, containers: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the names of this cluster's containers."""
        return sorted(name for name, item in containers.items() if self._is_ours(item.get("Labels")))

    def volumes(self) -> list[str]:
        """Return the names of this cluster's volumes."""
        found = json.loads(self.run("volume", "ls", "--format", "json"))
        return sorted(item["Name"] for item in found if self._is_ours(item.get("Labels")))

    def networks(self) -> dict[str, dict[str, Any]]:
        """Return every network by name."""
        return {item["name"]: item for item in json.loads(self.run("network", "ls", "--format", "json"))}

    def _is_ours(self, labels: Mapping[str, str] | None) -> bool:
        return (labels or {}).get(CLUSTER_LABEL) == self.cluster

    # -- the image -------------------------------------------------------------------------------------------------

    @property
    def archive(self) -> Path:
        """Where the cache keeps the root file system; the name changes with what it is made from."""
        recipe = json.dumps([self.suite, PACKAGES, SETUP])
        return self.cache / "rootfs" / f"{self.suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"

    @property
    def image(self) -> str:
        """The image's name."""
        return f"localhost/kubescale/machine:{self.archive.stem}"

    def has_image(self) -> bool:
        """Tell whether the image of exactly this root file system is there."""
        return bool(json.loads(self.run("images", "--filter", f"reference={self.image}", "--format", "json")))

    def make_image(self) -> None:
        """Import the root file system."""
        changes = ('CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3", "ENV container=podman")
        options = [part for change in changes for part in ("--change", change)]
        self.run("import", *options, str(self.root_filesystem()), self.image)

    def root_filesystem(self) -> Path:
        """Return the root file system's archive; makes it, one run at a time, if the cache has none."""
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        with (self.archive.parent / ".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.archive.exists():
                self.say(f"  sandbox: making the machines' root file system of Debian {self.suite} (about 40 s)")
                temporary = self.archive.with_name(f"{self.archive.name}.new")
                try:
                    make_root_filesystem(temporary, self.suite, PACKAGES, "minbase", f"--customize-hook={SETUP}")
                except ArtifactError as error:
                    raise SandboxError(str(error)) from error
                temporary.replace(self.archive)
        return self.archive

    def var(self) -> Path:
        """Return the archive of what the root file system has in /var; makes it if the cache has none.

        podman fills no volume with a link that leads out of it: such a one (to a README, in Debian) is left out.
        """
        made_of = self.root_filesystem()
        archive = made_of.with_suffix(".var.tar")
        with (archive.parent / ".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                temporary = archive.with_name(f"{archive.name}.new")
                with tarfile.open(made_of) as whole, tarfile.open(temporary, "w") as part:
                    for member in whole:
                        name = member.name.removeprefix("./var/")
                        leads = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                        if name != member.name and not leads.startswith(".."):
                            member.name = name
                            part.addfile(member, whole.extractfile(member) if member.isfile() else None)
                temporary.replace(archive)
        return archive

    # -- making ----------------------------------------------------------------------------------------------------

    def command(self, machine: Machine) -> list[str]:
        """Return podman's arguments that make and start a machine, without the settings label."""
        files, processes = limit(resource.RLIMIT_NOFILE, MOST_FILES), limit(resource.RLIMIT_NPROC, MOST_PROCESSES)
        options = ["--detach", "--name", machine.name, "--hostname", machine.name, "--privileged", "--cgroupns=private"]
        # podman's own defaults may be more than this host lets anybody have.
        options += ["--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}"]
        options += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", f"{machine.name}:/var:exec,suid,dev"]  # noqa: S108
        if self.mounts_cache:
            options += ["--volume", f"{self.cache}:{CACHE_IN_MACHINE}:ro"]
        options += ["--network", self.cluster, "--ip", machine.address]
        # Else pods inherit podman's search domain, whose resolver does not answer over TCP.
        options += ["--dns-search", "."]
        # A node with pods does not stop on systemd's signal before half a minute.
        options += ["--stop-timeout", "1"]
        options += ["--label", f"{CLUSTER_LABEL}={self.cluster}"]
        for port in machine.ports:
            options += ["--publish", f"127.0.0.1:{port}:{port}/tcp"]
        # An empty one may come and go (kind asks for it), and must not make it look as if the machine had changed.
        if any(Path("/lib/modules").glob("*")):
            options += ["--volume", "/lib/modules:/lib/modules:ro"]
        first = []
        if not self.unified_cgroups:
            # crun refuses a hybrid hierarchy, and podman's systemd mode would bind the host's one into every machine.
            first = ["--runtime", "runc"]
            options += ["--systemd=false", *(f"--env={variable}" for variable in SUITES[self.suite])]
        return [*first, "run", *options, self.image]

    def settings(self, machine: Machine) -> str:
        """Return the digest of everything a machine is made with."""
        return hashlib.sha256(json.dumps(self.command(machine)).encode()).hexdigest()[:16]

    def present(self, machines: Sequence[Machine], check: bool = False) -> dict[str, list[str]]:
        """Make what is missing, start what is stopped; return what was done.

        That is by host, image, network, created, started and bridge.

        With ``check`` nothing is done. Raises SandboxError before the first change if a name is taken by something
        that is not ours, or if a machine was made with other settings.
        """
        subnet = str(subnet_of(machines))
        published = [port for machine in machines for port in machine.ports]
        if self.internal and published:
            raise SandboxError(
                f"sandbox_ports is {published}, but nothing can be published from a network that sandbox_internal "
                "closes: drop one of the two."
            )
        containers, networks, volumes, has_image = self.containers(), self.networks(), self.volumes(), self.has_image()
        self._refuse_foreign(machines, containers, networks, subnet)
        complete = {name for name, item in containers.items() if item["State"] in COMPLETE}
        missing = [machine for machine in machines if machine.name not in complete]
        stopped = [m.name for m in machines if m.name in complete and containers[m.name]["State"] != "running"]
        all_machines = {name for name, item in containers.items() if CLUSTER_LABEL in (item.get("Labels") or {})}
        all_machines |= {machine.name for machine in machines}
        unknown = sorted(set(self.ours(containers)) - {machine.name for machine in machines})
        if unknown:
            self.say(
                f"  sandbox: {', '.join(unknown)} belongs to {self.cluster}, but is not in the inventory any more; "
                "left alone "
                "(sandbox_state=absent removes it with the others)"
            )
        done: dict[str, list[str]] = {
            "host": self.raise_inotify(len(all_machines), check),
            "image": [] if has_image else [self.image],
            "network": [] if self.cluster in networks else [f"{self.cluster} {subnet}"],
            "created": [machine.name for machine in missing],
            "started": stopped,
            "bridge": [],
        }
        if check:
            done["bridge"] = self.keep_address(networks, check)
            return done
        if not has_image:
            self.make_image()
        if self.cluster not in networks:
            label = f"{CLUSTER_LABEL}={self.cluster}"
            kind = ["--internal"] if self.internal else []
            self.run("network", "create", *kind, "--subnet", subnet, "--label", label, self.cluster)
            networks = self.networks()
        # podman gives out addresses under one lock anyway; in parallel only their start and boot overlap.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda machine: self._create(machine, machine.name in volumes), missing))
            list(pool.map(lambda name: self.run("start", name), stopped))
            done["bridge"] = self.keep_address(networks, check)
            list(pool.map(lambda machine: self.wait_booted(machine.name), machines))
        return done

    def _refuse_foreign(
        self,
        machines: Sequence[Machine],
        containers: Mapping[str, Mapping[str, Any]],
        networks: Mapping[str, Mapping[str, Any]],
        subnet: str,
    ) -> None:
        for machine in machines:
            found = containers.get(machine.name)
            # What was killed before podman knew it as a container has no labels, and is made anew.
            if found is None or found["State"] not in (*COMPLETE, "created", "configured"):
                continue
            if not self._is_ours(found.get("Labels")):
                raise SandboxError(
                    f"A container {machine.name} exists that is not a machine of {self.cluster}. Remove it "
                    f"(podman rm --force {machine.name}) or rename the machine in clusters.yml."
                )
            if found["State"] in COMPLETE and found["Labels"].get(SETTINGS_LABEL) != self.settings(machine):
                raise SandboxError(
                    f"Machine {machine.name} was made with other settings (address, ports, limits, cache or image) "
                    "than it has "
                    "now. They are fixed when a machine is made: remove the machines (sandbox_state=absent), then "
                    "make them again."
                )
        network = networks.get(self.cluster)
        if network is None:
            return
        if not self._is_ours(network.get("labels")):
            raise SandboxError(
                f"A podman network {self.cluster} exists that is not the one of cluster {self.cluster}. Remove it "
                f"(podman network rm {self.cluster}) or rename the cluster in clusters.yml."
            )
        if network.get("internal", False) != self.internal:
            raise SandboxError(
                f"Network {self.cluster} was made with sandbox_internal = {not self.internal}: "
                "remove the machines (sandbox_state=absent), then make them again."
            )
        subnets = [item["subnet"] for item in network.get("subnets", [])]
        if subnets != [subnet]:
            raise SandboxError(
                f"Network {self.cluster} is {', '.join(subnets)}, but sandbox_address asks for {subnet}: "
                "remove the machines (sandbox_state=absent), then make them again."
            )

    def _create(self, machine: Machine, has_volume: bool) -> None:
        """Make and start a machine on a fresh /var, after removing what a killed run left of it."""
        self.run("rm", "--force", "--ignore", "--time", "0", machine.name)
        if has_volume:
            self.run("volume", "rm", "--force", machine.name)
        self.run("volume", "create", "--label", f"{CLUSTER_LABEL}={self.cluster}", machine.name)
        # On a busy host machines were seen whose empty volume podman 4.3 had not filled in full from the image.
        self.run("volume", "import", machine.name, str(self.var()))
        arguments = self.command(machine)
        place = arguments.index("run") + 1
        arguments[place:place] = ["--label", f"{SETTINGS_LABEL}={self.settings(machine)}"]
        self.run(*arguments)

    def wait_booted(self, name: str) -> None:
        """Wait until a machine's systemd has finished booting; raises SandboxError naming the units that failed."""
        deadline = time.monotonic() + BOOT_SECONDS
        state = ""
        while time.monotonic() < deadline:
            # The command itself waits for the end of the boot; it fails at once only before systemd listens.
            state = self.run("exec", name, "sh", "-c", "systemctl is-system-running --wait 2>&1 || true").strip()
            if state == "running":
                return
            if state == "degraded":
                units = json.loads(self.run("exec", name, "systemctl", "list-units", "--failed", "--output=json"))
                failed = ", ".join(unit["unit"] for unit in units)
                if failed:
                    raise SandboxError(
                        f"Machine {name} has booted, but these units failed: {failed}. "
                        f"Look at: podman exec {name} journalctl --unit <unit>"
                    )
                return
        raise SandboxError(
            f"Machine {name} has not booted within {BOOT_SECONDS} s; its systemd says: {state or 'nothing'}"
        )

    def raise_inotify(self, machines: int, check: bool) -> list[str]:
        """Raise the host's number of inotify instances if it is too low; return what was changed, for the person."""
        wanted = machines * INOTIFY_PER_MACHINE
        now = int(INOTIFY.read_text(encoding="ascii"))
        if now >= wanted:
            return []
        if not check:
            try:
                INOTIFY.write_text(str(wanted), encoding="ascii")
            except OSError as error:
                raise SandboxError(
                    f"fs.inotify.max_user_instances is {now}, but {machines} machines need {wanted}, and it cannot be "
                    "raised "
                    f"from here ({error.strerror}). Run as root: sysctl -w fs.inotify.max_user_instances={wanted}"
                ) from error
            self.say(
                f"  sandbox: raised this host's fs.inotify.max_user_instances from {now} to {wanted} (until it reboots)"
            )
        return [f"fs.inotify.max_user_instances {now} -> {wanted}"]

    def keep_address(self, networks: Mapping[str, Mapping[str, Any]], check: bool) -> list[str]:
        """Let the bridge of the network keep its hardware address; return what was changed, for the person.

        A bridge takes the lowest address of its members until somebody sets one. So when a machine goes or comes, the
        host may get a new address in the network, and the other machines send what they answer to the old one, until
        they ask again: a stream was seen to be silent for 90 s.
        """
        name = networks.get(self.cluster, {}).get("network_interface", "")
        bridge = INTERFACES / name
        if not name or not bridge.exists() or int((bridge / "addr_assign_type").read_text()) == ADDRESS_SET:
            return []
        address = (bridge / "address").read_text(encoding="ascii").strip()
        if not check:
            command = ["ip", "link", "set", "dev", name, "address", address]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()}")
        return [f"{name} keeps {address}"]

    # -- removing --------------------------------------------------------------------------------------------------

    def absent(self, machines: Sequence[str], check: bool = False) -> dict[str, list[str]]:
        """Remove this cluster's containers, volumes and network, also half-made ones; return what was removed."""
        containers = self.containers()
        half_made = {name for name in machines if name in containers and not containers[name].get("Labels")}
        # A container without labels and without a command is what is left of one that was killed while it was made.
        half_made = {name for name in half_made if containers[name]["State"] not in COMPLETE}
        doomed = sorted(set(self.ours(containers)) | half_made)
        volumes = self.volumes()
        network = self._is_ours(self.networks().get(self.cluster, {}).get("labels"))
        if not check:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda name: self.run("rm", "--force", "--ignore", "--time", "0", name), doomed))
            if volumes:
                self.run("volume", "rm", "--force", *volumes)
            if network:
                self.run("network", "rm", self.cluster)
        return {"machines": doomed, "volumes": volumes, "network": [self.cluster] if network else []}


def limit(kind: int, most: int) -> int:
    """Return this process's hard limit for ``kind``, but no more than ``most``."""
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def check_host() -> None:
    """Raise SandboxError if tools or rights are missing on this host."""
    missing = sorted(package for tool, package in TOOLS.items() if shutil.which(tool) is None)
    if missing:
        raise SandboxError(
            f"Machines in containers need {', '.join(missing)} on this host. "
            f"On Debian or Ubuntu: apt-get install --yes {' '.join(missing)}"
        )
    if os.geteuid():
        raise SandboxError("Kubernetes nodes in containers take root on this host: run the same command with sudo.")
