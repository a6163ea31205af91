"""kind clusters: which engine, what kind is asked for, whose cluster is touched, and what is left."""

from __future__ import annotations

import copy
import datetime
import ipaddress
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.kubescale.fleet.plugins.action import kind as action
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import versioned_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import engine as engines
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import kind as module
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import signing
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.engine import Engine, KindError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.kind import Kind
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.node_image import NodeImage
from cryptography import x509
from cryptography.hazmat.primitives import hashes

NODES = ["t-control-plane", "t-worker"]
REPOSITORY = Path(__file__).resolve().parents[3]


class FakeEngine(Engine):
    """Keeps containers, volumes and networks like an engine does, and notes what it is asked to change."""

    def __init__(self, settings: Path, name="podman", unified_cgroups=False, may_raise=False):
        super().__init__(name, settings, unified_cgroups, may_raise)
        self.containers: dict[str, dict] = {}
        self.external: list[dict] = []
        self.volumes: list[str] = []
        self.networks = ["podman"]
        self.users: list[str] = []
        self.images: set[str] = set()
        self.certificate = ""
        self.done: list[list[str]] = []

    def add(self, *names, running=True):
        for name in names:
            address = f"10.89.0.{len(self.containers) + 2}"
            network = {"kind": {"IPAddress": address, "GlobalIPv6Address": "fc00::2"}}
            self.containers[name] = {
                "Id": f"id-{name}",
                "Name": name,
                "State": {"Running": running},
                "NetworkSettings": {"Networks": network},
            }

    def run(self, *arguments):
        asked = " ".join(arguments)
        if asked.startswith("ps --all --quiet"):
            return "\n".join(self.containers)
        if asked.startswith("ps --all --external"):
            return json.dumps(self.external)
        if asked.startswith("ps --all --filter network"):
            return "\n".join([*self.containers, *self.users])
        if arguments[0] == "inspect":
            return json.dumps([self.containers[name] for name in arguments[3:]])
        if asked.startswith("image ls"):
            return "1234" if arguments[-1] in self.images else ""
        if asked.startswith("volume ls"):
            return "\n".join(name for name in self.volumes if arguments[-1] == f"label={name.partition('/')[0]}")
        if asked.startswith("network ls"):
            return "\n".join(self.networks)
        if arguments[0] == "exec":
            return self.certificate if arguments[1].endswith("worker") else ""
        self.done.append(list(arguments))
        if arguments[0] == "rm":
            self.containers = {name: item for name, item in self.containers.items() if name not in arguments}
        return ""


class FakeKind(Kind):
    """A kind whose clusters are those of the fake engine."""

    fails: BaseException | None = None

    def kind(self, *arguments, text=None):
        self.engine.done.append(["kind", *arguments])
        self.text = text
        if arguments[0] == "create":
            assert not self.recorded()["finished"]
            if self.fails:
                self.engine.add(NODES[0])
                raise self.fails
            self.engine.add(*NODES)
            self.kubeconfig.write_text("clusters: [{name: kind-t}]\n")
        return ""

    def prepare_host(self, check):
        return []


@pytest.fixture
def cache(tmp_path):
    """A cache with nothing but its records."""
    cache = Cache(tmp_path / "cache", versioned_pins(None), "amd64")
    for name, recipe in cache.pins["components"].items():
        cache.component(name).mkdir(parents=True)
        files = {binary: {"sha256": f"sha of {binary}", "size": 1} for binary in recipe.get("packages", {})}
        (cache.component(name) / "manifest.json").write_text(json.dumps({"digest": name, "files": files}))
    for image in cache.images():
        image.record.parent.mkdir(exist_ok=True)
        image.record.write_text(json.dumps({"manifest": f"sha256:{image.reference}"}))
    return cache


@pytest.fixture
def engine(tmp_path):
    return FakeEngine(tmp_path / "state" / "containers.conf")


@pytest.fixture
def cluster(tmp_path, engine, cache):
    return make(tmp_path, engine, cache)


