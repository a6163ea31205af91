"""The playbook artifacts against a mirror that serves what was built: the cache is filled, checked, and left alone."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mirror_servers
import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.cache import Cache, file_digest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.artifacts.pins import machine_architecture, versioned_pins
from playbook_runs import Run, run_playbook

DOWNLOADS = ("dl.k8s.io", "github.com")
REGISTRIES = ("registry.k8s.io", "ghcr.io", "quay.io")


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The variables of a site with a mirror, which runs."""
    files = tmp_path_factory.mktemp("mirror")
    versions = mirror_servers.lay_out(files)
    handler = functools.partial(Silent, directory=str(files))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirrors = dict.fromkeys(DOWNLOADS, f"http://127.0.0.1:{server.server_port}")
    mirrors |= dict.fromkeys(REGISTRIES, "http://127.0.0.1:5000")
    yield {"artifacts_source": "mirror", "artifacts_versions": versions, "artifacts_mirrors": mirrors}
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache for the run, with this project's own images, which no mirror has."""
    monkeypatch.setenv("KUBESCALE_PARTS", os.environ.get("KUBESCALE_CACHE", ""))
    monkeypatch.setenv("KUBESCALE_CACHE", str(tmp_path / "cache"))
    mirror_servers.seed(tmp_path / "cache")
    return Cache(tmp_path / "cache", versioned_pins(None), machine_architecture())


def fill(site: dict[str, Any], *arguments: str, **changes: Any) -> Run:
    return run_playbook("artifacts", "--extra-vars", json.dumps(site | changes), *arguments)


def test_a_mirror_fills_the_cache_once(site: dict[str, Any], cache: Cache) -> None:
    assert fill(site, "--check").total("changed") == 1
    assert not (cache.directory / "artifacts").exists()
    first = fill(site)
    assert first.returncode == 0, first.output
    assert first.total("changed") == 1
    for item in cache.machine_files(list(cache.pins["machine_files"])):
        built = mirror_servers.parts().directory / item["source"]
        assert item["sha256"] == file_digest(built), item["destination"]
    assert list((cache.component("prometheus_operator") / "crds").glob("*.yaml"))
    assert all(cache.recorded(image.record)["pull"] for image in cache.images() if not image.is_own)
    assert fill(site).total("changed") == 0
    # What is there is taken, wherever it came from, and nobody is asked.
    assert fill(site, artifacts_source="auto", artifacts_mirrors={}).total("changed") == 0


def test_a_file_that_was_changed_is_refused(site: dict[str, Any], cache: Cache) -> None:
    wrong = {**site["artifacts_versions"], "runc": {"version": "1.4.3", "sha256": {cache.architecture: "0" * 64}}}
    run = fill(site, artifacts_versions=wrong)
    assert run.returncode
    path = f"opencontainers/runc/releases/download/v1.4.3/runc.{cache.architecture}"
    url = f"{site['artifacts_mirrors']['github.com']}/{path}"
    for text in (
        url,
        "0" * 64,
        site["artifacts_versions"]["runc"]["sha256"][cache.architecture][f"runc.{cache.architecture}"],
    ):
        assert text in run.messages()
    assert not cache.component("runc").exists()


def test_a_version_that_the_mirror_has_not(site: dict[str, Any], cache: Cache) -> None:
    newer = {"version": "1.4.9", "sha256": {cache.architecture: "0" * 64}}
    run = fill(site, artifacts_versions={**site["artifacts_versions"], "runc": newer})
    assert "/v1.4.9/runc." in run.messages()
    assert "404" in run.messages()


def test_a_host_without_mirror_is_named_before_anything_is_fetched(site: dict[str, Any], cache: Cache) -> None:
    mirrors = {host: url for host, url in site["artifacts_mirrors"].items() if host != "quay.io"}
    run = fill(site, artifacts_mirrors=mirrors)
    assert "artifacts_mirrors has no mirror of quay.io" in run.messages()
    assert not (cache.directory / "artifacts").exists()
