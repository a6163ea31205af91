#!/usr/bin/python
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the action plugin kubescale.fleet.serving_certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: serving_certificate
short_description: Judge the serving certificate that a Secret holds
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Reads a Secret with C(tls.crt), C(tls.key) and, optionally, C(ca.crt), and says whether a server can go on using it.
  - It can, if the key matches, the names are exactly those wanted, the extended key usage has serverAuth, the CA signed
    it, and it does not expire too soon.
  - Changes nothing, and runs in the controller's own process.
options:
  name:
    description:
      - Name of the Secret.
    type: str
    required: true
  namespace:
    description:
      - Namespace of the Secret.
    type: str
    required: true
  kubeconfig:
    description:
      - Path of the kubeconfig of the cluster.
    type: path
    required: true
  context:
    description:
      - Context of the kubeconfig; its current one by default.
    type: str
  dns_names:
    description:
      - The names, all of them and no others, that the certificate must be for.
    type: list
    elements: str
    required: true
  ca:
    description:
      - Certificate, as PEM, of the CA that must have signed it. By default the C(ca.crt) of the Secret, if it has one.
    type: str
  renew_before:
    description:
      - Days before the end of validity from which on it does not count as valid any more.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Look at the adapter's certificate
  kubescale.fleet.serving_certificate:
    name: prometheus-adapter-tls
    namespace: custom-metrics
    kubeconfig: "{{ cluster_kubeconfig }}"
    dns_names: [prometheus-adapter.custom-metrics.svc]
  register: adapter_certificate
"""

RETURN = r"""
valid:
  description: Whether the certificate can go on being used.
  returned: always
  type: bool
reason:
  description: Why not; empty if it can.
  returned: always
  type: str
certificate:
  description: The certificate, as PEM.
  returned: when valid
  type: str
private_key:
  description: Its private key, as PEM. The result is never shown, not even with -v.
  returned: when valid
  type: str
ca:
  description: The CA's certificate, as PEM; empty if there is none.
  returned: when valid
  type: str
not_after:
  description: End of validity, ISO 8601.
  returned: when valid
  type: str
"""
