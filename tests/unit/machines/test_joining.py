"""Joining: kubeconfig, tokens, and which kubelet certificates are approved."""

from __future__ import annotations

import base64
import datetime
import ipaddress

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.action.cluster_facts import cluster_facts
from ansible_collections.kubescale.fleet.plugins.module_utils.node import certificate_digest
from ansible_collections.kubescale.fleet.plugins.modules import kubeadm
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.files import replace_file
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Event, Listing
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import joining
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.joining import (
    JoinError,
    JoinToken,
    LateError,
    ServingCertificates,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

KEY = ec.generate_private_key(ec.SECP256R1())
ADMIN = {
    "clusters": [{"name": "kubernetes", "cluster": {"certificate-authority-data": "Q0E=", "server": "https://x:6443"}}],
    "users": [{"name": "kubernetes-admin", "user": {"client-certificate-data": base64.b64encode(b"PEM").decode()}}],
}


def csr(name="w1", organization="system:nodes", sans=("w1", "10.0.0.2"), **spec):
    """A request as a kubelet makes it, with what is to be wrong."""
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"))
    names = []
    for san in sans:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)
    return {
        "metadata": {"name": "csr-1", "uid": "1"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": joining.SERVING_SIGNER,
            "username": "system:node:w1",
            "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
            **spec,
        },
        "status": {},
    }


def test_a_request_that_matches_the_inventory_is_approved():
    assert joining.refusal(csr(), "w1", ["10.0.0.2", "10.0.0.3"]) == ""


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (csr(username="system:node:w2"), "made by system:node:w2"),
        (csr(groups=["system:authenticated"]), "not by the node"),
        (csr(usages=["digital signature", "client auth"]), "client auth"),
        (csr(name="w2"), "subject"),
        (csr(organization="system:masters"), "subject"),
        (csr(sans=("w1", "kubernetes.default")), "kubernetes.default"),
        (csr(sans=("w1", "10.0.0.9")), "10.0.0.9"),
        (csr(sans=()), "no host and no address"),
    ],
)
def test_a_request_for_anything_else_is_refused(request_, why):
    assert why in joining.refusal(request_, "w1", ["10.0.0.2"])


class FakeApi:
    """Keeps requests like the API server does, and signs what is approved at once."""

    def __init__(self, requests=(), late=()):
        self.requests = list(requests)
        self.late = list(late)
        self.calls = []

    def list(self, *_, **__):
        return Listing(self.requests, "1")

    def watch(self, *_, **__):
        for request in [*self.requests, *self.late]:
            yield Event("ADDED", request)
            if joining.condition(request) == "Approved":
                yield Event("MODIFIED", {**request, "status": {**request["status"], "certificate": "x"}})

    def request(self, method, path, body=None):
        self.calls.append((method, path))
        if path.endswith("/approval"):
            for request in [*self.requests, *self.late]:
                request["status"] = body["status"]
        return 200, {}

    def delete(self, _api, kind, name, namespace=None):
        self.calls.append(("DELETE", f"{kind}/{name}"))


def test_the_request_of_a_new_kubelet_is_waited_for():
    api = FakeApi(late=[csr()])
    assert ServingCertificates(api, "w1", ["10.0.0.2"]).wait_and_approve(5) == 1
    assert api.calls == [("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/csr-1/approval")]


def test_a_certificate_for_a_former_address_does_not_end_the_wait():
    former = csr(sans=("w1", "10.0.0.9"))
    former["status"] = {"conditions": [{"type": "Approved"}], "certificate": "x"}
    assert ServingCertificates(FakeApi([former], late=[csr()]), "w1", ["10.0.0.2"]).wait_and_approve(5) == 1


def test_a_refused_request_says_why():
    api = FakeApi([csr(sans=("evil",))])
    box = ServingCertificates(api, "w1", ["10.0.0.2"])
    with pytest.raises(JoinError, match="csr-1 is not approved: it asks for evil"):
        box.approve(box.pending()[0])
    assert api.calls == []


def test_only_waiting_requests_of_the_node_are_pending():
    done = csr()
    done["status"] = {"conditions": [{"type": "Approved"}]}
    api = FakeApi([done, csr(username="system:node:w2"), csr()])
    assert len(ServingCertificates(api, "w1", []).pending()) == 1


def test_requests_of_a_machine_that_is_gone_are_forgotten():
    api = FakeApi([csr(), csr(username="system:node:w2")])
    ServingCertificates(api, "w1", []).forget()
    assert api.calls == [("DELETE", "CertificateSigningRequest/csr-1")]


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "has not asked for its serving certificate"),
        (
            [{"type": "Approved", "message": "by us"}],
            "csr-1 is Approved (Approved: by us). Does",
        ),
        ([{"type": "Denied", "message": "no"}], "csr-1 is Denied (Denied: no)."),
    ],
)
def test_a_certificate_that_does_not_come_says_how_far_it_is(requests, words):
    late = csr()
    late["status"]["conditions"] = requests
    api = FakeApi([late] if requests else [])
    api.watch = lambda *_, **__: iter(())
    with pytest.raises(LateError) as caught:
        ServingCertificates(api, "w1", ["10.0.0.2"]).wait_and_approve(0.01)
    assert words in str(caught.value)


class TokenApi(FakeApi):
    def request(self, method, path, body=None):
        self.body = body
        return super().request(method, path)

    def watch(self, *_, **__):
        yield Event("ADDED", {"data": {}})
        yield Event("MODIFIED", {"data": {f"jws-kubeconfig-{self.body['stringData']['token-id']}": "x"}})


def test_a_token_ends_with_the_task_and_soon_after_without():
    api = TokenApi()
    now = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    with JoinToken(api, "w1", now=lambda: now) as token:
        assert api.body["stringData"]["expiration"] == "2030-01-01T00:15:00Z"
        assert token == f"{api.body['stringData']['token-id']}.{api.body['stringData']['token-secret']}"
    assert api.calls[-1] == ("DELETE", f"Secret/bootstrap-token-{token.split('.')[0]}")


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
    assert kubeadm.complete({"kind": "InitConfiguration"}, parameters) == {"kind": "InitConfiguration"}


def test_cluster_facts():
    configuration = {
        "controlPlaneEndpoint": "10.0.0.1:6443",
        "networking": {"podSubnet": "a", "serviceSubnet": "b"},
        "kubernetesVersion": "v1.2.3",
    }
    facts = {"host": "10.0.0.1", "port": "6443", "pod_network": "a", "service_network": "b", "version": "1.2.3"}
    assert cluster_facts(configuration) == facts
    assert set(cluster_facts({}).values()) == {""}
