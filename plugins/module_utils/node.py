# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The state of a machine as a node, from its files. Runs on machines: Python 3.9, standard library."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

KUBERNETES = Path("/etc/kubernetes")
STATE = Path("/etc/kubescale")
#: Written before kubeadm begins. It names the cluster of an attempt that never ended.
UNFINISHED = "unfinished.json"
#: Written when kubeadm has succeeded.
FINISHED = "node.json"
SERVING_CERTIFICATE = Path("/var/lib/kubelet/pki/kubelet-server-current.pem")


def read(path: Path) -> str:
    """Return a file's text, or "" if it does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def certificate_digest(text: str) -> str:
    """Return the SHA-256 (hex) of the PEM text of a certificate, or "" for an empty text."""
    return hashlib.sha256(text.strip().encode()).hexdigest() if text else ""


def admin_certificate(kubeconfig: str) -> str:
    """Return the client certificate (PEM) in a kubeconfig that kubeadm wrote, with each value on its own line."""
    found = re.search(r"^\s*client-certificate-data:\s*(\S+)$", kubeconfig, re.MULTILINE)
    return base64.b64decode(found.group(1)).decode() if found else ""


def node_state(kubernetes: Path = KUBERNETES, state: Path = STATE) -> dict[str, Any]:
    """Return the state of this machine, from files below ``kubernetes`` (kubeadm's) and ``state`` (ours)."""
    result: dict[str, Any] = {"state": "none", "cluster": "", "version": "", "foreign": []}
    result["ca"] = certificate_digest(read(kubernetes / "pki" / "ca.crt"))
    result["admin"] = certificate_digest(admin_certificate(read(kubernetes / "admin.conf")))
    result["serving"] = SERVING_CERTIFICATE.exists()
    unfinished, finished = read(state / UNFINISHED), read(state / FINISHED)
    signs = [kubernetes / "kubelet.conf", kubernetes / "admin.conf", kubernetes / "manifests" / "kube-apiserver.yaml"]
    found = [str(path) for path in signs if path.exists()]
    # A run may be killed between writing the one mark and removing the other, so the finished mark counts.
    if finished and found:
        recorded = json.loads(finished)
        result.update(state="ours", cluster=recorded["cluster"], version=recorded["version"])
    elif unfinished:
        result.update(state="unfinished", cluster=json.loads(unfinished)["cluster"])
    elif found:
        result.update(state="foreign", foreign=found)
    return result
