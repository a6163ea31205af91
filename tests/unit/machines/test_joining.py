"""Joining: kubeconfig, tokens, and which kubelet certificates are approved."""

from __future__ import annotations

import base64
import datetime
import re

import yaml
from ansible_collections.kubescale.fleet.plugins.action.cluster_facts import cluster_facts
from ansible_collections.kubescale.fleet.plugins.module_utils.node import certificate_digest
from ansible_collections.kubescale.fleet.plugins.modules import kubeadm
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.files import replace_file
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Event
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import joining
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.joining import (
    JoinToken,
)

ADMIN = {
    "clusters": [{"name": "kubernetes", "cluster": {"certificate-authority-data": "Q0E=", "server": "https://x:6443"}}],
    "users": [{"name": "kubernetes-admin", "user": {"client-certificate-data": base64.b64encode(b"PEM").decode()}}],
}


class TokenApi:
    def __init__(self):
        self.calls = []

    def request(self, method, path, body=None):
        self.body = body
        self.calls.append((method, path))
        return 200, {}

    def delete(self, _api, kind, name, namespace=None):
        self.calls.append(("DELETE", f"{kind}/{name}"))

    def watch(self, *_, **__):
        yield Event("ADDED", {"data": {}})
        yield Event("MODIFIED", {"data": {f"jws-kubeconfig-{self.body['stringData']['token-id']}": "x"}})


def test_a_token_ends_with_the_task_and_soon_after_without():
    api = TokenApi()
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    with JoinToken(api, "w1", now=lambda: now) as token:
        assert api.body["stringData"]["expiration"] == "2030-01-01T00:15:00Z"
        assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token)
        assert token == f"{api.body['stringData']['token-id']}.{api.body['stringData']['token-secret']}"
    assert api.calls[-1] == ("DELETE", f"Secret/bootstrap-token-{token.split('.')[0]}")


def test_no_two_tokens_are_the_same():
    tokens = [JoinToken(TokenApi(), "w1") for _ in range(2)]
    assert len({part for token in tokens for part in (token.identifier, token.secret)}) == 4


def test_the_kubeconfig_comes_home_under_the_clusters_name(tmp_path):
    path = tmp_path / "state" / "kubeconfig"
    digest = certificate_digest("PEM")
    assert not joining.is_home(path, digest, "https://10.0.0.1:6443")
    path.parent.mkdir()
    replace_file(path, joining.home_kubeconfig(yaml.safe_dump(ADMIN), "demo", "https://10.0.0.1:6443"), 0o600)
    assert joining.is_home(path, digest, "https://10.0.0.1:6443")
    assert not joining.is_home(path, digest, "https://10.0.0.2:6443")
    assert not joining.is_home(path, certificate_digest("NEW"), "https://10.0.0.1:6443")
    path.chmod(0o644)
    assert not joining.is_home(path, digest, "https://10.0.0.1:6443")
    path.write_text("{")
    assert not joining.is_home(path, digest, "https://10.0.0.1:6443")
    content = yaml.safe_load(joining.home_kubeconfig(yaml.safe_dump(ADMIN), "demo", "https://10.0.0.1:6443"))
    assert content["current-context"] == "demo"
    assert joining.endpoint(content) == "10.0.0.1:6443"


def test_only_what_is_wanted_and_missing_counts_as_different():
    live = {"networking": {"podSubnet": "a", "dnsDomain": "cluster.local"}, "apiServer": {}}
    wanted = {"networking": {"podSubnet": "b"}, "apiServer": {"certSANs": []}}
    assert joining.missing_settings(wanted, live) == {"networking.podSubnet": ("a", "b")}
    assert joining.missing_settings({"apiServer": {"certSANs": ["x"]}}, live) == {"apiServer.certSANs": (None, ["x"])}


def test_a_joining_machine_is_told_whom_to_trust():
    parameters = {"token": "t", "ca_hash": "sha256:1", "endpoint": "h:1", "certificate_key": "k"}
    document = {"kind": "JoinConfiguration", "controlPlane": {"localAPIEndpoint": {}}}
    assert kubeadm.complete(document, parameters) == {
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {"apiServerEndpoint": "h:1", "token": "t", "caCertHashes": ["sha256:1"]}},
        "controlPlane": {"localAPIEndpoint": {}, "certificateKey": "k"},
    }
    init = {"kind": "InitConfiguration"}
    assert kubeadm.complete(init, parameters) == {**init, "certificateKey": "k"}
    assert kubeadm.complete(init, {**parameters, "certificate_key": None}) == init
    assert kubeadm.complete({"kind": "KubeletConfiguration"}, parameters) == {"kind": "KubeletConfiguration"}


def test_cluster_facts():
    configuration = {
        "controlPlaneEndpoint": "10.0.0.1:6443",
        "networking": {"podSubnet": "a", "serviceSubnet": "b"},
        "kubernetesVersion": "v1.2.3",
    }
    facts = {"host": "10.0.0.1", "port": "6443", "pod_network": "a", "service_network": "b", "version": "1.2.3"}
    assert cluster_facts(configuration) == facts
    assert set(cluster_facts({}).values()) == {""}
