# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The image of kind nodes, made from the cache: a machine's image with Kubernetes and its images."""

from __future__ import annotations

from collections.abc import Callable

from ..artifacts.cache import Cache, digest_of
from ..common.paths import COLLECTION
from .engine import Engine, KindError
from .machine_image import MachineImage
from .sandbox import CACHE_IN_MACHINE

IMAGE = "localhost/kubescale/kind-node"
IMAGE_LABEL = "kubescale.fleet/kind-node"
BUILDER = "kubescale-kind-node"
SCRIPT = COLLECTION / "files" / "kind" / "node_image.sh"


class NodeImage:
    """The image of kind nodes with the cache's versions. Its tag changes with anything that is in it."""

    BINARIES = ("containerd", "runc", "cni_plugins", "cni_flannel", "kubernetes_node", "crictl")

    def __init__(self, cache: Cache, engine: Engine, say: Callable[[str], None]) -> None:
        self.engine = engine
        self.say = say
        self.cache = cache
        self.files = cache.machine_files(list(self.BINARIES))
        self.images = {image.reference: image for image in cache.images({"control_plane"})}
        if pulled := [name for name, image in self.images.items() if cache.recorded(image.record).get("pull")]:
            raise KindError(
                f"A node image is made of archives, and the cache has no archive of {', '.join(pulled)}. Fill the "
                "cache with artifacts_source: build, or set kind_image."
            )
        self.base = MachineImage(cache.directory, "bookworm", engine.run, say)

    @property
    def version(self) -> str:
        """The version of Kubernetes in the image."""
        return str(self.cache.pins["components"]["kubernetes"]["version"])

    @property
    def name(self) -> str:
        """The image's name."""
        contents: list[str | bytes] = [SCRIPT.read_bytes(), self.base.name]
        contents += [self.cache.recorded(self.cache.component("kind") / "manifest.json")["digest"]]
        contents += [part for file in self.files for part in (file["destination"], file["sha256"])]
        contents += [str(self.cache.recorded(image.record)["manifest"]) for image in self.images.values()]
        return f"{IMAGE}:v{self.version}-{digest_of(*contents)[:12]}"

    def make(self) -> None:
        """Make the image if the engine does not have it. Remove former ones that no container uses."""
        with self.cache.locked(lambda: self.say("  kind: another run is filling the cache; waiting for it")):
            if not self.engine.has_image(self.name):
                self._make()

    def _make(self) -> None:
        self.say("  kind: making the image of its nodes (about 10 s)")
        if not self.engine.has_image(self.base.name):
            self.base.make()
        self.engine.run("image", "prune", "--all", "--force", "--filter", f"label={IMAGE_LABEL}")
        self.engine.remove(BUILDER)
        node_files = self.cache.component("kind").relative_to(self.cache.directory) / "node"
        pause = next(reference for reference in self.images if "/pause:" in reference)
        arguments = [CACHE_IN_MACHINE, str(node_files), self.version, pause]
        arguments += [part for file in self.files for part in (file["source"], file["destination"])]
        archives = [str(image.archive.relative_to(self.cache.directory)) for image in self.images.values()]
        options = ["--privileged", "--network", "none", "--volume", f"{self.cache.directory}:{CACHE_IN_MACHINE}:ro"]
        options += ["--name", BUILDER, "--entrypoint", "/bin/sh"]
        script = ["-euc", SCRIPT.read_text(encoding="utf-8"), SCRIPT.name, *arguments, "--", *archives]
        self.engine.run("run", *options, self.base.name, *script)
        changes = ('ENTRYPOINT ["/usr/local/bin/entrypoint"]', 'CMD ["/sbin/init"]', f"LABEL {IMAGE_LABEL}=true")
        self.engine.run("commit", *(part for change in changes for part in ("--change", change)), BUILDER, self.name)
        self.engine.remove(BUILDER)
