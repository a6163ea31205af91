"""Which requests of kubelets for serving certificates are approved."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError, Event, Listing
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import kubelet_requests
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.joining import JoinError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.kubelet_requests import (
    LateError,
    ServingCertificates,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

KEY = ec.generate_private_key(ec.SECP256R1())


def csr(name="w1", organization="system:nodes", sans=("w1", "10.0.0.2"), twice=False, **spec):
    """A request as a kubelet makes it, with what is to be wrong. `twice`: the subject has two organizations."""
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"))
    if twice:
        subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"))
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
            "signerName": kubelet_requests.SERVING_SIGNER,
            "username": "system:node:w1",
            "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
            **spec,
        },
        "status": {},
    }


def forged(request):
    """The request with another subject than the one that was signed."""
    der = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"])).public_bytes(Encoding.DER)
    other = x509.load_der_x509_csr(
        der.replace(b"10.0.0.2", b"10.0.0.3").replace(b"\x0a\x00\x00\x02", b"\x0a\x00\x00\x03")
    )
    assert other.is_signature_valid is False
    encoded = base64.b64encode(other.public_bytes(Encoding.PEM)).decode()
    return {**request, "spec": {**request["spec"], "request": encoded}}


def node(name, address, pods, labels=None):
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"podCIDRs": [pods]},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }


CONTROL_PLANE = {kubelet_requests.CONTROL_PLANE_LABEL: ""}
NODES = [
    node("cp1", "10.0.0.1", "10.244.0.0/24", CONTROL_PLANE),
    node("w1", "10.0.0.2", "10.244.1.0/24"),
    node("w2", "10.0.0.3", "10.244.2.0/24"),
]


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("10.96.0.1", "services"),
        ("10.97.0.1", "services"),
        ("10.244.2.7", "pods on w2"),
        ("10.0.0.3", "machine w2"),
        ("10.0.0.1", "machine cp1"),
        ("10.0.0.100", "the API server"),
    ],
)
@pytest.mark.parametrize("ranges", [["10.96.0.0/16"], ["10.96.0.1/32"], []])
def test_a_machine_cannot_report_an_address_that_belongs_to_another(address, owner, ranges):
    if address == "10.96.0.1" and not ranges:
        return
    request = csr(sans=("w1", "10.0.0.2", address))
    api = FakeApi([request], nodes=NODES, ranges=ranges)
    with pytest.raises(JoinError, match=f"{address}, an address of {owner}"):
        ServingCertificates(api, "w1", ["10.0.0.2", address]).approve(request)
    assert api.calls == []


def test_a_control_plane_may_serve_the_api_at_its_own_address():
    api = FakeApi(nodes=[node("w1", "10.0.0.100", "10.244.1.0/24", CONTROL_PLANE), NODES[2]])
    request = csr(sans=("w1", "10.0.0.100"))
    ServingCertificates(api, "w1", ["10.0.0.100"]).approve(request)
    assert [method for method, _path in api.calls] == ["PUT"]


def test_a_request_that_matches_the_inventory_is_approved():
    assert kubelet_requests.refusal(csr(), "w1", ["10.0.0.2", "10.0.0.3"]) == ""


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (csr(username="system:node:w2"), "made by system:node:w2"),
        (csr(groups=["system:authenticated"]), "not by the node"),
        (csr(usages=["digital signature", "client auth"]), "client auth"),
        (csr(name="w2"), "subject"),
        (csr(organization="system:masters"), "subject"),
        (csr(twice=True), "subject"),
        (csr(sans=("w1", "kubernetes.default")), "kubernetes.default"),
        (csr(sans=("w1", "10.0.0.9")), "10.0.0.9"),
        (csr(sans=()), "no host and no address"),
        (csr(signerName="kubernetes.io/kube-apiserver-client"), "signer"),
        (forged(csr()), "signature"),
    ],
)
def test_a_request_for_anything_else_is_refused(request_, why):
    assert why in kubelet_requests.refusal(request_, "w1", ["10.0.0.2"])


class FakeApi:
    """Keeps requests like the API server does, and signs what is approved at once."""

    server = "https://10.0.0.100:6443"

    def __init__(self, requests=(), late=(), nodes=(), ranges=("10.96.0.0/16",)):
        self.requests = list(requests)
        self.nodes = list(nodes)
        self.ranges = ranges
        self.late = list(late)
        self.calls = []

    def list(self, _api_version, kind, **_):
        if kind == "ServiceCIDR":
            if not self.ranges:
                raise ApiError("no such kind", 404, "NotFound")
            return Listing([{"spec": {"cidrs": list(self.ranges)}}], "1")
        return Listing(self.nodes if kind == "Node" else self.requests, "1")

    def get(self, *_):
        return {"spec": {"clusterIPs": ["10.97.0.1"]}}

    def watch(self, *_, **__):
        for request in [*self.requests, *self.late]:
            yield Event("ADDED", request)
            if kubelet_requests.condition(request) == "Approved":
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


def test_requests_of_other_nodes_are_left_to_their_own_runs():
    other = csr(name="w2", username="system:node:w2")
    other["metadata"]["uid"] = "2"
    assert ServingCertificates(FakeApi([other], late=[csr()]), "w1", ["10.0.0.2"]).wait_and_approve(5) == 1


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
