# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.serving_certificate: works in the controller's process, documented in the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.kubescale.fleet.plugins.module_utils.certificates import CertificateProblem, check_secret
from ansible_collections.kubescale.fleet.plugins.module_utils.kube import ApiError, KubeconfigError, connect

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "kubeconfig": {"type": "path", "required": True},
    "context": {"type": "str"},
    "dns_names": {"type": "list", "elements": "str", "required": True},
    "ca": {"type": "str"},
    "renew_before": {"type": "int", "default": 30},
}


class ActionModule(ActionBase):
    """Read a serving certificate from a Secret and judge it; changes nothing."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: valid, reason, and a valid certificate. Raises AnsibleActionFail if it cannot look."""
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if not args["dns_names"]:
            raise AnsibleActionFail("dns_names is empty; name at least one DNS name that clients use")
        if args["renew_before"] < 0:
            raise AnsibleActionFail(f"renew_before is {args['renew_before']}; it must be 0 days or more")
        if self._task.check_mode and not Path(args["kubeconfig"]).expanduser().exists():
            return result | {"valid": False, "reason": f"kubeconfig {args['kubeconfig']} does not exist yet"}
        try:
            secret = connect(args["kubeconfig"], args["context"]).get("v1", "Secret", args["name"], args["namespace"])
        except (ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(f"Secret {args['namespace']}/{args['name']}: {error}") from error
        try:
            found = check_secret(secret, args["dns_names"], args["ca"], args["renew_before"])
        except CertificateProblem as problem:
            return result | {"valid": False, "reason": f"Secret {args['namespace']}/{args['name']}: {problem}"}
        return result | {
            "valid": True,
            "reason": "",
            "certificate": found.certificate,
            "private_key": found.private_key,
            "ca": found.authority,
            "not_after": found.not_after.isoformat(),
            # A private key must not show up with -v; the registered variable has it all the same.
            "_ansible_no_log": True,
        }
