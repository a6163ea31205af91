# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""kind clusters on the controller, with podman or Docker, and the node image they are made of.

What is ours is known by a record in the cluster's state directory: it is written before kind begins and finished when
kind is done, so a half-made cluster is removed and made again, and one that somebody else made is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

from ...module_utils.node import SERVING_CERTIFICATE
from ..artifacts.cache import Cache, digest_of
from ..common.errors import FleetError
from ..common.files import replace_file
from ..common.paths import COLLECTION
from ..kube.client import RESTART, connect
from .sandbox import (
    CACHE_IN_MACHINE,
    COMPLETE,
    MOST_FILES,
    MOST_PROCESSES,
    Sandbox,
    limit,
)

ENGINES = ("docker", "podman")
# kind's own names: its network, and the label of its nodes.
NETWORK = "kind"
CLUSTER_LABEL = "io.x-k8s.kind.cluster"
IMAGE = "localhost/kubescale/kind-node"
IMAGE_LABEL = "kubescale.fleet/kind-node"
BUILDER = "kubescale-kind-node"
SCRIPT = COLLECTION / "files" / "kind" / "node_image.sh"
# kind mounts it into every node; podman refuses to mount what is not there.
MODULES = Path("/lib/modules")
CAP_SYS_RESOURCE = 24


class KindError(FleetError):
    """The cluster cannot be made or removed; the message says why and what to do."""


class Engine:
    """The container engine that kind uses on this host.

    Args:
        name: ``podman`` or ``docker``.
        settings: Where podman's settings are written that this host needs, if it needs any.
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
        """What kind's process and the engine's need in their environment."""
        own = {"KIND_EXPERIMENTAL_PROVIDER": self.name}
        if self.settings.exists():
            own["CONTAINERS_CONF"] = str(self.settings)
        return {**os.environ, **own}

    def configure(self) -> None:
        """Write the settings of podman that this host needs, as kind has no options for them; the host's own stay."""
        if self.name != "podman" or (self.unified_cgroups and self.may_raise):
            return
        files, processes = limit(resource.RLIMIT_NOFILE, MOST_FILES), limit(resource.RLIMIT_NPROC, MOST_PROCESSES)
        lines = ["[containers]"]
        # podman's own defaults may be more than this host lets anybody have.
        lines += [f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]']
        if not self.unified_cgroups:
            # crun refuses a hybrid hierarchy.
            lines += ["[engine]", 'runtime = "runc"']
        self.settings.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, *arguments: str) -> str:
        """Run the engine and return its output; raises KindError with what it said."""
        return run([self.name, *arguments], self.environment)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """Return all that the engine knows of containers."""
        return json.loads(self.run("inspect", "--type", "container", *names)) if names else []

    def has_image(self, name: str) -> bool:
        """Tell whether an image is there."""
        return bool(self.run("image", "ls", "--quiet", name).strip())

    def remove(self, *containers: str) -> None:
        """Remove containers, if they exist, with their anonymous volumes."""
        # podman would wait for a node with pods to stop, and takes a missing one for an error; Docker does neither.
        now = ["--time", "0", "--ignore"] if self.name == "podman" else []
        self.run("rm", "--force", "--volumes", *now, *containers)


def run(command: list[str], environment: Mapping[str, str], text: str | None = None) -> str:
    """Run a command with ``text`` as its input and return its output; raises KindError with the end of what it said."""
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if "level=warning" not in line]
        name = Path(command[0]).name
        raise KindError(f"{name} {' '.join(command[1:4])} … failed:\n" + "\n".join(said[-20:]))
    return done.stdout


def find_engine(settings: Path, environment: Mapping[str, str] | None = None) -> Engine:
    """Return the engine that the person chose for kind, else Docker where its daemon answers, else podman.

    Raises KindError if this host cannot run it.
    """
    name = (os.environ if environment is None else environment).get("KIND_EXPERIMENTAL_PROVIDER", "")
    if not name:
        asked = ["docker", "info", "--format", "{{.ServerVersion}}"]
        found = shutil.which("docker") and subprocess.run(asked, capture_output=True, check=False).returncode == 0
        name = "docker" if found else "podman"
    if name not in ENGINES:
        raise KindError(f"KIND_EXPERIMENTAL_PROVIDER is {name!r}; allowed are {' and '.join(ENGINES)}.")
    if shutil.which(name) is None:
        raise KindError(
            "kind needs a container engine: Docker with a running daemon, or podman "
            "(on Debian or Ubuntu: apt-get install --yes podman runc)."
        )
    if name == "podman" and os.geteuid():
        raise KindError("kind with podman takes root on this host: run the same command with sudo.")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:"))
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return Engine(name, settings, unified, bool(int(bounding, 16) >> CAP_SYS_RESOURCE & 1))


