"""An API of metrics goes away, and who is named in alertmanager_receiver is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from playbook_runs import INVENTORY, REPOSITORY, run_playbook

SCRIPT = Path(__file__).resolve().parents[1] / "files" / "webhook.py"
PINS = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text(encoding="utf-8"))["components"]
NAMESPACE = "told"
RECEIVER = {"webhook_configs": [{"url": f"http://webhook.{NAMESPACE}.svc:8080/"}]}
# A scenario has one cluster, of its own name.
CLUSTER = INVENTORY.parent.name
ADAPTER = ("apps/v1", "Deployment", "prometheus-adapter")
APISERVICE = ("apiregistration.k8s.io/v1", "APIService", "v1beta2.custom.metrics.k8s.io")
# Until the API server notices, Prometheus looks at it, the rule's minute is over, and Alertmanager's 10 seconds are.
TOLD_WITHIN = 240
# The API server's proxy gives up on an answer after a minute.
PATIENCE = 20
OBJECTS = f"""
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels: {{pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {{name: webhook, namespace: {NAMESPACE}}}
spec:
  selector: {{app: webhook}}
  ports: [{{port: 8080}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: webhook
  namespace: {NAMESPACE}
  labels: {{app: webhook}}
spec:
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: webhook
      image: localhost/kubescale/demo-app:{PINS["demo_app"]["version"]}
      imagePullPolicy: IfNotPresent
      command: [/usr/bin/python3, -c]
      args: []
      ports: [{{containerPort: 8080}}]
      readinessProbe:
        httpGet: {{path: /, port: 8080}}
        periodSeconds: 1
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"""


def holds(item: dict[str, Any], kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions") or []
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)


def wait(api: kube.Api, name: tuple[str, ...], wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Watch an object (apiVersion, kind, name, namespace) until it is as wanted."""
    api_version, kind, *place = name
    field = f"metadata.name={place[0]}"
    for event in api.watch(api_version, kind, *place[1:], field_selector=field, timeout=120):
        if wanted(event.object):
            return
    pytest.fail(f"{kind} {place[0]} is not as it should be after 120 s")


@pytest.fixture(scope="module")
def api() -> kube.Api:
    """The cluster's API."""
    return kube.connect(REPOSITORY / ".state" / CLUSTER / "kubeconfig")


def tell(receiver: dict[str, Any]) -> None:
    """Name who is told of alerts, as a user does."""
    settings = ["--extra-vars", json.dumps({"alertmanager_receiver": receiver})] if receiver else []
    run = run_playbook("site", "--tags", "alertmanager", *settings)
    assert run.returncode == 0, run.messages()
    assert [name.rpartition(" : ")[2] for name in run.results("changed")] == ["Apply Alertmanager"]
    assert f"webhook.{NAMESPACE}" not in run.output


@pytest.fixture
def webhook(api: kube.Api) -> Iterator[None]:
    """A receiver that did not exist before, and is named in the cluster's variables."""
    namespace, service, pod = yaml.safe_load_all(OBJECTS)
    pod["spec"]["containers"][0]["args"] = [SCRIPT.read_text(encoding="utf-8")]
    for item in (namespace, service, pod):
        api.apply(item, "test")
    wait(api, ("v1", "Pod", "webhook", NAMESPACE), lambda item: holds(item, "Ready"))
    tell(RECEIVER)
    yield
    tell({})
    api.delete("v1", "Namespace", NAMESPACE)


@pytest.fixture
def no_adapter(api: kube.Api, webhook: None) -> Iterator[float]:
    """The time since which there is no pod of the adapter; they are there again in the end."""
    place = (*ADAPTER, {"spec": {"replicas": 0}}, "custom-metrics")
    deployment = api.get(*ADAPTER, "custom-metrics")
    assert deployment is not None
    api.patch(*place)
    try:
        yield time.time()
    finally:
        api.patch(*ADAPTER, {"spec": {"replicas": deployment["spec"]["replicas"]}}, "custom-metrics")
        wait(api, APISERVICE, lambda item: holds(item, "Available"))


def test_whoever_is_to_be_told_of_alerts_is_told(
    api: kube.Api, no_adapter: float, record_property: Callable[[str, object], None]
) -> None:
    came: dict[str, Any] = {}
    while not came and time.time() < no_adapter + TOLD_WITHIN:
        came = api.service(
            NAMESPACE, "webhook", 8080, "/MetricsApiUnavailable", {"seconds": str(PATIENCE)}, timeout=PATIENCE + 10
        )
    assert came, f"nothing came within {TOLD_WITHIN} s"
    seconds = came["time"] - no_adapter
    record_property("seconds until told", round(seconds, 1))
    print(f"told {seconds:.1f} s after the adapter went")
    assert seconds < TOLD_WITHIN
    alert = came["alert"]
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["cluster"] == CLUSTER
    assert alert["labels"]["name"] in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"].endswith("#metricsapiunavailable")
