"""Where parts come from: what each source makes of the pins, versions that were given, and mirrors on machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import artifact_sources
import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.modules import machine_artifacts
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts import sources
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.build import Builder
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache, Step
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import (
    ArtifactError,
    load_pins,
    machine_architecture,
    versioned_pins,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import paths
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import preflight
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.preflight import Setting

GIVEN = "0123456789abcdef" * 4
KUBERNETES = {"amd64": dict.fromkeys(("kubeadm", "kubectl", "kubelet"), GIVEN)}
# What has no checksum in the pins.
UNPINNED = {
    "kubernetes": {"version": "1.37.0", "sha256": KUBERNETES},
    "prometheus_operator": {"version": "0.93.0", "sha256": {"amd64": GIVEN}},
}
CONTAINERD = "containerd-static-2.3.9-linux-amd64.tar.gz"
HOSTS = ("dl.k8s.io", "github.com", "registry.k8s.io", "ghcr.io", "quay.io")
MIRRORS = {host: f"https://mirror.example/{host}" for host in HOSTS}


def request_for(directory: Path, versions: dict[str, Any] | None = None, **mirrors: str) -> sources.Request:
    cache = Cache(directory, versioned_pins(versions), "amd64")
    return sources.Request(Builder(cache), mirrors)


def make(step: Step) -> None:
    """Put into the cache what tells that a step is made."""
    step.record.parent.mkdir(parents=True, exist_ok=True)
    if step.product.suffix == ".tar":
        step.product.touch()
    step.record.write_text(json.dumps({"digest": step.digest}), encoding="utf-8")


def kinds(plan: sources.Plan) -> dict[str, str]:
    return {step.name: step.kind for step in plan.steps}


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The hosts that answer; a test may take some away."""
    there = set(HOSTS)
    monkeypatch.setattr(sources, "answering", lambda hosts, _mirrors: hosts & there)
    return there


def test_pins_of_downloads_are_whole() -> None:
    pins = load_pins()
    for name, recipe in pins["components"].items():
        for item in recipe.get("downloads", []):
            assert set(item["sha256"]) in (set(), {"amd64", "arm64"}), name
            assert all(len(value) == 64 for value in item["sha256"].values()), name
    for name, item in pins["machine_files"].items():
        recipe = pins["components"][item["component"]]
        found = {
            file
            for entry in recipe.get("downloads", [])
            for file in entry.get("members") or [entry.get("file") or entry["url"].rsplit("/", 1)[1]]
        }
        assert set(item["binaries"]) <= found or "downloads" not in recipe, name


def test_what_can_be_downloaded_is_no_part_of_a_builds_digest(tmp_path: Path) -> None:
    before = {step.name: step.digest for step in request_for(tmp_path).builder.steps()}
    pins = versioned_pins({"runc": {"version": "1.4.3", "sha256": {"amd64": GIVEN}}})
    digest = {"registry.k8s.io/pause": f"sha256:{GIVEN}"}
    pins = versioned_pins({"pause": {"version": "3.10.2", "digests": digest}}) | {"components": pins["components"]}
    builder = Builder(Cache(tmp_path, pins, "amd64"))
    assert {step.name: step.digest for step in builder.steps()} == before


def test_upstream_downloads_files_and_leaves_images_to_machines(tmp_path: Path) -> None:
    plan = kinds(sources.upstream(request_for(tmp_path, UNPINNED)))
    assert plan["kubernetes 1.37.0"] == "fetch"
    assert plan["image registry.k8s.io/kube-proxy:v1.37.0"] == "note"
    assert plan["image localhost/kubescale/demo-app:0.1.0"] == plan["layer python"] == "build"
    assert not {"coredns 1.14.6", "layer network"} & set(plan)


def test_upstream_says_how_to_give_a_checksum(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as raised:
        sources.upstream(request_for(tmp_path, {"runc": {"version": "1.4.9"}}))
    url = "https://github.com/opencontainers/runc/releases/download/v1.4.9/runc.amd64"
    how = f"artifacts_versions: {{runc: {{version: 1.4.9, sha256: {{amd64: {{runc.amd64: <SHA-256 of {url}>}}}}}}}}"
    assert how in str(raised.value)


def test_mirror_wants_one_for_every_host(tmp_path: Path) -> None:
    some = {host: url for host, url in MIRRORS.items() if host not in ("ghcr.io", "github.com")}
    with pytest.raises(ArtifactError, match=r"artifacts_mirrors has no mirror of ghcr\.io, github\.com"):
        sources.mirror(request_for(tmp_path, **some))
    assert sources.mirror(request_for(tmp_path, UNPINNED, **MIRRORS)).steps


def test_build_refuses_versions_that_it_cannot_make(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="artifacts_versions sets another one of runc"):
        sources.build(request_for(tmp_path, {"runc": {"version": "1.4.9"}}))


def test_auto_takes_what_was_built_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "answering", lambda *_: pytest.fail("asked"))
    request = request_for(tmp_path)
    for step in request.builder.steps():
        make(step)
    plan = sources.auto(request)
    assert [step.name for step in plan.steps if not step.is_made()] == []
    assert plan.why == ""


