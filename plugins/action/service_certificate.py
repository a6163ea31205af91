# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Action plugin of kubescale.fleet.service_certificate: works in the controller's process, documented in the module."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from cryptography import x509

from ..plugin_utils.kube.client import (
    RESTART,
    Api,
    ApiError,
    KubeconfigError,
    connect,
)
from ..plugin_utils.machines import signing
from ..plugin_utils.machines.certificates import (
    CertificateProblem,
    ServingCertificate,
    check_secret,
)

# Where kubeadm keeps the cluster's CA on a control plane.
AUTHORITY = "/etc/kubernetes/pki/ca"
ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "kubeconfig": {"type": "path", "required": True},
    "dns_names": {"type": "list", "elements": "str", "required": True},
    "days": {"type": "int", "required": True},
    "renew_before": {"type": "int", "required": True},
    "own_authority": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Return the serving certificate that a Secret holds, or a new one if that one is no good; stores nothing."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Result of the task: certificate, private_key, ca, and why it is a new one. Raises AnsibleActionFail."""
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False}
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if not args["dns_names"]:
            raise AnsibleActionFail("dns_names is empty; name at least one DNS name that clients use")
        if not 0 <= args["renew_before"] < args["days"]:
            raise AnsibleActionFail(
                f"renew_before is {args['renew_before']}; it must be 0 days or more and less than days, {args['days']}"
            )
        if self._task.check_mode and not Path(args["kubeconfig"]).expanduser().exists():
            nothing = {"certificate": "", "private_key": "", "ca": "", "not_after": 0}
            return result | {"reason": "there is no cluster yet"} | nothing
        where = f"Secret {args['namespace']}/{args['name']}"
        try:
            api = connect(args["kubeconfig"], patience=RESTART)
            secret = api.get("v1", "Secret", args["name"], args["namespace"])
            authority = None if args["own_authority"] else cluster_authority(api)
        except (ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(f"{where}: {error}") from None
        reason = ""
        try:
            found = check_secret(secret, args["dns_names"], authority, args["renew_before"])
        except CertificateProblem as problem:
            reason = f"{where}: {problem}"
            found = self._made(args, secret, authority)
        return result | {
            "reason": reason,
            "certificate": found.certificate,
            "private_key": found.private_key,
            "ca": found.authority,
            "not_after": int(found.not_after.timestamp()),
            # A private key must not show up with -v; the registered variable has it all the same.
            "_ansible_no_log": True,
        }

    def _made(self, args: dict[str, Any], former: dict[str, Any] | None, authority: str | None) -> ServingCertificate:
        """A new key with a new certificate, judged in the same way as one that is kept."""
        names, key = args["dns_names"], signing.new_key()
        if authority is None:
            certificate, own = signing.signed_by_own_authority(key, names, args["days"])
            # Pods serve the former certificate until they see the new one: both must verify meanwhile.
            authority = own + former_authority(former)
        else:
            certificate = self._signed_there(signing.request_text(key, names), args["days"])
        texts = {"tls.crt": certificate, "tls.key": signing.key_text(key)}
        made = {"data": {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}}
        try:
            return check_secret(made, names, authority, args["renew_before"])
        except CertificateProblem as problem:
            raise AnsibleActionFail(f"The new certificate for {names[0]} is of no use: {problem}") from problem

    def _signed_there(self, request: str, days: int) -> str:
        """Have a request signed where the CA's key is: the request and the certificate are all that travels."""
        command = ["openssl", "x509", "-req", "-sha256", "-copy_extensions", "copyall", "-days", str(days)]
        command += ["-CA", f"{AUTHORITY}.crt", "-CAkey", f"{AUTHORITY}.key"]
        command += ["-set_serial", str(x509.random_serial_number())]
        # Not as input of the command: some connections hand none on.
        done = self._low_level_execute_command(f"printf %s {shlex.quote(request)} | {shlex.join(command)}")
        if done["rc"] != 0:
            said = (done["stderr"] or done["stdout"]).strip()
            raise AnsibleActionFail(
                f"{self._task.delegate_to or 'this host'} cannot sign with the cluster's CA, {AUTHORITY}.key: "
                f"openssl (3.0 or newer is needed) ended with {done['rc']}: {said}"
            )
        return str(done["stdout"])


def cluster_authority(api: Api) -> str:
    """The CA certificates of the cluster, as every pod knows them (PEM)."""
    found = api.get("v1", "ConfigMap", "kube-root-ca.crt", "kube-system")
    if not found:
        raise ApiError("ConfigMap kube-system/kube-root-ca.crt is missing; does kube-controller-manager run?", 404)
    return str(found["data"]["ca.crt"])


def former_authority(secret: dict[str, Any] | None) -> str:
    """The CA certificate that a Secret names first (PEM); empty if there is none."""
    value = ((secret or {}).get("data") or {}).get("ca.crt", "")
    try:
        return x509.load_pem_x509_certificates(base64.b64decode(value))[0].public_bytes(signing.PEM).decode()
    except ValueError:
        return ""
