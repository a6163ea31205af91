# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Read from a machine's files which node it is. Runs on machines: Python 3.9, standard library."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

KUBERNETES = Path("/etc/kubernetes")
STATE = Path("/etc/kubescale")
# Written before kubeadm begins. It marks an interrupted attempt of this collection.
UNFINISHED = "unfinished.json"
# Written when kubeadm has succeeded.
FINISHED = "node.json"
SERVING_CERTIFICATE = Path("/var/lib/kubelet/pki/kubelet-server-current.pem")


def read(path: Path) -> str:
    """Return a file's text, or "" if the file does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def certificate_digest(text: str) -> str:
    """Return the SHA-256 of the PEM text of a certificate in hex, or "" for an empty text."""
    return hashlib.sha256(text.strip().encode()).hexdigest() if text else ""


def admin_certificate(kubeconfig: str) -> str:
    """Return the client certificate (PEM) in a kubeconfig by kubeadm, which writes each field on its own line."""
    match = re.search(r"^\s*client-certificate-data:\s*(\S+)$", kubeconfig, re.MULTILINE)
    return base64.b64decode(match.group(1)).decode() if match else ""


def node_state(kubernetes: Path = KUBERNETES, state: Path = STATE) -> dict[str, Any]:
    """Return the state of this machine, from kubeadm's files in ``kubernetes`` and this collection's in ``state``."""
    result: dict[str, Any] = {"state": "none", "cluster": "", "version": "", "foreign": []}
    result["ca"] = certificate_digest(read(kubernetes / "pki" / "ca.crt"))
    result["admin"] = certificate_digest(admin_certificate(read(kubernetes / "admin.conf")))
    result["serving"] = SERVING_CERTIFICATE.exists()
    unfinished, finished = read(state / UNFINISHED), read(state / FINISHED)
    paths = [kubernetes / "kubelet.conf", kubernetes / "admin.conf", kubernetes / "manifests" / "kube-apiserver.yaml"]
    existing = [str(path) for path in paths if path.exists()]
    # FINISHED takes precedence: a run may be killed after it wrote FINISHED and before it removed UNFINISHED.
    if finished and existing:
        recorded = json.loads(finished)
        result.update(state="ours", cluster=recorded["cluster"], version=recorded["version"])
    elif unfinished:
        result.update(state="unfinished", cluster=json.loads(unfinished)["cluster"])
    elif existing:
        result.update(state="foreign", foreign=existing)
    return result
