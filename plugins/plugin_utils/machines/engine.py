# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The container engine that kind uses on the controller: podman or Docker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import FleetError
from .host import has_unified_cgroups, ulimits

ENGINES = ("docker", "podman")
CAP_SYS_RESOURCE = 24


class KindError(FleetError):
    """The cluster cannot be made or removed. The message gives the reason and the remedy."""


class Engine:
    """The container engine that kind uses on this host.

    Args:
        name: ``podman`` or ``docker``.
        settings: File for the podman settings that this host needs, if it needs any.
        unified_cgroups: Whether this host has cgroup v2 only.
        may_raise: Whether processes here may raise their limits and lower their OOM scores.
    """

    def __init__(self, name: str, settings: Path, unified_cgroups: bool, may_raise: bool) -> None:
        self.name = name
        self.settings = settings
        self.unified_cgroups = unified_cgroups
        self.may_raise = may_raise

    @property
    def environment(self) -> dict[str, str]:
        """The environment of kind's process and the engine's."""
        own = {"KIND_EXPERIMENTAL_PROVIDER": self.name}
        if self.settings.exists():
            own["CONTAINERS_CONF"] = str(self.settings)
        return {**os.environ, **own}

    def configure(self) -> None:
        """Write the podman settings that this host needs, as kind has no options for them."""
        if self.name != "podman" or (self.unified_cgroups and self.may_raise):
            return
        lines = ["[containers]", f"default_ulimits = {json.dumps(ulimits())}"]
        if not self.unified_cgroups:
            # crun rejects a hybrid hierarchy.
            lines += ["[engine]", 'runtime = "runc"']
        self.settings.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, *arguments: str) -> str:
        """Run the engine and return its output. Raise KindError if it fails."""
        return run([self.name, *arguments], self.environment)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """Return the engine's descriptions of containers."""
        return json.loads(self.run("inspect", "--type", "container", *names)) if names else []

    def has_image(self, name: str) -> bool:
        """Return whether the engine has an image."""
        return bool(self.run("image", "ls", "--quiet", name).strip())

    def remove(self, *containers: str) -> None:
        """Remove containers, if they exist, with their anonymous volumes."""
        # By default, podman waits for nodes to stop, and fails if a container does not exist. Docker does neither.
        now = ["--time", "0", "--ignore"] if self.name == "podman" else []
        self.run("rm", "--force", "--volumes", *now, *containers)


def run(command: list[str], environment: Mapping[str, str], text: str | None = None) -> str:
    """Run a command with ``text`` as input and return its output. Raise KindError with its last lines if it fails."""
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if "level=warning" not in line]
        name = Path(command[0]).name
        raise KindError(f"{name} {' '.join(command[1:4])} … failed:\n" + "\n".join(lines[-20:]))
    return done.stdout


def find_engine(settings: Path, environment: Mapping[str, str] | None = None) -> Engine:
    """Return the engine of KIND_EXPERIMENTAL_PROVIDER, else Docker if its daemon answers, else podman.

    Raise KindError if this host cannot run it.
    """
    name = (os.environ if environment is None else environment).get("KIND_EXPERIMENTAL_PROVIDER", "")
    if not name:
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        answers = shutil.which("docker") and subprocess.run(command, capture_output=True, check=False).returncode == 0
        name = "docker" if answers else "podman"
    if name not in ENGINES:
        raise KindError(f"KIND_EXPERIMENTAL_PROVIDER is {name!r}; allowed are {' and '.join(ENGINES)}.")
    if shutil.which(name) is None:
        raise KindError(
            "kind needs a container engine: Docker with a running daemon, or podman "
            "(on Debian or Ubuntu: apt-get install --yes podman runc)."
        )
    if name == "podman" and os.geteuid():
        raise KindError("kind with podman needs root on this host: run the same command with sudo.")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:"))
    return Engine(name, settings, has_unified_cgroups(), bool(int(bounding, 16) >> CAP_SYS_RESOURCE & 1))
