"""Serving certificates: kept while they are good, made and signed where the CA's key is when they are not."""

from __future__ import annotations

import base64
import datetime
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.kubescale.fleet.plugins.action import service_certificate as action
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines import signing
from ansible_collections.kubescale.fleet.plugins.plugin_utils.machines.certificates import check_secret
from cryptography import x509

NAMES = ["adapter.metrics.svc", "adapter.metrics.svc.cluster.local"]


def secret(certificate: str, key: str, ca: str) -> dict[str, Any]:
    texts = {"tls.crt": certificate, "tls.key": key, "ca.crt": ca}
    return {"data": {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}}


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CA as kubeadm leaves it on a control plane."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-days", "30", "-subj", "/CN=kubernetes"]
    command += ["-keyout", str(tmp_path / "ca.key"), "-out", str(tmp_path / "ca.crt")]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setattr(action, "AUTHORITY", str(tmp_path / "ca"))
    return tmp_path / "ca.crt"


class Cluster:
    """What the action asks a cluster for."""

    def __init__(self, authority: str, kept: dict[str, Any] | None = None) -> None:
        self.objects: dict[str, Any] = {"ConfigMap": {"data": {"ca.crt": authority}}, "Secret": kept}

    def get(self, _api_version: str, kind: str, _name: str, _namespace: str) -> dict[str, Any] | None:
        return self.objects[kind]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the action on a cluster; what it would run on the control plane runs here."""
    monkeypatch.setattr(signing, "KEY_BITS", 1024)  # Ten times faster to make, and nothing here needs more.
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch()

    def execute(command: str) -> dict[str, Any]:
        done = subprocess.run(command, shell=True, capture_output=True, check=False)  # noqa: S602
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

    def run(cluster: Cluster, check_mode: bool = False, machine: Any = execute, **given: Any) -> dict[str, Any]:
        args = {"kubeconfig": str(kubeconfig), "name": "tls", "namespace": "metrics", "dns_names": NAMES}
        args |= {"days": 90, "renew_before": 10} | given
        task = SimpleNamespace(args=args, check_mode=check_mode, delegate_to="cp1", async_val=0, diff=False)
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = task
        monkeypatch.setattr(plugin, "connect", lambda _patience: cluster)
        monkeypatch.setattr(ActionBase, "run", lambda *_args: {})
        monkeypatch.setattr(
            plugin, "validate_argument_spec", lambda argument_spec: (None, {"own_authority": False} | args)
        )
        monkeypatch.setattr(plugin, "_low_level_execute_command", machine)
        return plugin.run()

    return run


def unreachable(_command: str) -> dict[str, Any]:
    raise AssertionError("no machine must be asked")


def test_a_new_certificate_is_signed_by_the_clusters_ca_for_all_names(run: Any, authority: Path) -> None:
    result = run(Cluster(authority.read_text()))
    assert result["reason"] == "Secret metrics/tls: it does not exist"
    assert result["ca"] == authority.read_text()
    made = secret(result["certificate"], result["private_key"], "")
    assert check_secret(made, NAMES, authority.read_text(), 10).certificate == result["certificate"]
    leaf = x509.load_pem_x509_certificate(result["certificate"].encode())
    left = leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=89) < left <= datetime.timedelta(days=90)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_good_certificate_is_kept_without_asking_a_machine(run: Any, authority: Path) -> None:
    first = run(Cluster(authority.read_text()))
    kept = secret(first["certificate"], first["private_key"], first["ca"])
    second = run(Cluster(authority.read_text(), kept), machine=unreachable)
    assert second["reason"] == ""
    assert all(second[name] == first[name] for name in ("certificate", "private_key", "ca"))
    assert second["changed"] is False


def test_one_that_ends_soon_is_replaced(run: Any, authority: Path) -> None:
    first = run(Cluster(authority.read_text()), days=9, renew_before=1)
    kept = secret(first["certificate"], first["private_key"], first["ca"])
    second = run(Cluster(authority.read_text(), kept))
    assert "expires in" in second["reason"]
    assert second["certificate"] != first["certificate"]


def test_one_of_another_ca_is_replaced(run: Any, authority: Path) -> None:
    certificate, own = signing.signed_by_own_authority(key := signing.new_key(), NAMES, 90)
    result = run(Cluster(authority.read_text(), secret(certificate, signing.key_text(key), own)))
    assert "not signed by the CA CN=kubernetes" in result["reason"]


def test_an_own_ca_needs_no_machine_and_former_pods_still_verify(run: Any) -> None:
    first = run(Cluster(""), own_authority=True, machine=unreachable, days=9, renew_before=1)
    kept = secret(first["certificate"], first["private_key"], first["ca"])
    assert run(Cluster("", kept), own_authority=True, renew_before=1)["reason"] == ""
    second = run(Cluster("", kept), own_authority=True, machine=unreachable)
    assert "expires in" in second["reason"]
    for result in (first, second):
        made = secret(result["certificate"], result["private_key"], "")
        assert check_secret(made, NAMES, second["ca"], 0)


def test_the_private_key_is_kept_out_of_the_output(run: Any, authority: Path) -> None:
    assert run(Cluster(authority.read_text()))["_ansible_no_log"] is True


def test_a_machine_that_cannot_sign_is_named(run: Any, authority: Path) -> None:
    failing = {"rc": 127, "stdout": "", "stderr": "openssl: not found"}
    with pytest.raises(AnsibleActionFail, match=r"cp1 cannot sign .*ca\.key: .*127: openssl: not found"):
        run(Cluster(authority.read_text()), machine=lambda _command: failing)


def test_renewal_must_be_due_before_the_end(run: Any, authority: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"renew_before is 90; .* less than days, 90"):
        run(Cluster(authority.read_text()), days=90, renew_before=90)


def test_check_mode_before_there_is_a_cluster_predicts_without_one(run: Any) -> None:
    result = run(Cluster(""), check_mode=True, kubeconfig="/does/not/exist", machine=unreachable)
    assert result["reason"] == "there is no cluster yet"
    assert result["changed"] is False