def test_auto_takes_what_was_downloaded_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "answering", lambda *_: pytest.fail("asked"))
    request = request_for(tmp_path, UNPINNED)
    for step in sources.upstream(request).steps:
        make(step)
    assert [step.name for step in sources.auto(request).steps if not step.is_made()] == []


def test_auto_fetches_what_has_a_checksum_and_builds_the_rest(tmp_path: Path, online: set[str]) -> None:
    plan = sources.auto(request_for(tmp_path))
    kind = kinds(plan)
    assert kind["containerd 2.3.4"] == "fetch"
    assert kind["image registry.k8s.io/kube-apiserver:v1.37.0"] == "note"
    assert kind["kubernetes 1.37.0"] == "build"
    assert "build (no checksum is known): kubernetes 1.37.0" in plan.why
    assert "upstream (it answers): cni_flannel 0.9.1, cni_plugins 1.9.1, containerd 2.3.4 and " in plan.why
    online.discard("quay.io")
    kind = kinds(sources.auto(request_for(tmp_path)))
    assert kind["image quay.io/prometheus/alertmanager:v0.31.1"] == kind["alertmanager 0.31.1"] == "build"
    assert kind["image ghcr.io/flannel-io/flannel:v0.28.4"] == "note"


def test_auto_builds_everything_where_nothing_answers(tmp_path: Path, online: set[str]) -> None:
    online.clear()
    request = request_for(tmp_path)
    assert kinds(sources.auto(request)) == {step.name: step.kind for step in request.builder.steps()}


def test_auto_does_not_build_a_version_that_was_given(tmp_path: Path, online: set[str]) -> None:
    online.clear()
    with pytest.raises(ArtifactError, match=r"runc 1\.4\.9: no checksum is known"):
        sources.auto(request_for(tmp_path, {"runc": {"version": "1.4.9"}}))
    kind = kinds(sources.auto(request_for(tmp_path, {"metrics_server": {"version": "0.9.9"}})))
    assert kind["image registry.k8s.io/metrics-server/metrics-server:v0.9.9"] == "note"


def test_a_version_is_given_with_its_checksum() -> None:
    pins = versioned_pins(
        {
            "runc": {"version": "1.4.9", "sha256": {"arm64": GIVEN}},
            "containerd": {"version": "2.3.9", "sha256": {"amd64": {CONTAINERD: GIVEN}}},
            "pause": {"version": "3.11", "digests": {"registry.k8s.io/pause": f"sha256:{GIVEN}"}},
        }
    )
    assert pins["components"]["runc"]["downloads"][0]["sha256"] == {"arm64": GIVEN}
    assert pins["components"]["containerd"]["downloads"][0]["sha256"] == {"amd64": GIVEN}
    assert next(image["digest"] for image in pins["images"] if image["component"] == "pause") == f"sha256:{GIVEN}"
    assert "given" not in load_pins()["components"]["runc"]


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ({"run": {"version": "1"}}, "artifacts_versions.run: is none of alertmanager, cni_flannel"),
        ({"demo_app": {"version": "1"}}, "artifacts_versions.demo_app: is none of"),
        ({"runc": "1.4.9"}, "artifacts_versions.runc = '1.4.9': must be a dictionary with version"),
        ({"pause": {"version": 3.11}}, "artifacts_versions.pause.version = 3.11: must be a version in quotes"),
        ({"runc": {"version": "v1.4.9"}}, "must be a version in quotes, without v"),
        ({"runc": {"version": "1.4.9", "sha": "x"}}, "must be a dictionary with version"),
        ({"runc": {"version": "1.4.9", "sha256": {"x86": GIVEN}}}, "sha256.x86: is none of amd64, arm64"),
        ({"runc": {"version": "1.4.9", "sha256": {"amd64": "1234"}}}, "runc.amd64 = '1234': must be 64 hexadecimal"),
        ({"kubernetes": {"version": "1.37.1", "sha256": {"amd64": GIVEN}}}, "the SHA-256 of kubeadm, kubectl, kubelet"),
        (
            {"containerd": {"version": "2.3.9", "sha256": {"amd64": {"containerd": GIVEN}}}},
            f"the SHA-256 of {CONTAINERD}",
        ),
        ({"pause": {"version": "3.11", "sha256": {"amd64": GIVEN}}}, "this component is an image only"),
        ({"pause": {"version": "3.11", "digests": {"pause": "x"}}}, "digests.pause: is none of registry.k8s.io/pause"),
        (
            {"pause": {"version": "3.11", "digests": {"registry.k8s.io/pause": "x"}}},
            "must be sha256: and 64 hexadecimal",
        ),
    ],
)
def test_versions_that_are_wrong(versions: dict[str, Any], text: str) -> None:
    with pytest.raises(ArtifactError) as raised:
        versioned_pins(versions)
    assert text in str(raised.value)


