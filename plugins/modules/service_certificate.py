# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: service_certificate
short_description: The serving certificate of a service that the API server talks to, new when it has to be
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Returns the certificate that a Secret holds as long as it is good. It is, if the key matches, the names are exactly
    those wanted, the extended key usage has serverAuth, the right CA signed it, and it does not expire too soon.
  - If it is not, returns a new one with a new key. Stores nothing; apply the Secret with the result.
  - A new one is signed with the cluster's CA, C(/etc/kubernetes/pki/ca.key), by C(openssl) 3.0 or newer on the host of
    the task, which must be a control plane made by kubeadm - so delegate the task. The CA's key stays there. No
    connection is made while the certificate is good.
attributes:
  check_mode:
    support: full
    description: Stores nothing, so it does the same.
options:
  name:
    description:
      - Name of the Secret, with C(tls.crt), C(tls.key) and C(ca.crt).
    type: str
    required: true
  namespace:
    description:
      - Namespace of the Secret.
    type: str
    required: true
  dns_names:
    description:
      - The names, all of them and no others, that the certificate must be for.
    type: list
    elements: str
    required: true
  days:
    description:
      - Days that a new certificate is valid.
    type: int
    required: true
  renew_before:
    description:
      - Days before the end of validity from which on a certificate counts as no good any more; less than O(days).
    type: int
    required: true
  own_authority:
    description:
      - Have it signed by a CA made for this certificate, whose key is not kept, instead of the cluster's.
      - For clusters whose CA is out of reach.
    type: bool
    default: false
extends_documentation_fragment: [kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Get a certificate that the API server can verify
  kubescale.fleet.service_certificate:
    name: cm-adapter-serving-certs
    namespace: custom-metrics
    kubeconfig: "{{ cluster_kubeconfig }}"
    dns_names: [prometheus-adapter.custom-metrics.svc]
    days: 365
    renew_before: 30
  delegate_to: "{{ cluster_control_plane | first }}"
  become: true
  register: adapter_certificate
"""

RETURN = r"""
reason:
  description: Why it is a new one; empty if it is the one that was kept.
  returned: success
  type: str
certificate:
  description: The certificate, as PEM.
  returned: success
  type: str
private_key:
  description: Its private key, as PEM. The result is never shown, not even with -v.
  returned: success
  type: str
ca:
  description: The certificates of the CAs by which it is verified, as PEM.
  returned: success
  type: str
not_after:
  description: When its validity ends, in seconds since 1970.
  returned: success
  type: int
"""
