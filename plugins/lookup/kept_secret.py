# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return a password that a Secret in the cluster keeps, or a new one."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kept_secret
short_description: Value in a Secret of the cluster, or a new random one
description:
  - Returns the value of each key of a Secret. For a key that the Secret lacks, returns 24 random letters and digits,
    different at each call. Apply the Secret with that value, so that the next run reads it.
author: kubescale founders (@kubescale)
options:
  _terms:
    description: Keys of the Secret.
    type: list
    elements: str
    required: true
  kubeconfig:
    description: Path of the kubeconfig of the cluster. If the file does not exist, all values are new.
    type: path
    required: true
  namespace:
    description: Namespace of the Secret.
    type: str
    required: true
  name:
    description: Name of the Secret.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Keep the existing password
  ansible.builtin.set_fact:
    password: >-
      {{ lookup('kubescale.fleet.kept_secret', 'admin-password', kubeconfig=cluster_kubeconfig,
                namespace='monitoring', name='grafana') }}
"""

RETURN = r"""
_raw:
  description: The values, in the order of the keys.
  type: list
  elements: str
"""

import base64
import secrets
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.kube.client import ApiError, connect
from ..plugin_utils.kube.kubeconfig import KubeconfigError

LENGTH = 24


class LookupModule(LookupBase):
    """The lookup kubescale.fleet.kept_secret."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: object) -> list[str]:
        """Return the values. Raise AnsibleLookupError if the cluster does not answer, to keep existing values."""
        self.set_options(var_options=variables, direct=kwargs)
        kubeconfig, namespace, name = (self.get_option(option) for option in ("kubeconfig", "namespace", "name"))
        secret = None
        if Path(kubeconfig).exists():
            try:
                secret = connect(kubeconfig).get("v1", "Secret", name, namespace)
            except (ApiError, KubeconfigError) as error:
                raise AnsibleLookupError(f"Secret {namespace}/{name}: {error}") from error
        kept = (secret or {}).get("data") or {}
        return [base64.b64decode(kept[key]).decode() if kept.get(key) else random_text() for key in terms]


def random_text() -> str:
    """Return LENGTH random letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _unused in range(LENGTH))
