"""Lookups: a folder of the cache, and a password that is made once."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible_collections.kubescale.fleet.plugins.lookup import kept_secret
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import ApiError


def kept(kubeconfig: Path) -> str:
    lookup = lookup_loader.get("kubescale.fleet.kept_secret")
    return lookup.run(["password"], kubeconfig=str(kubeconfig), namespace="monitoring", name="grafana")[0]


class Cluster:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, *_what: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.touch()
    return path


def test_what_the_cluster_keeps_is_returned(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"data": {"password": base64.b64encode(b"as before").decode()}}
    monkeypatch.setattr(kept_secret, "connect", lambda _path: Cluster(found))
    assert kept(kubeconfig) == "as before"


def test_without_it_each_value_is_new(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_secret, "connect", lambda _path: Cluster(None))
    values = {kept(kubeconfig), kept(kubeconfig), kept(kubeconfig.with_name("missing"))}
    assert len(values) == 3
    assert all(len(value) == 24 and value.isalnum() for value in values)


def test_a_cluster_that_does_not_answer_never_gets_a_new_value(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_secret, "connect", lambda _path: Cluster(ApiError("no answer")))
    with pytest.raises(AnsibleLookupError, match="monitoring/grafana: no answer"):
        kept(kubeconfig)


def test_a_components_folder_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBESCALE_CACHE", str(tmp_path))
    (folder,) = lookup_loader.get("kubescale.fleet.artifact").run(["prometheus_operator"])
    assert Path(folder).is_relative_to(tmp_path / "artifacts" / "prometheus_operator")


def test_an_unknown_component_is_named() -> None:
    with pytest.raises(AnsibleLookupError, match="'prometheus_operater'"):
        lookup_loader.get("kubescale.fleet.artifact").run(["prometheus_operater"])