def serves(certificate: str, addresses: Collection[str]) -> bool:
    """Tell whether a serving certificate (PEM text) names one of the addresses: a started node has new ones."""
    if not certificate.strip():
        return False
    extensions = x509.load_pem_x509_certificate(certificate.encode()).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return bool({str(address) for address in names.get_values_for_type(x509.IPAddress)} & set(addresses))


class NodeImage:
    """The image of nodes that run what is in the cache; its tag changes with anything that is in it."""

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
        self.base = Sandbox(NETWORK, cache.directory, run=engine.run, say=say)

    @property
    def version(self) -> str:
        """The version of Kubernetes in it."""
        return str(self.cache.pins["components"]["kubernetes"]["version"])

    @property
    def name(self) -> str:
        """The image's name."""
        contents: list[str | bytes] = [SCRIPT.read_bytes(), self.base.image]
        contents += [self.cache.recorded(self.cache.component("kind") / "manifest.json")["digest"]]
        contents += [part for file in self.files for part in (file["destination"], file["sha256"])]
        contents += [str(self.cache.recorded(image.record)["manifest"]) for image in self.images.values()]
        return f"{IMAGE}:v{self.version}-{digest_of(*contents)[:12]}"

    def make(self) -> None:
        """Make the image, unless it is there; remove former ones that no container uses. One run at a time."""
        with self.cache.locked(lambda: self.say("  kind: another run is filling the cache; waiting for it")):
            if not self.engine.has_image(self.name):
                self._make()

    def _make(self) -> None:
        self.say("  kind: making the image of its nodes (about 10 s)")
        if not self.engine.has_image(self.base.image):
            self.base.make_image()
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
        self.engine.run("run", *options, self.base.image, *script)
        changes = ('ENTRYPOINT ["/usr/local/bin/entrypoint"]', 'CMD ["/sbin/init"]', f"LABEL {IMAGE_LABEL}=true")
        self.engine.run("commit", *(part for change in changes for part in ("--change", change)), BUILDER, self.name)
        self.engine.remove(BUILDER)


