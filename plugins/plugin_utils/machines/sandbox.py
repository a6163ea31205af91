# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Machines of a cluster as podman containers that boot systemd, on the controller.

Everything made for a cluster has the cluster's name in a label. Removal finds exactly that, and what a killed run left
half-made. Another label has a digest of a machine's settings, because podman reports settings in another form than it
takes them. A machine with other settings may be a running node, so it is never replaced.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .host import SandboxError, has_unified_cgroups, keep_address, raise_inotify, ulimits
from .machine_image import SUITES, MachineImage

CLUSTER_LABEL = "kubescale.fleet/cluster"
SETTINGS_LABEL = "kubescale.fleet/settings"
#: Where machines see the controller's cache.
CACHE_IN_MACHINE = "/var/cache/kubescale"
BOOT_SECONDS = 60
#: States of podman containers that have been started at least once.
COMPLETE = ("running", "exited", "paused", "stopped")


@dataclass(frozen=True)
class Machine:
    """One machine: its name (container, host name, inventory), IPv4 address and TCP ports published on 127.0.0.1."""

    name: str
    address: str
    ports: tuple[int, ...] = ()


def subnet_of(machines: Sequence[Machine]) -> ipaddress.IPv4Network:
    """Return the /24 network of all addresses. Raise SandboxError if an address is wrong or used twice."""
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
                f"sandbox_address of {machine.name} is {machine.address}, which is reserved in {network}; "
                f"allowed are {network[2]} to {network[254]}"
            )
        other = owners.setdefault(machine.address, machine.name)
        if other != machine.name:
            raise SandboxError(f"sandbox_address of {machine.name} is {machine.address}, the same as that of {other}")
        networks.setdefault(network, machine.name)
    if len(networks) != 1:
        places = ", ".join(f"{name} in {network}" for network, name in networks.items())
        raise SandboxError(
            f"sandbox_address: all machines of a cluster must be in one /24 network, but: {places or 'none'}"
        )
    return next(iter(networks))


