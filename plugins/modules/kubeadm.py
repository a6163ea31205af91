# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm
short_description: Make a machine the first node of a cluster, or join it
version_added: 0.1.0
description:
  - Runs C(kubeadm init) or C(kubeadm join) once. Does not change a machine that is already a node of the cluster.
  - C(share_certificates) offers the encrypted certificates of a control plane to further ones, which join with the same
    O(certificate_key).
  - A file on the machine marks an unfinished attempt. The next run undoes an interrupted attempt with C(kubeadm reset)
    and starts over. The module never resets a cluster that it did not begin.
  - If the module fails, its message ends with the last output of kubeadm, and the last log lines of those services and
    control-plane containers that have trouble.
  - Waits while another run's kubeadm works on the machine.
  - As an action (roles use it as one), it also creates a bootstrap token for the duration of the task, deletes API
    objects of an interrupted join, and copies the administrator's kubeconfig to the controller after C(init).
author: kubescale founders (@kubescale)
options:
  action:
    description: C(init) and C(join) are subcommands of kubeadm; C(share_certificates) is its phase C(upload-certs).
    type: str
    choices: [init, join, share_certificates]
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  config:
    description:
      - Configuration of kubeadm, a list of objects of C(kubeadm.k8s.io/v1beta4) and component configurations.
      - The discovery of a C(JoinConfiguration) comes from the next four options.
    type: list
    elements: dict
    required: true
  token:
    description: Bootstrap token to join with. The action creates it.
    type: str
  ca_hash:
    description: Hash of the cluster CA's public key, C(sha256:) and hex digits. The action computes it.
    type: str
  endpoint:
    description: Address and port of the API to join. The action reads them from the kubeconfig.
    type: str
  certificate_key:
    description: Key of the uploaded certificates of the control plane, hex. For control planes that join or share.
    type: str
  kubeconfig:
    description:
      - Path of the administrator's kubeconfig on the controller. Only the action uses it.
      - C(init) writes the file, C(join) reads it.
    type: path
    required: true
extends_documentation_fragment: [kubescale.fleet.attributes.changes]
"""

EXAMPLES = r"""
- name: Join the cluster
  kubescale.fleet.kubeadm:
    action: join
    cluster: demo
    kubeconfig: .state/demo/kubeconfig
    config:
      - apiVersion: kubeadm.k8s.io/v1beta4
        kind: JoinConfiguration
        nodeRegistration: {name: demo-w1}
"""

RETURN = r"""
was:
  description: State of the machine before, V(none), V(unfinished) or V(ours).
  type: str
  returned: success
