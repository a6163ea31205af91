# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
# Documentation of the action of the same name, which reads its options from here.
DOCUMENTATION = r"""
module: service_certificate
short_description: Return the serving certificate of a service, and renew it when necessary
version_added: 0.1.0
author: kubescale founders (@kubescale)
description:
  - Returns the certificate in a Secret while it is valid. The key must match, the names must equal O(dns_names), the
    extended key usage must include serverAuth, the right CA must have signed it, and it must not expire soon.
  - Otherwise returns a new certificate with a new key. Does not store it; apply the Secret with the result.
  - C(openssl) 3.0 or newer signs a new certificate with the cluster's CA, C(/etc/kubernetes/pki/ca.key), on the host of
    the task. The host must be a control plane made by kubeadm, so delegate the task. The CA's key is not copied. The
    task does not connect to the host while the certificate is valid.
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
      - Names of the certificate. It must have exactly these names.
    type: list
    elements: str
    required: true
  days:
    description:
      - Validity of a new certificate in days.
    type: int
    required: true
  renew_before:
    description:
      - Days before its expiry at which a certificate is renewed. Must be less than O(days).
    type: int
    required: true
  own_authority:
    description:
      - Sign with a new CA for this certificate, whose key is not kept, instead of with the cluster's CA.
      - Use this for a cluster whose CA key is not available.
    type: bool
    default: false
extends_documentation_fragment: [kubescale.fleet.attributes, kubescale.fleet.cluster]
"""

EXAMPLES = r"""
- name: Return a certificate that the API server can verify
  kubescale.fleet.service_certificate:
    name: cm-adapter-serving-certs
    namespace: custom-metrics
    kubeconfig: "{{ cluster_kubeconfig }}"
    dns_names: [prometheus-adapter.custom-metrics.svc]
    days: 365
    renew_before: 30
  delegate_to: "{{ lookup('kubescale.fleet.ready_control_plane', cluster_kubeconfig) }}"
  become: true
  register: adapter_certificate
"""

RETURN = r"""
reason:
  description: Why the certificate is new; empty if the Secret contains it.
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
  description: The certificates of the CAs that verify it, as PEM.
  returned: success
  type: str
not_after:
  description: End of its validity in seconds since 1970.
  returned: success
  type: int
"""
