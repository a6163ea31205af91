# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Return the serving certificate of a Secret, or a new one."""

from __future__ import annotations

import base64
import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from cryptography import x509

from ..plugin_utils.common.errors import FleetError
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import RESTART, Api, ApiError
from ..plugin_utils.machines import signing
from ..plugin_utils.machines.certificates import CertificateProblem, ServingCertificate, check_secret

# Where kubeadm keeps the cluster's CA on a control plane.
AUTHORITY = "/etc/kubernetes/pki/ca"


class ActionModule(ClusterAction):
    """The action of the module `service_certificate`."""

    _requires_connection = True

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the certificate, its key and CA, and the reason if it is a new one. Store nothing."""
        if not args["dns_names"]:
            raise AnsibleActionFail("dns_names is empty; name at least one DNS name that clients use")
        if not 0 <= args["renew_before"] < args["days"]:
            raise AnsibleActionFail(
                f"renew_before is {args['renew_before']}; it must be 0 days or more and less than days, {args['days']}"
            )
        if self.check and not self.is_made:
            nothing = {"certificate": "", "private_key": "", "ca": "", "not_after": 0}
            return {"reason": "there is no cluster yet"} | nothing
        where = f"Secret {args['namespace']}/{args['name']}"
        api = self.connect(RESTART)
        secret = api.get("v1", "Secret", args["name"], args["namespace"])
        authority = None if args["own_authority"] else cluster_authority(api)
        reason = ""
        try:
            found = check_secret(secret, args["dns_names"], authority, args["renew_before"])
        except CertificateProblem as problem:
            reason = f"{where}: {problem}"
            found = self._made(args, secret, authority)
        return {
            "reason": reason,
            "certificate": found.certificate,
            "private_key": found.private_key,
            "ca": found.authority,
            "not_after": int(found.not_after.timestamp()),
            # A private key must not show up with -v; the registered variable has it all the same.
            "_ansible_no_log": True,
        }

    def _made(self, args: dict[str, Any], former: dict[str, Any] | None, authority: str | None) -> ServingCertificate:
        """Make a key and a certificate, and check them like one that is kept."""
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
            raise FleetError(f"The new certificate for {names[0]} is of no use: {problem}") from problem

    def _signed_there(self, request: str, days: int) -> str:
        """Sign a request on the machine that has the CA's key, and return the certificate (PEM)."""
        command = ["openssl", "x509", "-req", "-sha256", "-copy_extensions", "copyall", "-days", str(days)]
        command += ["-CA", f"{AUTHORITY}.crt", "-CAkey", f"{AUTHORITY}.key"]
        command += ["-set_serial", str(x509.random_serial_number())]
        # Not as input of the command: some connections hand none on.
        done = self._low_level_execute_command(f"printf %s {shlex.quote(request)} | {shlex.join(command)}")
        if done["rc"] != 0:
            said = (done["stderr"] or done["stdout"]).strip()
            raise FleetError(
                f"{self._task.delegate_to or 'this host'} cannot sign with the cluster's CA, {AUTHORITY}.key: "
                f"openssl (3.0 or newer is needed) ended with {done['rc']}: {said}"
            )
        return str(done["stdout"])


def cluster_authority(api: Api) -> str:
    """Return the CA certificates of the cluster, as every pod knows them (PEM)."""
    found = api.get("v1", "ConfigMap", "kube-root-ca.crt", "kube-system")
    if not found:
        raise ApiError("ConfigMap kube-system/kube-root-ca.crt is missing; does kube-controller-manager run?", 404)
    return str(found["data"]["ca.crt"])


def former_authority(secret: dict[str, Any] | None) -> str:
    """Return the CA certificate that a Secret names first (PEM); empty if there is none."""
    value = ((secret or {}).get("data") or {}).get("ca.crt", "")
    try:
        return x509.load_pem_x509_certificates(base64.b64decode(value))[0].public_bytes(signing.PEM).decode()
    except ValueError:
        return ""