def podman(*arguments: str, timeout: float | None = None) -> str:
    """Run podman and return its output. Raise SandboxError with its error output if it fails."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "level=warning" not in line]
        raise SandboxError(f"podman {' '.join(arguments[:4])} …: {' '.join(lines) or done.stdout.strip()}")
    return done.stdout


class Sandbox:
    """The machines of one cluster.

    Args:
        cluster: Its name, which is also the name of its network.
        cache: The controller's cache.
        suite: A Debian release of SUITES.
        internal: Whether the machines reach nothing outside of their network.
        mounts_cache: Whether machines see the cache. Without it, files are transferred as to any other machine.
        run: Runs podman with the given arguments and returns its output.
        say: Shows a line to the person.
        unified_cgroups: Whether this host has cgroup v2 only. Read from the host if None.
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
        self.internal = internal
        self.mounts_cache = mounts_cache
        self.run = run
        self.say = say
        self.unified_cgroups = has_unified_cgroups() if unified_cgroups is None else unified_cgroups
        self.image = MachineImage(cache, suite, run, say)

    # -- reading ---------------------------------------------------------------------------------------------------

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return all containers of this host by name, with the half-made ones (podman's "external")."""
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
        """Return all networks by name."""
        return {item["name"]: item for item in json.loads(self.run("network", "ls", "--format", "json"))}

    def _is_ours(self, labels: Mapping[str, str] | None) -> bool:
        return (labels or {}).get(CLUSTER_LABEL) == self.cluster

    def has_image(self) -> bool:
        """Return whether podman has the image."""
        return bool(json.loads(self.run("images", "--filter", f"reference={self.image.name}", "--format", "json")))

    # -- making ----------------------------------------------------------------------------------------------------

    def command(self, machine: Machine) -> list[str]:
        """Return podman's arguments that make and start a machine, without the settings label."""
        options = ["--detach", "--name", machine.name, "--hostname", machine.name, "--privileged", "--cgroupns=private"]
        options += [part for limit in ulimits() for part in ("--ulimit", limit)]
        options += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", f"{machine.name}:/var:exec,suid,dev"]  # noqa: S108
        if self.mounts_cache:
            options += ["--volume", f"{self.cache}:{CACHE_IN_MACHINE}:ro"]
        options += ["--network", self.cluster, "--ip", machine.address]
        # Without it, pods inherit podman's search domain, whose resolver does not answer over TCP.
        options += ["--dns-search", "."]
        # podman would hand the controller's proxies on, and kubeadm would write them into the control plane's pods.
        options += ["--http-proxy=false"]
        # A node with pods takes half a minute to stop on systemd's signal.
        options += ["--stop-timeout", "1"]
        options += ["--label", f"{CLUSTER_LABEL}={self.cluster}"]
        for port in machine.ports:
            options += ["--publish", f"127.0.0.1:{port}:{port}/tcp"]
        # An empty folder may come and go (kind needs one), and must not change the digest of the settings.
        if any(Path("/lib/modules").glob("*")):
            options += ["--volume", "/lib/modules:/lib/modules:ro"]
        first = []
        if not self.unified_cgroups:
            # crun rejects a hybrid hierarchy, and podman's systemd mode would bind the host's hierarchy into machines.
            first = ["--runtime", "runc"]
            options += ["--systemd=false", *(f"--env={variable}" for variable in SUITES[self.image.suite])]
        return [*first, "run", *options, self.image.name]

    def settings(self, machine: Machine) -> str:
        """Return the digest of everything a machine is made with."""
        return hashlib.sha256(json.dumps(self.command(machine)).encode()).hexdigest()[:16]

    def present(self, machines: Sequence[Machine], check: bool = False) -> dict[str, list[str]]:
        """Make missing machines and start stopped ones. Return the changes by subject, such as created or started.

        With ``check`` nothing is done. Raise SandboxError before the first change if something else has a name that
        is needed, or if a machine was made with other settings.
        """
        subnet = str(subnet_of(machines))
        published = [port for machine in machines for port in machine.ports]
        if self.internal and published:
            raise SandboxError(
                f"sandbox_ports is {published}, but nothing can be published from a network that sandbox_internal "
                "closes: drop one of the two."
            )
        containers, networks, volumes, has_image = self.containers(), self.networks(), self.volumes(), self.has_image()
        self._check_machines(machines, containers)
        self._check_network(networks.get(self.cluster), subnet)
        complete = {name for name, item in containers.items() if item["State"] in COMPLETE}
        missing = [machine for machine in machines if machine.name not in complete]
        stopped = [m.name for m in machines if m.name in complete and containers[m.name]["State"] != "running"]
        all_machines = {name for name, item in containers.items() if CLUSTER_LABEL in (item.get("Labels") or {})}
        all_machines |= {machine.name for machine in machines}
        unknown = sorted(set(self.ours(containers)) - {machine.name for machine in machines})
        if unknown:
            self.say(
                f"  sandbox: {', '.join(unknown)} belongs to {self.cluster}, but is not in the inventory any more; "
                "left alone (sandbox_state=absent removes it with the others)"
            )
        done: dict[str, list[str]] = {
            "host": raise_inotify(len(all_machines), check, self.say),
            "image": [] if has_image else [self.image.name],
            "network": [] if self.cluster in networks else [f"{self.cluster} {subnet}"],
            "created": [machine.name for machine in missing],
            "started": stopped,
            "bridge": [],
        }
        if check:
            done["bridge"] = keep_address(self._bridge(networks), check)
            return done
        if not has_image:
            self.image.make()
        if self.cluster not in networks:
            label = f"{CLUSTER_LABEL}={self.cluster}"
            kind = ["--internal"] if self.internal else []
            self.run("network", "create", *kind, "--subnet", subnet, "--label", label, self.cluster)
            networks = self.networks()
        # podman assigns addresses under one lock, so only the start and boot of machines overlap.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda machine: self._create(machine, machine.name in volumes), missing))
            list(pool.map(lambda name: self.run("start", name), stopped))
            done["bridge"] = keep_address(self._bridge(networks), check)
            list(pool.map(lambda machine: self.wait_booted(machine.name), machines))
        return done

    def _bridge(self, networks: Mapping[str, Mapping[str, Any]]) -> str:
        return str(networks.get(self.cluster, {}).get("network_interface", ""))

    def _check_machines(self, machines: Sequence[Machine], containers: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise SandboxError if the container of a machine belongs to something else or has other settings."""
        for machine in machines:
            found = containers.get(machine.name)
            # podman was killed before it noted the labels. Such a container is made again.
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
                    "than it has now. They are fixed when a machine is made: remove the machines "
                    "(sandbox_state=absent), then make them again."
                )

    def _check_network(self, network: Mapping[str, Any] | None, subnet: str) -> None:
        """Raise SandboxError if the network of the cluster's name belongs to something else or has other settings."""
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
        """Make and start a machine with a fresh /var. Remove the remains of a killed run before."""
        self.run("rm", "--force", "--ignore", "--time", "0", machine.name)
        if has_volume:
            self.run("volume", "rm", "--force", machine.name)
        self.run("volume", "create", "--label", f"{CLUSTER_LABEL}={self.cluster}", machine.name)
        # On a busy host, podman 4.3 was seen to fill an empty volume only in part from the image.
        self.run("volume", "import", machine.name, str(self.image.var()))
        arguments = self.command(machine)
        place = arguments.index("run") + 1
        arguments[place:place] = ["--label", f"{SETTINGS_LABEL}={self.settings(machine)}"]
        self.run(*arguments)

    def wait_booted(self, name: str) -> None:
        """Wait until a machine's systemd has booted. Raise SandboxError if units failed or the time is over."""
        deadline = time.monotonic() + BOOT_SECONDS
        state = ""
        while time.monotonic() < deadline:
            # The command itself waits for the end of the boot. Before systemd listens, it fails at once.
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

    # -- removing --------------------------------------------------------------------------------------------------

    def absent(self, machines: Sequence[str], check: bool = False) -> dict[str, list[str]]:
        """Remove this cluster's containers, volumes and network, also half-made ones, and return their names."""
        containers = self.containers()
        half_made = {name for name in machines if name in containers and not containers[name].get("Labels")}
        # If podman is killed while it makes a container, the container has no labels.
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