def make(tmp_path, engine, cache, image="kindest/node:v1.37.0"):
    state = tmp_path / "state"
    return FakeKind("t", state / "kubeconfig", state, engine, cache, image, say=lambda _line: None)


def test_a_new_cluster_is_made_and_gets_its_images(cluster, engine):
    done = cluster.present()
    assert done["created"] == NODES
    assert "registry.k8s.io/metrics-server/metrics-server:v0.9.0" in done["loaded"]
    assert [call[:2] for call in engine.done] == [["kind", "create"], ["kind", "load"]]
    assert engine.done[1][-1] == "t-control-plane,t-worker"
    assert cluster.recorded()["nodes"] == {name: f"id-{name}" for name in NODES}


def test_the_versions_that_deployments_ask_for_are_loaded(tmp_path, engine, monkeypatch):
    given = {"cluster": "t", "kubeconfig": str(tmp_path / "kubeconfig"), "state_dir": str(tmp_path / "state")}
    given["versions"] = {"metrics_server": {"version": "0.8.1"}}
    caches: list[Cache] = []

    class NotedKind(FakeKind):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            caches.append(self.cache)

        def present(self, check=False):
            return {}

    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args=given, check_mode=True, async_val=0, diff=False)
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    monkeypatch.setattr(action, "find_engine", lambda _settings: engine)
    monkeypatch.setattr(action, "Kind", NotedKind)
    plugin.run()
    loaded = {image.reference for image in caches[0].images({"worker"})}
    assert "registry.k8s.io/metrics-server/metrics-server:v0.8.1" in loaded
    assert "registry.k8s.io/metrics-server/metrics-server:v0.9.0" not in loaded


def test_the_role_hands_on_the_versions_as_machines_get_them():
    tasks = yaml.safe_load((REPOSITORY / "roles" / "kind" / "tasks" / "main.yml").read_text())
    machines = yaml.safe_load((REPOSITORY / "roles" / "node_prep" / "vars" / "main.yml").read_text())
    given = [task["kubescale.fleet.kind"].get("versions") for task in tasks if "kubescale.fleet.kind" in task]
    assert given == [machines["__node_prep_versions"]]


def test_an_image_without_an_archive_is_left_to_the_nodes(cluster, cache):
    image = next(image for image in cache.images() if "/metrics-server:" in image.reference)
    image.record.write_text(json.dumps({"reference": image.reference, "pull": True, "pin": "", "size": 0}))
    loaded = cluster.present()["loaded"]
    assert image.reference not in loaded and loaded


def test_a_node_image_is_not_made_of_images_without_an_archive(cache, engine):
    image = next(image for image in cache.images({"control_plane"}) if "/etcd:" in image.reference)
    image.record.write_text(json.dumps({"reference": image.reference, "pull": True, "pin": "", "size": 0}))
    with pytest.raises(
        KindError, match=r"the cache has no archive of registry\.k8s\.io/etcd:.*artifacts_source: build"
    ):
        NodeImage(cache, engine, print)


def test_a_whole_cluster_needs_nothing(cluster, engine):
    cluster.present()
    engine.done.clear()
    assert not any(cluster.present().values())
    assert engine.done == []


def test_check_mode_does_nothing(cluster, engine, tmp_path):
    assert cluster.present(check=True)["created"] == NODES
    assert engine.done == []
    assert not (tmp_path / "state").exists()


def test_stopped_nodes_are_started(cluster, engine, monkeypatch):
    cluster.present()
    engine.containers["t-worker"]["State"]["Running"] = False
    engine.done.clear()
    waited = []
    api = SimpleNamespace(wait_ready=waited.append)
    monkeypatch.setattr(module, "connect", lambda path: api)
    assert cluster.present()["started"] == ["t-worker"]
    assert engine.done == [["start", "t-worker"]]
    assert waited == [module.RESTART]


def test_an_image_that_changed_is_loaded_again(cluster, engine, cache):
    cluster.present()
    image = next(image for image in cache.images() if "demo-app" in image.reference)
    image.record.write_text(json.dumps({"manifest": "sha256:other"}))
    engine.done.clear()
    assert cluster.present()["loaded"] == [image.reference]
    assert engine.done[0][:4] == ["kind", "load", "image-archive", str(image.archive)]


