"""Machines get everything through the mirror, and say so when it is down."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import mirror_servers
import pytest
import testinfra
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from playbook_runs import REPOSITORY, run_playbook
from testinfra.host import Host

FOLDER = REPOSITORY / ".state" / "mirror-servers"
ADDRESS = "10.89.86.1"
CONTROL_PLANE, WORKER = "10.89.86.11", "10.89.86.12"
# An image that no running pod of the worker needs yet.
IDLE = "quay.io/prometheus/alertmanager"
# An image that is in the registry under this name only, and in nobody's cache.
POD_IMAGE = "ghcr.io/mirror-test/pause:1"


def requests() -> set[tuple[str, str]]:
    """What the registry was asked and served: the asking machine's address, and the path."""
    lines = (FOLDER / "registry.log").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        (entry["http.request.remoteaddr"].rsplit(":", 1)[0], entry["http.request.uri"].split("?")[0])
        for entry in entries
        if entry.get("http.response.status") == 200
    }


def manifest_path(reference: str, digest: str = "") -> str:
    """The path that a registry serves an image's manifest at."""
    repository, tag = reference.split("/", 1)[1].rsplit(":", 1)
    return f"/v2/{repository}/manifests/{digest or tag}"


@pytest.fixture(scope="module", autouse=True)
def site() -> Iterator[None]:
    """The environment that the scenario's runs have: Molecule gives it to them, not to their verifier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBESCALE_PARTS", os.environ.get("KUBESCALE_PARTS", os.environ.get("KUBESCALE_CACHE", "")))
        patch.setenv("KUBESCALE_CACHE", str(FOLDER / "cache"))
        patch.setenv("KUBESCALE_STATE_DIR", str(REPOSITORY / ".state"))
        yield


@pytest.fixture(scope="module")
def worker() -> Host:
    """The worker machine."""
    return testinfra.get_host("podman://mirror-w1")


@pytest.fixture
def registry_runs() -> Iterator[None]:
    """The registry runs before and after the test, whatever the test does."""
    yield
    mirror_servers.stop(FOLDER, mirror_servers.REGISTRY)
    mirror_servers.start(FOLDER, ADDRESS, mirror_servers.REGISTRY)


@pytest.mark.parametrize(("kind", "address"), [("control_plane", CONTROL_PLANE), ("worker", WORKER)])
def test_each_machine_pulled_the_images_of_its_kind_and_no_other(kind: str, address: str) -> None:
    images = mirror_servers.parts().images({kind})
    wanted = {
        manifest_path(image.reference)
        for image in images
        if not image.is_own and image.recipe["component"] not in mirror_servers.BY_DIGEST
    }
    served = {path for asking, path in requests() if asking == address and "/manifests/sha256" not in path}
    assert {path for path in served if "/manifests/" in path} - {manifest_path(POD_IMAGE)} == wanted


def test_an_image_with_a_digest_was_asked_for_by_it(worker: Host) -> None:
    cache = mirror_servers.parts()
    for image in cache.images({"worker"}):
        if image.recipe["component"] in mirror_servers.BY_DIGEST:
            digest = cache.recorded(image.record)["manifest"]
            assert (WORKER, manifest_path(image.reference, digest)) in requests()
            present = worker.check_output("ctr --namespace k8s.io images list --quiet").split()
            assert [name for name in present if name.startswith(image.recipe["repository"] + ":")] == [image.reference]


def test_the_projects_own_images_were_transferred(worker: Host) -> None:
    present = worker.check_output("ctr --namespace k8s.io images list --quiet").split()
    assert {image.reference for image in mirror_servers.parts().images() if image.is_own} <= set(present)


def test_machines_do_not_see_the_cache(worker: Host) -> None:
    assert not worker.file("/var/cache/kubescale").exists


def test_binaries_came_from_the_mirror(worker: Host) -> None:
    cache = Cache(FOLDER / "cache", versioned_pins(None), machine_architecture())
    recipes = cache.pins["components"]
    # The others are for kind's nodes.
    names = [name for name, item in cache.pins["machine_files"].items() if "downloads" in recipes[item["component"]]]
    for item in cache.machine_files(names):
        assert worker.file(item["destination"]).sha256sum == item["sha256"]


def test_an_image_of_a_pod_comes_through_the_mirror() -> None:
    api = kube.connect(REPOSITORY / ".state" / "mirror" / "kubeconfig")
    images = mirror_servers.parts().images()
    (pause,) = [image for image in images if image.reference.startswith("registry.k8s.io/pause:")]
    mirror_servers.copy_image(pause.archive, ADDRESS, POD_IMAGE)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pulls", "namespace": "default"},
        "spec": {
            "nodeName": "mirror-w1",
            "containers": [{"name": "pause", "image": POD_IMAGE, "imagePullPolicy": "Always"}],
        },
    }
    api.apply(pod, "test")
    try:
        events = api.watch("v1", "Pod", "default", field_selector="metadata.name=pulls", timeout=120)
        states = (event.object.get("status", {}).get("containerStatuses", [{}])[0] for event in events)
        assert next((state for state in states if state.get("ready")), None), "the pod did not start within 120 s"
        assert (WORKER, manifest_path(POD_IMAGE)) in requests()
    finally:
        api.delete("v1", "Pod", "pulls", "default")


@pytest.mark.usefixtures("registry_runs")
def test_a_registry_that_is_down_is_named_and_a_second_run_heals(worker: Host) -> None:
    (image,) = [image for image in mirror_servers.parts().images() if image.reference.startswith(f"{IDLE}:")]
    worker.check_output(f"ctr --namespace k8s.io images remove {image.reference}")
    predicted = run_playbook("nodes", "--check")
    assert predicted.total("changed") == 1
    mirror_servers.stop(FOLDER, mirror_servers.REGISTRY)
    down = run_playbook("nodes")
    assert down.returncode
    for text in (image.reference, "quay.io", f"{ADDRESS}:{mirror_servers.REGISTRY_PORT}", "connection refused"):
        assert text in down.messages()
    mirror_servers.start(FOLDER, ADDRESS, mirror_servers.REGISTRY)
    healed = run_playbook("nodes")
    assert healed.returncode == 0, healed.output
    assert healed.total("changed") == 1
    assert image.reference in worker.check_output("ctr --namespace k8s.io images list --quiet").split()


def test_the_cache_has_no_image_of_upstream() -> None:
    archives = {path.name for path in Path(FOLDER / "cache" / "images").glob("*.tar")}
    assert archives
    assert all(name.startswith("localhost_") for name in archives)