def check(source: str, mirrors: dict[str, str], versions: dict[str, Any]) -> list[str]:
    return preflight.check_artifacts(
        Setting("artifacts_source", source),
        Setting("artifacts_mirrors", mirrors, "all.yml:3"),
        Setting("artifacts_versions", versions),
    )


def test_preflight_checks_where_parts_come_from() -> None:
    assert check("auto", {}, {}) == []
    assert check("mirror", MIRRORS, UNPINNED) == []
    (wrong,) = check("auto", {"ghcr.io": "mirror.example"}, {})
    assert wrong.startswith("artifacts_mirrors[ghcr.io] = 'mirror.example' (all.yml:3): must be a URL")
    assert "artifacts_mirrors has no mirror of" in check("mirror", {}, {})[0]
    assert "artifacts_versions: {kubernetes:" in check("upstream", {}, {})[0]
    assert "artifacts_versions.run" in check("build", {}, {"run": {}})[0]


def test_a_source_decides_whether_it_is_checked_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_request: sources.Request) -> sources.Plan:
        raise ArtifactError("a host is missing")

    monkeypatch.setitem(sources.SOURCES, "early", sources.Source(refuse, is_checked_early=True))
    monkeypatch.setitem(sources.SOURCES, "late", sources.Source(refuse))
    assert check("early", {}, {}) == ["a host is missing"]
    assert check("late", {}, {}) == []


def test_every_source_is_a_choice_and_documented() -> None:
    assert artifact_sources.pages() == {file: file.read_text() for file in artifact_sources.pages()}, "run: make docs"
    spec = yaml.safe_load((paths.COLLECTION / "roles/artifacts/meta/argument_specs.yml").read_text())
    option = spec["argument_specs"]["main"]["options"]["artifacts_source"]
    assert option["choices"] == [*sources.SOURCES]
    page = (paths.COLLECTION / "docs/artifacts.md").read_text()
    table = page[page.index("| `artifacts_source` |") :].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE)[1:] == [*sources.SOURCES]


def test_all_hosts_of_a_cluster_say_the_same() -> None:
    settings = [Setting("artifacts_source", "auto", "default"), Setting("artifacts_source", "mirror", "x.yml:1")]
    assert preflight.check_same(settings[:1] * 2) == []
    assert "another host of the cluster has artifacts_source = 'auto'" in preflight.check_same(settings)[0]


@pytest.mark.parametrize(
    ("mirror", "lines"),
    [
        ("http://10.0.0.1:5000", ['server = "http://10.0.0.1:5000"']),
        ("https://harbor.example/k8s/", ['server = "https://harbor.example/v2/k8s"', "override_path = true"]),
    ],
)
def test_a_mirror_in_containerds_words(mirror: str, lines: list[str]) -> None:
    text = machine_artifacts.registry_file(mirror).splitlines()
    assert text[0] == machine_artifacts.REGISTRY_MARK
    assert set(lines) <= set(text)
    assert ("override_path = true" in text) == ("override_path = true" in lines)


def test_mirrors_come_and_go_and_others_files_stay(tmp_path: Path) -> None:
    foreign = tmp_path / "docker.io" / "hosts.toml"
    foreign.parent.mkdir()
    foreign.write_text("server = 'https://else.example'", encoding="utf-8")
    one = {"ghcr.io": "http://one.example"}
    assert list(machine_artifacts.change_registries(one, tmp_path, check=True)) == ["ghcr.io"]
    assert not (tmp_path / "ghcr.io").exists()
    assert list(machine_artifacts.change_registries(one, tmp_path, check=False)) == ["ghcr.io"]
    assert machine_artifacts.change_registries(one, tmp_path, check=False) == {}
    assert list(machine_artifacts.change_registries({}, tmp_path, check=False)) == ["ghcr.io"]
    assert [path.name for path in tmp_path.iterdir()] == ["docker.io"]
    with pytest.raises(machine_artifacts.RegistryConflictError, match=r"docker\.io"):
        machine_artifacts.change_registries({"docker.io": "http://one.example"}, tmp_path, check=False)


def test_a_machine_of_another_architecture_is_told_what_to_do(tmp_path: Path) -> None:
    other, name = ("aarch64", "arm64") if machine_architecture() == "amd64" else ("x86_64", "amd64")
    done = subprocess.run(
        ["ansible", "localhost", "-m", "kubescale.fleet.node_artifacts", "-a", f"binaries=runc architecture={other}"],
        cwd=paths.COLLECTION,
        env={**os.environ, "KUBESCALE_CACHE": str(tmp_path), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    for text in (f"1.4.3-{name} is not in the cache", f"This machine is {name}", f"on an {name} machine"):
        assert text in done.stdout + done.stderr
