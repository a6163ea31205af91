# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""kind clusters on the controller, with podman or Docker.

A record in the cluster's state directory marks a cluster as made from here. It is written before kind begins and
completed when kind is done. So a half-made cluster is made again, and a cluster that somebody else made is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

from ...module_utils.node import SERVING_CERTIFICATE
from ..artifacts.cache import Cache, digest_of
from ..common.files import replace_file
from ..kube.client import RESTART, connect
from .engine import Engine, KindError, run
from .host import raise_inotify
from .node_image import NodeImage
from .sandbox import COMPLETE

#: kind's own names: its network, and the label of its nodes.
NETWORK = "kind"
CLUSTER_LABEL = "io.x-k8s.kind.cluster"
#: kind mounts it into every node, and podman cannot mount a folder that does not exist.
MODULES = Path("/lib/modules")


def serves(certificate: str, addresses: Collection[str]) -> bool:
    """Return whether a serving certificate (PEM text) names one of the addresses. They change when a node starts."""
    if not certificate.strip():
        return False
    extensions = x509.load_pem_x509_certificate(certificate.encode()).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return bool({str(address) for address in names.get_values_for_type(x509.IPAddress)} & set(addresses))


class Kind:
    """One kind cluster: a control plane and a worker.

    Args:
        name: Its name.
        kubeconfig: File for its kubeconfig, which no other cluster may share.
        state: The cluster's state directory.
        engine: The container engine.
        cache: The controller's cache: kind itself, and the images that are loaded.
        image: Image of the nodes. If empty, one is made from the cache.
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
        """Run kind and return its output. Raise ArtifactError if the cache does not have kind."""
        folder = self.cache.component("kind")
        self.cache.recorded(folder / "manifest.json")
        # A kind that outlives this process would finally remove the nodes of the next run.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return run([*tied, str(folder / "kind"), *arguments], self.engine.environment, text)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the cluster. Wait for another process first, as Ansible's workers outlive a killed run."""
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

    # -- reading --------------------------------------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        """Return the engine's descriptions of the cluster's containers."""
        label = f"label={CLUSTER_LABEL}={self.name}"
        return self.engine.inspect(*self.engine.run("ps", "--all", "--quiet", "--filter", label).split())

    def recorded(self) -> dict[str, Any]:
        """Return the record, or an empty one if there is none."""
        return json.loads(self.record.read_text(encoding="utf-8")) if self.record.exists() else {}

    def write_record(self, record: dict[str, Any]) -> None:
        """Write the record."""
        replace_file(self.record, json.dumps(record))

    def config(self) -> dict[str, Any]:
        """Return kind's configuration of the cluster."""
        kubelet: dict[str, Any] = {"kind": "KubeletConfiguration", "serverTLSBootstrap": True}
        # Without it, pods inherit podman's search domain, whose resolver does not answer over TCP.
        networking: dict[str, Any] = {"dnsSearch": []}
        config: dict[str, Any] = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": networking,
            "nodes": [{"role": "control-plane"}, {"role": "worker"}],
        }
        if not self.engine.unified_cgroups:
            # Kubelets reject cgroup v1 by default, but still support it.
            kubelet["failCgroupV1"] = False
        if not self.engine.may_raise:
            # Without it, containers that ask for a better OOM score do not start.
            patch = '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
            config["containerdConfigPatches"] = [patch]
        if not self.given_image:
            # The image has no network; role cni installs one, which uses nftables as kube-proxy must.
            networking |= {"disableDefaultCNI": True, "kubeProxyMode": "nftables"}
        return {**config, "kubeadmConfigPatches": [json.dumps(kubelet)]}

    def addresses(self, node: Mapping[str, Any]) -> list[str]:
        """Return the addresses of a node's container."""
        networks = node["NetworkSettings"]["Networks"].values()
        addresses = [network.get(key, "") for network in networks for key in ("IPAddress", "GlobalIPv6Address")]
        return [address for address in addresses if address]

    def described(self) -> list[dict[str, Any]]:
        """Return each node's name, its addresses, and whether its kubelet has a serving certificate for one of them."""
        # The same file contains the private key, which must not leave the node.
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
        """Return whether the cluster is complete.

        Raise KindError if it was not made from here, or if it was made with other settings.
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
        """Return the other clusters in the kubeconfig. Raise KindError if it cannot be read."""
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
        """Make the cluster or start its nodes, and load images. Return the changes by subject.

        With ``check`` nothing is done. Raise KindError before the first change if something is in the way.
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
        """Return the images (reference → digest) for workers that were not loaded and are not in ``baked``.

        Images that have no archive in the cache are left out, because nodes pull them.
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
        """Prepare this host for nodes. Return the changes as text."""
        changed = [] if MODULES.exists() else [f"{MODULES} (empty: kind mounts it into its nodes)"]
        if changed and not check:
            MODULES.mkdir()
            self.say(f"  kind: made {changed[0]}")
        containers = len(self.engine.run("ps", "--all", "--quiet").split())
        return changed + raise_inotify(containers + len(self.node_names), check, self.say)

    def _create(self, image: str, settings: str) -> None:
        self.say(f"  kind: making cluster {self.name} (about 30 s)")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.write_record({"finished": False})
        # JSON is YAML, and json.dumps accepts Ansible's string types.
        config = json.dumps({**self.config(), "name": self.name})
        command = ["create", "cluster", "--image", image, "--config", "-", "--kubeconfig", str(self.kubeconfig)]
        try:
            self.kind(*command, text=config)
        except KindError:
            # Without a record, a cluster that somebody makes by hand now is not taken for this one.
            self.absent()
            raise
        nodes = {node["Name"].lstrip("/"): node["Id"] for node in self.nodes()}
        self.write_record({"finished": True, "settings": settings, "nodes": nodes, "images": {}})

    def _load(self, images: dict[str, str]) -> None:
        """Load images. A node image from the cache has those of the control plane, so only the worker needs others."""
        self.say(f"  kind: loading {len(images)} images")
        archives = [str(image.archive) for image in self.cache.images() if image.reference in images]
        nodes = self.node_names if self.given_image else self.node_names[1:]
        self.kind("load", "image-archive", *archives, "--name", self.name, "--nodes", ",".join(nodes))
        record = self.recorded()
        self.write_record({**record, "images": {**record["images"], **images}})

    # -- removing --------------------------------------------------------------------------------------------------

    def left_over(self, nodes: list[dict[str, Any]]) -> list[str]:
        """Return the cluster's containers, with those that podman did not finish because it was killed."""
        names = [node["Name"].lstrip("/") for node in nodes]
        if self.engine.name == "podman":
            listed = json.loads(self.engine.run("ps", "--all", "--external", "--format", "json"))
            unlabelled = [item["Names"][0] for item in listed if item["State"] not in COMPLETE and not item["Labels"]]
            names += [name for name in unlabelled if name in self.node_names and name not in names]
        return sorted(names)

    def volumes(self) -> list[str]:
        """Return the volumes of the nodes. Docker's are anonymous, and are removed with their containers."""
        if self.engine.name == "docker":
            return []
        listed = [self.engine.run("volume", "ls", "--quiet", "--filter", f"label={name}") for name in self.node_names]
        return " ".join(listed).split()

    def unused_network(self, doomed: list[str]) -> list[str]:
        """Return kind's network if it exists and no other container uses it."""
        if NETWORK not in self.engine.run("network", "ls", "--format", "{{.Name}}").split():
            return []
        users = self.engine.run("ps", "--all", "--filter", f"network={NETWORK}", "--format", "{{.Names}}").split()
        return [] if set(users) - set(doomed) else [NETWORK]

    def absent(self, check: bool = False) -> dict[str, list[str]]:
        """Remove the cluster, also a half-made one, and return the names of what was removed, by subject.

        A kubeconfig that also has other clusters stays. So does kind's network while others use it.
        """
        containers = self.left_over(self.nodes())
        volumes, network = self.volumes(), self.unused_network(containers)
        files = [self.record, self.engine.settings]
        if not self.others_in_kubeconfig():
            # A killed kind leaves its lock behind, and the next one would fail on it.
            files += [self.kubeconfig, self.kubeconfig.with_name(f"{self.kubeconfig.name}.lock")]
        files = [file for file in files if file.exists()]
        if not check:
            if self.record.exists():
                # If this process is killed, the next run knows that the cluster is incomplete.
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
