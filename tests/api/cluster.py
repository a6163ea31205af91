# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""A real etcd and kube-apiserver (with the controllers that deletion needs) as local processes, without machines."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, ApiError, connect
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Where a binary lies in the artifacts cache: component, and the name that a build may give it.
BINARIES = {
    "etcd": ("etcd", "server"),
    "kube-apiserver": ("kubernetes", "kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "kube-controller-manager"),
    "kubectl": ("kubernetes", "kubectl"),
}
#: Controllers that the tests need; workloads stay unscheduled, there is no node.
CONTROLLERS = "namespace-controller,garbage-collector-controller,serviceaccount-controller"
START_SECONDS = 60


def find_binary(name: str) -> Path | None:
    """Path of a binary: in $KUBESCALE_BIN, else the newest version in the artifacts cache; None if it is in neither."""
    component, built_as = BINARIES[name]
    places = []
    if folder := os.environ.get("KUBESCALE_BIN"):
        places += [Path(folder) / name, Path(folder) / component / name, Path(folder) / component / built_as]
    cache = Path(os.environ.get("KUBESCALE_CACHE") or "~/.cache/kubescale").expanduser()
    found = (cache / "artifacts" / component).glob(f"*/{name}")
    places += sorted(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)], reverse=True)
    return next((place for place in places if place.is_file() and os.access(place, os.X_OK)), None)


class Authority:
    """A certificate authority that writes its files into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("kubescale-test-ca", self.key.public_key(), None, [], [])
        self.file = folder / "ca.crt"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, organization: str | None = None, addresses: list[str] | None = None, expired: bool = False
    ) -> tuple[Path, Path]:
        """Files of a certificate for server and client use, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = self._sign(name, key.public_key(), organization, addresses or [], usages, expired)
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(private_pem(key))
        return files

    def _sign(
        self, name: str, public: Any, organization: str | None, addresses: list[str], usages: list[Any],
        expired: bool = False,
    ) -> Any:  # fmt: skip
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        issuer = self.certificate.subject if usages else x509.Name(attributes)
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + (-datetime.timedelta(minutes=1) if expired else datetime.timedelta(days=1)))
            .add_extension(x509.BasicConstraints(ca=not usages, path_length=None), critical=True)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if addresses:
            names: list[x509.GeneralName] = [x509.DNSName("localhost")]
            names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def private_pem(key: Any) -> bytes:
    """A private key as PEM."""
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def control_plane(folder: Path, authority: Authority | None = None) -> Iterator[Path]:
    """Run a control plane whose files are in `folder`; gives the path of its kubeconfig, and stops it in the end.

    `authority` signs its certificates, one of its own if left out. Raises RuntimeError, with the last words
    of the process, if it does not become ready.
    """
    authority = authority or Authority(folder)
    serving = authority.issue("kube-apiserver", addresses=["127.0.0.1", "10.96.0.1"])
    admin = authority.issue("admin", "system:masters")
    accounts = authority.issue("service-accounts")
    client_port, peer_port, api_port = free_port(), free_port(), free_port()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(api_port, authority.file, admin)))
    kubeconfig.chmod(0o600)
    etcd = [
        str(find_binary("etcd")),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client_port}",
        f"--advertise-client-urls=http://127.0.0.1:{client_port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
        "--unsafe-no-fsync",
    ]
    server = [
        str(find_binary("kube-apiserver")),
        f"--etcd-servers=http://127.0.0.1:{client_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={api_port}",
        f"--tls-cert-file={serving[0]}",
        f"--tls-private-key-file={serving[1]}",
        f"--client-ca-file={authority.file}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={accounts[0]}",
        f"--service-account-signing-key-file={accounts[1]}",
        "--authorization-mode=RBAC",
        "--endpoint-reconciler-type=none",
    ]
    manager = [
        str(find_binary("kube-controller-manager")),
        f"--kubeconfig={kubeconfig}",
        f"--controllers={CONTROLLERS}",
        "--leader-elect=false",
        f"--secure-port={free_port()}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder}",
    ]
    with ExitStack() as stack:
        processes = {"etcd": stack.enter_context(_process(etcd, folder / "etcd.log"))}
        processes["kube-apiserver"] = stack.enter_context(_process(server, folder / "kube-apiserver.log"))
        _wait_ready(connect(kubeconfig), processes, folder)
        stack.enter_context(_process(manager, folder / "kube-controller-manager.log"))
        yield kubeconfig


def _wait_ready(api: Api, processes: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    problem = "no answer"
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {(folder / f'{name}.log').read_text()[-2000:]}")
        try:
            api.raw("/readyz")
            if api.get("v1", "Namespace", "kube-system"):
                return
        except ApiError as error:
            problem = str(error)
        time.sleep(0.1)
    raise RuntimeError(f"kube-apiserver is not ready after {START_SECONDS} s: {problem}")


def _kubeconfig(port: int, ca: Path, admin: tuple[Path, Path]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "clusters": [
            {"name": "test", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(ca)}}
        ],
        "users": [{"name": "admin", "user": {"client-certificate": str(admin[0]), "client-key": str(admin[1])}}],
    }


@contextmanager
def deployments_become_ready(kubeconfig: Path) -> Iterator[None]:
    """Say of every Deployment that it is available, as long as this lasts: no controller does here."""
    stop = threading.Event()

    def work() -> None:
        api = connect(kubeconfig)
        while not stop.wait(0.2):
            for item in api.list("apps/v1", "Deployment").items:
                metadata, count = item["metadata"], item["spec"]["replicas"]
                counts = dict.fromkeys(["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"], count)
                status = {**counts, "observedGeneration": metadata["generation"]}
                with suppress(ApiError):  # it may have gone meanwhile
                    api.patch(
                        "apps/v1", "Deployment", metadata["name"], {"status": status}, metadata["namespace"], "status"
                    )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()