"""

import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubescale.fleet.plugins.module_utils.files import replace_file
from ansible_collections.kubescale.fleet.plugins.module_utils.node import FINISHED, STATE, UNFINISHED, node_state
from ansible_collections.kubescale.fleet.plugins.module_utils.services import ended_containers, service_troubles

# Absolute: the PATH of sudo (its secure_path) lacks /usr/local/bin on the Red Hat family.
KUBEADM = Path("/usr/local/bin/kubeadm")
LOCK = Path("/run/kubescale-kubeadm.lock")
CONFIG = Path("/run/kubescale-kubeadm.yaml")
SOCKET = "unix:///run/containerd/containerd.sock"
# Longer than kubeadm itself waits, four minutes each, for a healthy control plane and for an answer of its API.
LOCK_SECONDS = 600
#: Lines shown of kubeadm's output (it ends with the unhealthy component) and of its error output.
PROGRESS_LINES = 12
ERROR_LINES = 20
#: Written by kubeadm right before it starts the kubelet.
KUBELET_CONFIG = Path("/var/lib/kubelet/config.yaml")


class Kubeadm:
    """One attempt to make the machine a node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)

    def wait_for_others(self) -> None:
        """Take the lock that each kubeadm of this module holds while it runs."""

        def time_out(_signal: int, _frame: object) -> None:
            self.module.fail_json(
                msg=f"Another run's kubeadm has been working on this machine for {LOCK_SECONDS} s. Examine it "
                "(ps, journalctl --unit kubelet), end it, and run again."
            )

        signal.signal(signal.SIGALRM, time_out)
        signal.alarm(LOCK_SECONDS)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        signal.alarm(0)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run kubeadm. Return its exit status, and the last lines of its output and error output.

        kubeadm inherits the lock, and keeps it if this module is killed.
        """
        # kubeadm itself looks for the kubelet in PATH.
        code, out, err = self.module.run_command(
            [str(KUBEADM), *arguments], path_prefix=str(KUBEADM.parent), pass_fds=[self.lock]
        )
        return code, "\n".join(filter(None, [last_lines(out, PROGRESS_LINES), last_lines(err, ERROR_LINES)]))

    def run_configured(self, *arguments: str) -> tuple[int, str]:
        """Run kubeadm with the configuration of the task, in a file that only root can read: it contains secrets."""
        # kubeadm reads YAML, which includes JSON.
        documents = [json.dumps(complete(document, self.module.params)) for document in self.module.params["config"]]
        replace_file(CONFIG, "\n---\n".join(documents), 0o600)
        try:
            return self.run(*arguments, f"--config={CONFIG}")
        finally:
            CONFIG.unlink(missing_ok=True)

    def share_certificates(self) -> None:
        """Upload the certificates of the control plane, encrypted with the task's key."""
        phase = ("init", "phase", "upload-certs", "--upload-certs", "--skip-certificate-key-print")
        code, output = self.run_configured(*phase)
        if code:
            self.module.fail_json(msg=f"kubeadm cannot offer the certificates to further control planes:\n{output}")

    def reset(self, action: str) -> None:
        """Undo an interrupted attempt of this module."""
        options = ["--force", f"--cri-socket={SOCKET}"]
        if action == "init":
            # The etcd of an interrupted init has no other member.
            options.append("--skip-phases=remove-etcd-member")
        code, output = self.run("reset", *options)
        if code:
            self.module.fail_json(msg=f"kubeadm reset, to undo an interrupted attempt, failed:\n{output}")
        shutil.rmtree("/var/lib/etcd", ignore_errors=True)
        for path in (KUBELET_CONFIG, KUBELET_CONFIG.with_name("kubeadm-flags.env")):
            path.unlink(missing_ok=True)

    def troubles(self, since: float) -> list[str]:
        """Return troubles of the services that an attempt started. It began at ``since`` (seconds since 1970)."""
        if not KUBELET_CONFIG.exists():
            return []  # kubeadm failed before it started a service
        return [*service_troubles(lambda command: self.module.run_command(command)[1]), *ended_containers(since)]

    def make(self, was: str) -> None:
        """Run kubeadm. Write UNFINISHED before and FINISHED after."""
        parameters = self.module.params
        if was == "unfinished":
            self.reset(json.loads((STATE / UNFINISHED).read_text(encoding="utf-8"))["action"])
        (STATE / FINISHED).unlink(missing_ok=True)
        version = self.module.run_command([str(KUBEADM), "version", "--output=short"], check_rc=True)[1]
        version = version.strip().lstrip("v")
        mark = json.dumps({"cluster": parameters["cluster"], "version": version, "action": parameters["action"]})
        replace_file(STATE / UNFINISHED, mark, 0o600)
        options = ["--skip-token-print"] if parameters["action"] == "init" else []
        began = time.time()
        code, output = self.run_configured(parameters["action"], *options)
        if code:
            self.module.fail_json(
                msg=f"kubeadm {parameters['action']} failed. Fix the cause and run again: "
                f"the next run undoes this attempt first.\n" + "\n".join([output, *self.troubles(began)])
            )
        replace_file(STATE / FINISHED, mark, 0o600)
        (STATE / UNFINISHED).unlink()


def complete(document: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a kubeadm object. Add the secrets of the task, and address and CA hash of the cluster."""
    if document["kind"] == "InitConfiguration" and parameters["certificate_key"]:
        return {**document, "certificateKey": parameters["certificate_key"]}
    if document["kind"] != "JoinConfiguration":
        return document
    keys = {"apiServerEndpoint": "endpoint", "token": "token"}
    discovery: dict[str, Any] = {key: parameters[name] for key, name in keys.items()}
    discovery["caCertHashes"] = [parameters["ca_hash"]]
    document = {**document, "discovery": {"bootstrapToken": discovery}}
    if "controlPlane" in document:
        document["controlPlane"] = {**document["controlPlane"], "certificateKey": parameters["certificate_key"]}
    return document


def last_lines(text: str, count: int) -> str:
    """Return the last lines of a text."""
    return "\n".join(text.strip().splitlines()[-count:])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "choices": ["init", "join", "share_certificates"], "required": True},
            "cluster": {"type": "str", "required": True},
            "config": {"type": "list", "elements": "dict", "required": True},
            "token": {"type": "str", "no_log": True},
            "ca_hash": {"type": "str"},
            "endpoint": {"type": "str"},
            "certificate_key": {"type": "str", "no_log": True},
            "kubeconfig": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    attempt = Kubeadm(module)
    if not module.check_mode:
        attempt.wait_for_others()
    node = node_state()
    if node["state"] == "foreign":
        module.fail_json(
            msg="This machine belongs to a Kubernetes cluster that was not made from this inventory "
            f"({', '.join(node['foreign'])} exist). Use another machine, or remove that cluster: kubeadm reset"
        )
    if node["cluster"] not in ("", module.params["cluster"]):
        module.fail_json(msg=f"This machine is a node of cluster {node['cluster']}, not of {module.params['cluster']}.")
    if module.params["action"] == "share_certificates":
        if not module.check_mode:
            attempt.share_certificates()
        module.exit_json(changed=True, was=node["state"])
    changed = node["state"] != "ours"
    if changed and not module.check_mode:
        if not KUBEADM.exists():
            module.fail_json(
                msg="kubeadm is not installed on this machine, so it was not prepared yet. Run site.yml "
                "without --tags, or with --tags node_prep,control_plane,worker"
            )
        attempt.make(node["state"])
    module.exit_json(changed=changed, was=node["state"])


if __name__ == "__main__":
    main()