def test_a_half_made_cluster_is_removed_and_made_again(cluster, engine):
    cluster.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        cluster.present()
    cluster.fails = None
    engine.done.clear()
    done = cluster.present()
    assert (done["removed"], done["created"]) == (["t-control-plane"], NODES)
    assert engine.done[0] == ["rm", "--force", "--volumes", "--time", "0", "--ignore", "t-control-plane"]


def test_a_failure_leaves_nothing(cluster, engine, tmp_path):
    cluster.fails = KindError("no room")
    with pytest.raises(KindError, match="no room"):
        cluster.present()
    assert engine.containers == {}
    assert list((tmp_path / "state").iterdir()) == []


def test_a_cluster_that_lost_a_node_is_made_again(cluster, engine):
    cluster.present()
    del engine.containers["t-worker"]
    assert cluster.present()["removed"] == ["t-control-plane"]


def test_a_cluster_of_somebody_else_is_not_touched(cluster, engine):
    engine.add(*NODES)
    with pytest.raises(KindError, match="not made from here"):
        cluster.present()
    assert engine.done == []


def test_a_cluster_that_was_replaced_by_hand_is_not_touched(cluster, engine):
    cluster.present()
    for node in engine.containers.values():
        node["Id"] = "another"
    with pytest.raises(KindError, match="not made from here"):
        cluster.present()


def test_a_cluster_is_not_replaced_because_its_image_changed(cluster, engine, cache, tmp_path):
    cluster.present()
    with pytest.raises(KindError, match="made with other settings"):
        make(tmp_path, engine, cache, image="kindest/node:v1.36.0").present()


def test_the_kubeconfig_of_other_clusters_is_not_touched(cluster, engine):
    cluster.kubeconfig.parent.mkdir()
    cluster.kubeconfig.write_text("clusters: [{name: kind-t}, {name: production}]\n")
    with pytest.raises(KindError, match="other clusters \\(production\\)"):
        cluster.present()
    assert str(cluster.kubeconfig) not in cluster.absent()["files"]
    assert cluster.kubeconfig.exists()


def test_absent_leaves_nothing_of_it(cluster, engine, tmp_path):
    cluster.present()
    engine.networks.append("kind")
    engine.volumes = ["t-control-plane/1", "t-worker/2", "other/3"]
    engine.external = [{"Names": ["t-worker"], "State": "running", "Labels": {"a": "b"}}]
    done = cluster.absent()
    assert done["nodes"] == NODES
    assert done["volumes"] == ["t-control-plane/1", "t-worker/2"]
    assert done["network"] == ["kind"]
    assert list((tmp_path / "state").iterdir()) == []
    engine.networks.remove("kind")
    engine.volumes.clear()
    engine.external.clear()
    assert not any(cluster.absent().values())


def test_absent_finds_what_was_killed_before_it_had_labels(cluster, engine):
    engine.external = [
        {"Names": ["t-worker"], "State": "unknown", "Labels": None},
        {"Names": ["mine"], "State": "unknown", "Labels": None},
    ]
    cluster.kubeconfig.parent.mkdir()
    lock = cluster.kubeconfig.with_name("kubeconfig.lock")
    lock.touch()
    done = cluster.absent()
    assert (done["nodes"], done["files"]) == (["t-worker"], [str(lock)])


def test_kinds_network_stays_while_other_clusters_use_it(cluster, engine):
    cluster.present()
    engine.networks.append("kind")
    engine.users = ["other-control-plane"]
    assert cluster.absent()["network"] == []


@pytest.mark.parametrize(("unified", "may_raise"), [(True, True), (False, False)])
def test_what_a_host_lacks_is_told_to_kind_and_podman(tmp_path, cache, unified, may_raise):
    engine = FakeEngine(tmp_path / "containers.conf", unified_cgroups=unified, may_raise=may_raise)
    config = make(tmp_path, engine, cache).config()
    (kubelet,) = map(yaml.safe_load, config["kubeadmConfigPatches"])
    assert kubelet["serverTLSBootstrap"] is True
    assert ("failCgroupV1" in kubelet) == (not unified)
    assert ("containerdConfigPatches" in config) == (not may_raise)
    engine.configure()
    assert engine.settings.exists() == (not unified)
    assert ("CONTAINERS_CONF" in engine.environment) == (not unified)


