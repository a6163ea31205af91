# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The container image of machines: a Debian system that boots systemd, made from Debian packages."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..artifacts.build import make_root_filesystem
from ..artifacts.pins import ArtifactError
from ..common.files import replacing
from .host import SandboxError

#: Debian releases that machines can have, and the variables that each one's systemd needs without cgroup v2.
SUITES: dict[str, list[str]] = {
    "bookworm": [],
    "trixie": ["SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0"],
}
#: The packages of a fresh server, and those that kubeadm needs. A machine in the sandbox downloads no packages.
PACKAGES = [
    *("ca-certificates", "conntrack", "dbus", "ebtables", "ethtool", "iproute2", "iptables", "kmod", "libseccomp2"),
    *("mount", "nftables", "openssl", "procps", "python3", "python3-cryptography", "socat", "systemd", "systemd-sysv"),
    "util-linux",
]
#: No login on a console, no package updates in the background, and a mount point for the host's kernel modules.
SETUP = (
    "for unit in getty.target apt-daily.timer apt-daily-upgrade.timer; do "
    'ln -s /dev/null "$1/etc/systemd/system/$unit"; done; mkdir -p "$1/lib/modules"'
)


class MachineImage:
    """The image of a Debian release.

    Args:
        cache: The controller's cache, for the root file system.
        suite: A Debian release of SUITES.
        run: Runs podman or Docker with the given arguments and returns its output.
        say: Shows a line to the person.
    """

    def __init__(self, cache: Path, suite: str, run: Callable[..., str], say: Callable[[str], None]) -> None:
        self.suite = suite
        self.run = run
        self.say = say
        recipe = hashlib.sha256(json.dumps([suite, PACKAGES, SETUP]).encode()).hexdigest()[:12]
        #: The root file system. Its name contains a digest of its recipe.
        self.archive = cache / "rootfs" / f"{suite}-{recipe}.tar"
        self.name = f"localhost/kubescale/machine:{self.archive.stem}"

    def make(self) -> None:
        """Import the root file system as image."""
        changes = ('CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3", "ENV container=podman")
        options = [part for change in changes for part in ("--change", change)]
        self.run("import", *options, str(self.root_filesystem()), self.name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        with (self.archive.parent / ".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def root_filesystem(self) -> Path:
        """Return the archive of the root file system. Make it if the cache has none."""
        with self._locked():
            if not self.archive.exists():
                self.say(f"  sandbox: making the machines' root file system of Debian {self.suite} (about 40 s)")
                try:
                    with replacing(self.archive) as temporary:
                        make_root_filesystem(temporary, self.suite, PACKAGES, "minbase", f"--customize-hook={SETUP}")
                except ArtifactError as error:
                    raise SandboxError(str(error)) from error
        return self.archive

    def var(self) -> Path:
        """Return the archive of the root file system's /var. Make it if the cache has none.

        Links that lead out of /var (to a README, in Debian) are left out: podman does not put them into a volume.
        """
        root = self.root_filesystem()
        archive = root.with_suffix(".var.tar")
        with self._locked():
            if not archive.exists():
                with replacing(archive) as temporary, tarfile.open(root) as whole, tarfile.open(temporary, "w") as part:
                    for member in whole:
                        name = member.name.removeprefix("./var/")
                        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                        if name != member.name and not target.startswith(".."):
                            member.name = name
                            part.addfile(member, whole.extractfile(member) if member.isfile() else None)
        return archive