class Kind:
    """One kind cluster: a control plane and a worker.

    Args:
        name: Its name.
        kubeconfig: Where its kubeconfig shall be; a file of its own.
        state: The cluster's state directory.
        engine: The container engine.
        cache: The controller's cache: kind itself, and the images that are loaded.
        image: Image of the nodes; one made of the cache if empty.
        say: Shows a line to the person.
    """

    def __init__(
        self,
        name: str,
        kubeconfig: Path,
        state: Path,
        engine: Engine,
        cache: Cache,
        image: str = "",
        say: Callable[[str], None] = print,
    ) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self.state = state
        self.engine = engine
        self.cache = cache
        self.given_image = image
        self.say = say
        self.record = state / "kind.json"
        self.node_names = [f"{name}-control-plane", f"{name}-worker"]

    def kind(self, *arguments: str, text: str | None = None) -> str:
        """Run kind; raises ArtifactError if the cache has none."""
        folder = self.cache.component("kind")
        self.cache.recorded(folder / "manifest.json")
        # Were this process killed, a kind that goes on alone would remove, in the end, what the next run makes.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return run([*tied, str(folder / "kind"), *arguments], self.engine.environment, text)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process works on this cluster: a worker of Ansible outlives a run that was killed."""
        self.state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.state, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"  kind: another run is at work on cluster {self.name}; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # -- what there is ---------------------------------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        """Return the cluster's containers as the engine knows them."""
        label = f"label={CLUSTER_LABEL}={self.name}"
        return self.engine.inspect(*self.engine.run("ps", "--all", "--quiet", "--filter", label).split())

    def recorded(self) -> dict[str, Any]:
        """Return the record; empty if there is none."""
        return json.loads(self.record.read_text(encoding="utf-8")) if self.record.exists() else {}

    def write_record(self, record: dict[str, Any]) -> None:
        """Write the record."""
        replace_file(self.record, json.dumps(record))

    def config(self) -> dict[str, Any]:
        """Return kind's configuration of the cluster."""
        kubelet: dict[str, Any] = {"kind": "KubeletConfiguration", "serverTLSBootstrap": True}
        # Else pods inherit podman's search domain, whose resolver does not answer over TCP.
        networking: dict[str, Any] = {"dnsSearch": []}
        config: dict[str, Any] = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": networking,
            "nodes": [{"role": "control-plane"}, {"role": "worker"}],
        }
        if not self.engine.unified_cgroups:
            # Until the kernel interface goes away, kubelets only refuse it by default.
            kubelet["failCgroupV1"] = False
        if not self.engine.may_raise:
            # Containers that ask for a better OOM score would not start.
            patch = '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
            config["containerdConfigPatches"] = [patch]
        if not self.given_image:
            # The image carries no network; it gets the one of role cni, which uses nftables as kube-proxy shall.
            networking |= {"disableDefaultCNI": True, "kubeProxyMode": "nftables"}
        return {**config, "kubeadmConfigPatches": [json.dumps(kubelet)]}

    def addresses(self, node: Mapping[str, Any]) -> list[str]:
        """Return the addresses of a node's container."""
        networks = node["NetworkSettings"]["Networks"].values()
        found = [network.get(key, "") for network in networks for key in ("IPAddress", "GlobalIPv6Address")]
        return [address for address in found if address]

    def described(self) -> list[dict[str, Any]]:
        """Return name, addresses, and whether the kubelet has a serving certificate for one of them, of each node."""
        # The key, which is in the same file, stays there.
        only_certificate = f"test ! -e {SERVING_CERTIFICATE} || sed -n '/BEGIN CERT/,/END CERT/p' {SERVING_CERTIFICATE}"
        nodes = {node["Name"].lstrip("/"): self.addresses(node) for node in self.nodes()}
        return [
            {
                "name": name,
                "addresses": addresses,
                "serving": serves(self.engine.run("exec", name, "sh", "-c", only_certificate), addresses),
            }
            for name, addresses in sorted(nodes.items())
        ]

    def is_made(self, nodes: list[dict[str, Any]], settings: str) -> bool:
        """Tell whether the cluster was made and is whole.

        Raises KindError if somebody else made it, or if it was made with other settings.
        """
        record = self.recorded()
        ours = record.get("nodes", {}).values()
        if record.get("finished") and nodes and not {node["Id"] for node in nodes} <= set(ours):
            record = {}
        if nodes and not record:
            raise KindError(
                f"A kind cluster {self.name} exists that was not made from here. Remove it "
                "(kind_state=absent, or: kind delete cluster), or rename the cluster in clusters.yml."
            )
        whole = bool(record.get("finished")) and len(nodes) == len(self.node_names)
        if whole and record["settings"] != settings:
            raise KindError(
                f"The kind cluster {self.name} was made with other settings (image or limits) than it has now. They "
                "are fixed when it is made: remove it (kind_state=absent), then make it again."
            )
        return whole

    def others_in_kubeconfig(self) -> list[str]:
        """Return the clusters in the kubeconfig that are not this one; raises KindError if it cannot be read."""
        try:
            content = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8")) or {}
            names = {str(entry["name"]) for entry in content.get("clusters") or []}
        except FileNotFoundError:
            return []
        except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise KindError(f"{self.kubeconfig} is not a kubeconfig: {error}") from error
        return sorted(names - {f"kind-{self.name}"})

    # -- making ----------------------------------------------------------------------------------------------------

    def present(self, check: bool = False) -> dict[str, list[str]]:
        """Make the cluster or start its nodes, and load images; return what was done, by kind of thing.

        With ``check`` nothing is done. Raises KindError before the first change if something is in the way.
        """
        if others := self.others_in_kubeconfig():
            raise KindError(
                f"{self.kubeconfig} is the kubeconfig of other clusters ({', '.join(others)}): give {self.name} a file "
                "of its own as `kubeconfig:` in clusters.yml."
            )
        node_image = None if self.given_image else NodeImage(self.cache, self.engine, self.say)
        image = node_image.name if node_image else self.given_image
        settings = digest_of(image, json.dumps(self.config(), sort_keys=True))[:16]
        nodes = self.nodes()
        made = self.is_made(nodes, settings)
        stopped = [node["Name"].lstrip("/") for node in nodes if made and not node["State"]["Running"]]
        missing_image = bool(node_image and not made and not self.engine.has_image(image))
        images = self.missing_images(made, set(node_image.images) if node_image else set())
        done = {
            "host": [] if made else self.prepare_host(check),
            "image": [image] if missing_image else [],
            "removed": [] if made else self.left_over(nodes),
            "created": [] if made else self.node_names,
            "started": stopped,
            "loaded": list(images),
        }
        if check:
            return done
        if not made:
            self.absent()
            self.state.mkdir(parents=True, exist_ok=True)
            self.engine.configure()
            if node_image and missing_image:
                node_image.make()
            self._create(image, settings)
        if stopped:
            self.engine.run("start", *stopped)
            connect(self.kubeconfig).wait_ready(RESTART)
        if not self.kubeconfig.exists():
            self.kind("export", "kubeconfig", "--name", self.name, "--kubeconfig", str(self.kubeconfig))
        if images:
            self._load(images)
        return done

    def missing_images(self, made: bool, baked: set[str]) -> dict[str, str]:
        """Return the images (reference → digest) for workers that were not loaded, without those in ``baked``.

        An image that has no archive in the cache is missing here, too: nodes pull it.
        """
        loaded = self.recorded().get("images", {}) if made else {}
        records = {
            image.reference: self.cache.recorded(image.record)
            for image in self.cache.images({"worker"})
            if image.reference not in baked
        }
        wanted = {name: str(record["manifest"]) for name, record in records.items() if not record.get("pull")}
        return {name: digest for name, digest in wanted.items() if loaded.get(name) != digest}

    def prepare_host(self, check: bool) -> list[str]:
        """Make what nodes need of this host; return what was changed, for the person."""
        changed = [] if MODULES.exists() else [f"{MODULES} (empty: kind mounts it into its nodes)"]
        if changed and not check:
            MODULES.mkdir()
            self.say(f"  kind: made {changed[0]}")
        containers = len(self.engine.run("ps", "--all", "--quiet").split())
        host = Sandbox(self.name, self.cache.directory, say=self.say)
        return changed + host.raise_inotify(containers + len(self.node_names), check)

    def _create(self, image: str, settings: str) -> None:
        self.say(f"  kind: making cluster {self.name} (about 30 s)")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.write_record({"finished": False})
        # JSON is YAML, and takes Ansible's own kind of strings.
        config = json.dumps({**self.config(), "name": self.name})
        command = ["create", "cluster", "--image", image, "--config", "-", "--kubeconfig", str(self.kubeconfig)]
        try:
            self.kind(*command, text=config)
        except KindError:
            # kind has removed its nodes; with no record left, a cluster that somebody makes now is not taken for ours.
            self.absent()
            raise
        nodes = {node["Name"].lstrip("/"): node["Id"] for node in self.nodes()}
        self.write_record({"finished": True, "settings": settings, "nodes": nodes, "images": {}})

    def _load(self, images: dict[str, str]) -> None:
        """Load images into the nodes that lack them: what a control plane runs is in our node image."""
        self.say(f"  kind: loading {len(images)} images")
        archives = [str(image.archive) for image in self.cache.images() if image.reference in images]
        nodes = self.node_names if self.given_image else self.node_names[1:]
        self.kind("load", "image-archive", *archives, "--name", self.name, "--nodes", ",".join(nodes))
        record = self.recorded()
        self.write_record({**record, "images": {**record["images"], **images}})

    # -- removing --------------------------------------------------------------------------------------------------

    def left_over(self, nodes: list[dict[str, Any]]) -> list[str]:
        """Return the cluster's containers, also those that were killed while podman made them."""
        names = [node["Name"].lstrip("/") for node in nodes]
        if self.engine.name == "podman":
            found = json.loads(self.engine.run("ps", "--all", "--external", "--format", "json"))
            unlabelled = [item["Names"][0] for item in found if item["State"] not in COMPLETE and not item["Labels"]]
            names += [name for name in unlabelled if name in self.node_names and name not in names]
        return sorted(names)

    def volumes(self) -> list[str]:
        """Return the volumes of the nodes; Docker's are anonymous, and go with their containers."""
        if self.engine.name == "docker":
            return []
        listed = [self.engine.run("volume", "ls", "--quiet", "--filter", f"label={name}") for name in self.node_names]
        return " ".join(listed).split()

    def unused_network(self, doomed: list[str]) -> list[str]:
        """Return kind's network if there is one that no other container uses."""
        if NETWORK not in self.engine.run("network", "ls", "--format", "{{.Name}}").split():
            return []
        users = self.engine.run("ps", "--all", "--filter", f"network={NETWORK}", "--format", "{{.Names}}").split()
        return [] if set(users) - set(doomed) else [NETWORK]

    def absent(self, check: bool = False) -> dict[str, list[str]]:
        """Remove the cluster of this name, also a half-made one, and return what was removed.

        A kubeconfig that names other clusters, too, is left alone; so is kind's network while others use it.
        """
        containers = self.left_over(self.nodes())
        volumes, network = self.volumes(), self.unused_network(containers)
        files = [self.record, self.engine.settings]
        if not self.others_in_kubeconfig():
            # A killed kind leaves its lock behind, and would stop at it the next time.
            files += [self.kubeconfig, self.kubeconfig.with_name(f"{self.kubeconfig.name}.lock")]
        files = [file for file in files if file.exists()]
        if not check:
            if self.record.exists():
                # Should this be killed, what is left is known to be half of something.
                self.write_record({"finished": False})
            if containers:
                self.engine.remove(*containers)
            if volumes:
                self.engine.run("volume", "rm", "--force", *volumes)
            if network:
                self.engine.run("network", "rm", *network)
            for file in files:
                file.unlink()
        return {
            "nodes": containers,
            "volumes": volumes,
            "network": network,
            "files": [str(file) for file in files],
        }