def test_only_our_node_image_goes_without_kinds_network(tmp_path, engine, cache):
    assert "disableDefaultCNI" not in make(tmp_path, engine, cache).config()["networking"]
    assert make(tmp_path, engine, cache, image="").config()["networking"]["disableDefaultCNI"] is True


def test_the_node_images_name_changes_with_its_content(engine, cache):
    name = NodeImage(cache, engine, print).name
    assert NodeImage(cache, engine, print).name == name
    record = cache.component("runc") / "manifest.json"
    record.write_text(record.read_text().replace("sha of runc", "another"))
    assert NodeImage(cache, engine, print).name != name


def test_images_in_our_node_image_are_not_loaded(tmp_path, engine, cache):
    cluster = make(tmp_path, engine, cache, image="")
    engine.images.add(NodeImage(cache, engine, print).name)
    loaded = cluster.present()["loaded"]
    assert "registry.k8s.io/coredns/coredns:v1.14.6" not in loaded
    assert engine.done[-1][-1] == "t-worker"


def certificate_for(address):
    """A certificate of a server with this address (PEM)."""
    key, now = signing.new_key(), datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(now).not_valid_after(now)
    return builder.add_extension(names, False).sign(key, hashes.SHA256()).public_bytes(signing.PEM).decode()


def test_nodes_are_described_with_what_a_certificate_may_name(cluster, engine):
    cluster.present()
    engine.certificate = certificate_for("10.89.0.3")
    assert cluster.described() == [
        {"name": "t-control-plane", "addresses": ["10.89.0.2", "fc00::2"], "serving": False},
        {"name": "t-worker", "addresses": ["10.89.0.3", "fc00::2"], "serving": True},
    ]


def test_what_the_host_lacks_is_made_and_said(tmp_path, engine, cache, monkeypatch):
    modules, said = tmp_path / "modules", []
    monkeypatch.setattr(module, "MODULES", modules)
    monkeypatch.setattr(module, "raise_inotify", lambda machines, _check, _say: [f"for {machines}"])
    engine.add("somebody")
    cluster = Kind("t", tmp_path / "kubeconfig", tmp_path, engine, cache, say=said.append)
    assert cluster.prepare_host(check=True)[1:] == ["for 3"]
    assert not modules.exists()
    (made, _inotify) = cluster.prepare_host(check=False)
    assert made in said[0]
    assert modules.is_dir()
    assert cluster.prepare_host(check=False) == ["for 3"]


def test_a_certificate_for_a_former_address_is_none(cluster, engine):
    cluster.present()
    engine.certificate = certificate_for("10.89.0.9")
    assert [node["serving"] for node in cluster.described()] == [False, False]


def test_a_second_run_waits_for_the_first(cluster):
    """A worker of Ansible outlives a run that was killed, and goes on."""
    said, order = threading.Event(), []
    other = copy.copy(cluster)
    other.say = lambda _line: said.set()

    def second_run():
        with other.alone():
            order.append("second")

    with cluster.alone():
        thread = threading.Thread(target=second_run)
        thread.start()
        assert said.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_an_engine_that_kind_has_not_is_named(tmp_path):
    with pytest.raises(KindError, match="KIND_EXPERIMENTAL_PROVIDER is 'lxc'; allowed are docker and podman"):
        engines.find_engine(tmp_path, {"KIND_EXPERIMENTAL_PROVIDER": "lxc"})


def test_a_command_that_fails_tells_the_end_of_what_it_said():
    with pytest.raises(KindError, match=r"sh -c .* failed:\nlast words"):
        engines.run(["sh", "-c", "echo last words >&2; exit 1"], {"PATH": "/bin"})
