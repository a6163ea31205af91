"""A healthy cluster as a recording of its answers, and changes that break it."""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, unquote

from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import App
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import app_objects
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import doctor
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.settings import (
    CUSTOM_API,
    EXTERNAL_API,
    RESOURCE_API,
    Case,
    Seen,
    Settings,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import SERVICES, service_path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def at(seconds: float) -> str:
    """A time so many seconds after NOW, as Kubernetes writes it."""
    return f"{NOW + datetime.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def day(days: int) -> datetime.datetime:
    """A time so many days after NOW."""
    return NOW + datetime.timedelta(days=days)


LONG_AGO, JUST_NOW = at(-7200), at(-5)
METRIC, SERIES = "http_requests_per_second", "http_requests_total"
ENTRY = {
    "name": "shop",
    "namespace": "shop",
    "workload": "deployment/shop",
    "scrape": {"port": "web"},
    "scale_on": {"metric": SERIES, "target": 10},
    "replicas": {"min": 1, "max": 20},
}
SERVED = ENTRY | {"scrape": {"port": "web", "service": "shop"}}
CPU = {key: ENTRY[key] for key in ("name", "namespace", "workload", "replicas")} | {
    "scale_on": {"resource": "cpu", "target": "60%"}
}
QUEUE = CPU | {"scale_on": {"metric": "queue_length", "external": True, "selector": {"queue": "mail"}, "target": 5}}
INGRESS = CPU | {"scale_on": {"metric": "ingress_requests_total", "object": "ingress/shop", "target": 5}}

DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/shop"
PODS = "/api/v1/namespaces/shop/pods"
MONITORING = "/apis/monitoring.coreos.com/v1"
MONITOR = f"{MONITORING}/namespaces/shop/podmonitors/shop"
SERVERS = f"{MONITORING}/prometheuses"
HPA = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/shop"
HPAS = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers"
CONFIG = "/api/v1/namespaces/custom-metrics/configmaps/adapter-config"
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
ADAPTER_PODS = "/api/v1/namespaces/custom-metrics/pods"
SERVING = "/api/v1/namespaces/custom-metrics/secrets/cm-adapter-serving-certs"
METRICS_SERVER_PODS = "/api/v1/namespaces/kube-system/pods"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io/service-name=shop"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
VALUES = f"/apis/{CUSTOM_API}/v1beta2/namespaces/shop/pods/*/{METRIC}?labelSelector=app=shop"
USAGE = f"/apis/{RESOURCE_API}/v1beta1/namespaces/shop/pods?labelSelector=app=shop"
QUEUE_VALUE = f"/apis/{EXTERNAL_API}/v1beta1/namespaces/shop/queue_length?labelSelector=queue=mail"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
JOBS = "/api/v1/namespaces/prom/configmaps/prometheus-apps"
POOL = "podMonitor/shop/shop/0"
NODES, ALL_PODS = "/api/v1/nodes", "/api/v1/pods"
DEPLOYMENTS = "/apis/apps/v1/deployments"
SERVICE_MONITORS = f"{MONITORING}/servicemonitors"
AUTOSCALERS = "/apis/autoscaling/v2/horizontalpodautoscalers"
NODE_USAGE, POD_USAGE = (f"/apis/{RESOURCE_API}/v1beta1/{kind}" for kind in ("nodes", "pods"))
ALERTMANAGER = service_path("monitoring/alertmanager-main:9093", "/api/v2/status")
GRAFANA = service_path("monitoring/grafana:3000", "/api/health")
DASHBOARDS = service_path("monitoring/grafana:3000", "/api/search", {"type": "dash-db"})
POD = "shop-5d8f7c9b6-abcde"
OWN = {"applyset.kubernetes.io/part-of": "applyset-x"}


def conditions(since: str = LONG_AGO, **states: str | tuple[str, str, str]) -> dict[str, Any]:
    """Conditions of an object, each a status or (status, reason, message)."""
    found = []
    for kind, state in states.items():
        status, reason, message = state if isinstance(state, tuple) else (state, "Because", "it is so")
        found.append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
        )
    return {"conditions": found}


def make_certificate(
    issuer: tuple[x509.Certificate, Any] | None = None,
    name: str = "kubernetes",
    host: str = "prometheus-adapter.custom-metrics.svc",
    days: int = 300,
) -> tuple[x509.Certificate, Any]:
    """A certificate and its key, valid from a year ago until some days from NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=365))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def encoded(certificate: x509.Certificate) -> str:
    return base64.b64encode(pem(certificate).encode()).decode()


AUTHORITY = make_certificate()
SERVER_CERTIFICATE = pem(make_certificate(AUTHORITY)[0])
OTHER_AUTHORITY = make_certificate(name="somebody else")


def secret(host: str = "prometheus-adapter.custom-metrics.svc", days: int = 300) -> dict[str, Any]:
    return {"data": {"tls.crt": encoded(make_certificate(AUTHORITY, "server", host, days)[0])}}


def pod(name: str = POD, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": labels or {"app": "shop"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": name.rpartition("-")[0], "controller": True}],
        },
        "spec": {"containers": [{"name": "web"}], **spec},
        "status": {"phase": "Running", **conditions(PodScheduled="True", Ready="True")},
    }


def not_ready(since: str = LONG_AGO, waiting: dict[str, Any] | None = None, **states: Any) -> dict[str, Any]:
    """The status of a pod that is not ready."""
    container = {"name": "web", "restartCount": 3, "state": {"waiting": waiting} if waiting else {"running": {}}}
    return {
        "phase": "Pending",
        "containerStatuses": [container],
        **conditions(since, **{"Ready": ("False", "ContainersNotReady", "no"), "PodScheduled": "True", **states}),
    }


def apiservice(group: str, version: str, namespace: str, name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{version}.{group}", "labels": dict(OWN)},
        "spec": {
            "group": group,
            "version": version,
            "caBundle": encoded(AUTHORITY[0]),
            "service": {"namespace": namespace, "name": name, "port": 443},
        },
        "status": conditions(Available="True"),
    }


def server(namespace: str, name: str, secret_name: str, *arguments: str) -> dict[str, Any]:
    """The pod of an API's server."""
    made = pod(f"{name}-1", {"app.kubernetes.io/name": name}, volumes=[{"secret": {"secretName": secret_name}}])
    made["metadata"]["namespace"] = namespace
    made["spec"]["containers"] = [{"name": name, "args": list(arguments)}]
    made["status"]["containerStatuses"] = [{"name": name, "state": {"running": {"startedAt": LONG_AGO}}}]
    return made


def selecting(**labels: str) -> dict[str, Any]:
    return {"spec": {"selector": labels, "ports": [{"name": "web", "port": 9090}]}}


def listing(api_version: str, kind: str, *items: dict[str, Any]) -> dict[str, Any]:
    """A list that can be watched."""
    metadata = {"resourceVersion": "7"}
    return {"apiVersion": api_version, "kind": f"{kind}List", "metadata": metadata, "items": list(items)}


def component(name: str) -> dict[str, Any]:
    """A Deployment of a component in namespace monitoring."""
    return {
        "metadata": {"namespace": "monitoring", "name": name, "generation": 2},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": name}}},
        "status": {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1},
    }


def components() -> dict[str, Any]:
    """The answers about nodes and components."""
    info = {"kubeletVersion": "v1.37.0", "containerRuntimeVersion": "containerd://2.3.4"}
    info |= {"osImage": "Debian", "kernelVersion": "6.18"}
    node = {"metadata": {"name": "w1"}, "status": {"nodeInfo": info, **conditions(Ready="True")}}
    running = pod("grafana-1", {"app.kubernetes.io/name": "grafana"})
    running["metadata"]["namespace"] = "monitoring"
    running["spec"]["containers"] = [{"image": "localhost/kubescale/grafana:13.1.3"}]
    monitor = {"metadata": {"namespace": "monitoring", "name": "grafana"}, "spec": {"endpoints": [{"port": "web"}]}}
    elsewhere = component("x")
    elsewhere["metadata"]["namespace"] = "other"
    elsewhere["status"]["availableReplicas"] = 0
    return {
        "/api/v1/namespaces/kube-system": {"metadata": {"uid": "one"}},
        NODES: listing("v1", "Node", node),
        ALL_PODS: listing("v1", "Pod", running),
        "/api/v1/services": listing("v1", "Service"),
        DEPLOYMENTS: listing("apps/v1", "Deployment", component("grafana"), elsewhere),
        "/apis/apps/v1/daemonsets": listing("apps/v1", "DaemonSet"),
        "/apis/apps/v1/statefulsets": listing("apps/v1", "StatefulSet"),
        NODE_USAGE: {"kind": "NodeMetricsList", "metadata": {}, "items": [{"metadata": {"name": "w1"}}]},
        POD_USAGE: {"kind": "PodMetricsList", "metadata": {}, "items": [{"metadata": {"name": POD}}]},
        SERVICE_MONITORS: listing("monitoring.coreos.com/v1", "ServiceMonitor", monitor),
        f"{MONITORING}/podmonitors": listing("monitoring.coreos.com/v1", "PodMonitor"),
        ALERTMANAGER: {"cluster": {"status": "ready"}, "versionInfo": {"version": "0.31.1"}},
        GRAFANA: {"database": "ok", "version": "13.1.3"},
        DASHBOARDS: [{"title": "Demo app"}],
    }


class Stub:
    """A cluster as data: answers by path (an error is raised), and a Prometheus as parsed data."""

    def __init__(self, entry: dict[str, Any] | None = None, flavor: str = "operator") -> None:
        self.entry = copy.deepcopy(entry or ENTRY)
        self.flavor = flavor
        service = (self.entry.get("scrape") or {}).get("service")
        self.pools = ["serviceMonitor/shop/shop/0" if service else POOL]
        self.active = [
            {
                "scrapePool": self.pools[0],
                "scrapeUrl": "http://10.244.1.7:8000/metrics",
                "health": "up",
                "lastError": "",
                "labels": {"namespace": "shop", "pod": POD, "instance": "10.244.1.7:8000", "job": "shop"},
                "discoveredLabels": {},
            },
            {
                "scrapePool": "serviceMonitor/monitoring/grafana/0",
                "scrapeUrl": "http://10.244.1.3:3000/metrics",
                "health": "up",
                "labels": {"namespace": "monitoring", "pod": "grafana-1"},
            },
        ]
        self.dropped: list[dict[str, Any]] = []
        self.samples: dict[str, list[dict[str, Any]]] = {SERIES: [{"pod": POD}]}
        self.samples |= {"queue_length": [{"job": "mail"}], "ingress_requests_total": [{"job": "ingress"}]}
        self.names = [SERIES]
        self.clocks = {"node_time_seconds": "0.01", "kubelet_certificate": str(300 * 86400)}
        self.prometheus_error: ApiError | None = None
        self.alertmanagers = [{"url": "http://10.244.1.3:9093"}]
        self.answers = components() | self._answers()
        self.watched: list[tuple[str, str, str]] = []
        self.changed = threading.Event()
        self.absent: frozenset[str] = frozenset()
        self.machines = ["w1"]
        self.seen = Seen(NOW, NOW, lambda: SERVER_CERTIFICATE)
        self.owners = {CUSTOM_API: "prometheus_adapter", RESOURCE_API: "metrics_server", EXTERNAL_API: ""}

    @property
    def app(self) -> App:
        return parse_apps([self.entry])[0]

    def _answers(self) -> dict[str, Any]:
        objects = {item["kind"]: item for item in app_objects([self.app], "operator")}
        template = {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "ports": [{"name": "web", "containerPort": 8000}],
                        "resources": {"requests": {"cpu": "50m"}},
                    }
                ]
            },
        }
        hpa = copy.deepcopy(objects["HorizontalPodAutoscaler"])
        hpa["metadata"] |= {"namespace": "shop", "labels": dict(OWN)}
        hpa["status"] = {
            "currentReplicas": 1,
            "desiredReplicas": 1,
            **conditions(AbleToScale="True", ScalingActive="True", ScalingLimited="False"),
        }
        rule = [{"seriesQuery": SERIES, "name": {"matches": f"^{SERIES}$", "as": METRIC}}]
        rule.append({"seriesQuery": "ingress_requests_total", "name": {"as": "ingress_requests_per_second"}})
        external = [{"seriesQuery": "queue_length", "name": {"matches": "^queue_length$", "as": "queue_length"}}]
        adapter = ("custom-metrics", "prometheus-adapter")
        listed = [f"pods/{METRIC}", "ingresses.networking.k8s.io/ingress_requests_per_second"]
        prometheus = {"metadata": {"namespace": "monitoring", "name": "k8s"}, "spec": {}}
        for kind in ("podMonitor", "serviceMonitor"):
            prometheus["spec"] |= {f"{kind}Selector": {}, f"{kind}NamespaceSelector": {}}
        ingress = (
            f"/apis/{CUSTOM_API}/v1beta2/namespaces/shop/ingresses.networking.k8s.io/shop/ingress_requests_per_second"
        )
        return {
            "/api/v1/namespaces/shop": {"metadata": {"name": "shop", "labels": {"team": "a"}}},
            "/apis/apps/v1/namespaces/shop/deployments": {"items": [{"metadata": {"name": "shopp"}}]},
            DEPLOYMENT: {
                "metadata": {"namespace": "shop", "name": "shop"},
                "spec": {
                    "replicas": 1,
                    "strategy": {},
                    "selector": {"matchLabels": {"app": "shop"}},
                    "template": template,
                },
                "status": conditions(Available="True"),
            },
            PODS: {"items": [pod()]},
            "/api/v1/namespaces/shop/services/shop": {
                "spec": {"selector": {"app": "shop"}, "ports": [{"name": "web", "port": 80}]}
            },
            SLICES: {"items": [{"ports": [{}], "endpoints": [{"targetRef": {"name": POD}, "conditions": {}}]}]},
            MONITORING: {},
            **{
                f"{MONITORING}/namespaces/shop/{kind.lower()}s/shop": copy.deepcopy(item)
                for kind, item in objects.items()
                if kind.endswith("Monitor")
            },
            SERVERS: {"items": [prometheus]},
            "/api/v1/namespaces/monitoring/pods": {
                "items": [pod("prometheus-k8s-0", {"app.kubernetes.io/name": "prometheus"})]
            },
            "/api/v1/namespaces/monitoring/services/prometheus-k8s": selecting(
                **{"app.kubernetes.io/name": "prometheus"}
            ),
            POLICIES: {"items": []},
            CONFIG: {
                "metadata": {
                    "namespace": "custom-metrics",
                    "managedFields": [{"time": LONG_AGO, "fieldsV1": {"f:data": {}}}],
                },
                "data": {"config.yaml": json.dumps({"rules": rule, "externalRules": external})},
            },
            **{
                f"/apis/{CUSTOM_API}/{version}": {"resources": [{"name": name} for name in listed]}
                for version in ("v1beta1", "v1beta2")
            },
            f"/apis/{EXTERNAL_API}/v1beta1": {"resources": [{"name": "queue_length"}]},
            APISERVICES: {
                "items": [
                    apiservice(RESOURCE_API, "v1beta1", "kube-system", "metrics-server"),
                    apiservice(CUSTOM_API, "v1beta1", *adapter),
                    apiservice(CUSTOM_API, "v1beta2", *adapter),
                    apiservice(EXTERNAL_API, "v1beta1", *adapter),
                ]
            },
            "/api/v1/namespaces/custom-metrics/services/prometheus-adapter": selecting(
                **{"app.kubernetes.io/name": "prometheus-adapter"}
            ),
            "/api/v1/namespaces/kube-system/services/metrics-server": selecting(
                **{"app.kubernetes.io/name": "metrics-server"}
            ),
            ADAPTER_PODS: {
                "items": [
                    server(
                        *adapter,
                        "cm-adapter-serving-certs",
                        "--prometheus-url=http://prometheus-k8s.monitoring.svc:9090",
                    )
                ]
            },
            METRICS_SERVER_PODS: {"items": [server("kube-system", "metrics-server", "metrics-server-serving-certs")]},
            SERVING: secret(),
            "/api/v1/namespaces/kube-system/secrets/metrics-server-serving-certs": secret(
                "metrics-server.kube-system.svc"
            ),
            VALUES: {"items": [{"describedObject": {"name": POD}, "value": "3"}]},
            USAGE: {"items": [{"metadata": {"name": POD}, "containers": [{"name": "web", "usage": {"cpu": "3m"}}]}]},
            QUEUE_VALUE: {"items": [{"metricName": "queue_length", "value": "7"}]},
            ingress: {"items": [{"describedObject": {"name": "shop"}, "value": "7"}]},
            HPA: hpa,
            HPAS: {"items": [hpa]},
            AUTOSCALERS: listing("autoscaling/v2", "HorizontalPodAutoscaler", hpa),
            CSRS: listing("certificates.k8s.io/v1", "CertificateSigningRequest"),
            LEASES: {"items": [{"metadata": {"name": "w1"}, "spec": {"renewTime": at(-8)}}]},
        }

    def raw(self, path: str) -> Any:
        if "/proxy/api/v1/" in path:
            return {
                "status": "success",
                "data": self._prometheus(*path.partition("/proxy/api/v1/")[2].partition("?")[::2]),
            }
        answer = self.answers.get(unquote(path).replace("+", " "))
        if answer is None:
            raise ApiError(f"{path} not found", 404, "NotFound")
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def watch(self, api_version: str, kind: str, *, resource_version: str, timeout: float) -> Iterator[str]:
        self.watched.append((api_version, kind, resource_version))
        self.changed.wait(timeout)
        yield "event"

    def _prometheus(self, question: str, query: str) -> Any:
        if self.prometheus_error:
            raise self.prometheus_error
        arguments = {name: values[0] for name, values in parse_qs(query).items()}
        if question == "scrape_pools":
            return {"scrapePools": self.pools}
        if question == "targets":
            return {"activeTargets": self.active, "droppedTargets": self.dropped}
        if question == "label/__name__/values":
            return self.names
        if question == "status/buildinfo":
            return {"version": "3.14.0"}
        if question == "alertmanagers":
            return {"activeAlertmanagers": self.alertmanagers}
        assert question == "query", question
        return {"result": self._samples(arguments["query"])}

    def _samples(self, query: str) -> list[dict[str, Any]]:
        for name, value in self.clocks.items():
            if name in query:
                return [{"metric": {"node": "w1"}, "value": [1, value]}]
        if query == "vector(1)":
            return []
        if "__name__" in query:
            return [{"metric": {"__name__": name}, "value": [1, "1"]} for name in self.names]
        inner = re.fullmatch(r"count by \((\w+)\) \((.*)\)", query)
        assert inner, query
        kind = "before" if "last_over_time" in query else "unlabelled" if re.search('[^!]=""', query) else ""
        series = re.search(r"[a-z_]+(?=\{)", inner[2])
        assert series, query
        held = self.samples.get(f"{kind} {series[0]}".strip(), [])
        return [{"metric": labels, "value": [1, "1"]} for labels in held]

    @property
    def settings(self) -> Settings:
        served = {group for group, owner in self.owners.items() if owner}
        settings = Settings(NOW, SERVICES[self.flavor], self.flavor, self.owners, self.seen, frozenset(served))
        settings = dataclasses.replace(settings, absent=self.absent, machines=tuple(self.machines))
        return dataclasses.replace(settings, pools=frozenset({Case.of(self.app, settings).pool}))

    def examine(self) -> doctor.Diagnosis:
        return doctor.examine(self, [self.app], self.settings)

    def edit(self, path: str) -> Any:
        """The object at a path, to be changed."""
        return self.answers[path]


Change = Callable[[Stub], Any]


def set_at(path: str, *keys: Any) -> Callable[[Any], Change]:
    """A change that sets a part of an answer."""

    def setting(value: Any) -> Change:
        def change(stub: Stub) -> None:
            part = stub.answers[path]
            for key in keys[:-1]:
                part = part[key]
            part[keys[-1]] = value

        return change

    return setting


def gone(*paths: str) -> Change:
    def change(stub: Stub) -> None:
        for path in paths:
            del stub.answers[path]

    return change


def status_of_pod(**status: Any) -> Change:
    return lambda stub: stub.edit(PODS)["items"][0].update(status=not_ready(**status))


def another_pod(**status: Any) -> Change:
    """A second pod, which is not ready."""

    def change(stub: Stub) -> None:
        second = pod("shop-5d8f7c9b6-other")
        second["status"] = not_ready(**status)
        stub.edit(PODS)["items"].append(second)
        stub.edit(DEPLOYMENT)["spec"]["replicas"] = 2

    return change


def refused(message: str, ready: bool = False) -> Change:
    def change(stub: Stub) -> None:
        stub.edit(DEPLOYMENT)["status"] = conditions(ReplicaFailure=("True", "FailedCreate", message))
        if not ready:
            stub.edit(PODS)["items"] = []

    return change


def scrape_fails(error: str) -> Change:
    return lambda stub: stub.active[0].update(health="down", lastError=error)


def no_series(*names: str, **others: list[dict[str, Any]]) -> Change:
    def change(stub: Stub) -> None:
        stub.names = list(names)
        stub.samples = {name.replace("__", " "): labels for name, labels in others.items()}

    return change


def statefulset(stub: Stub) -> None:
    stub.entry["workload"] = "statefulset/shop"
    made = stub.answers.pop(DEPLOYMENT)
    del made["spec"]["strategy"]
    made["spec"]["replicas"] = 2
    made["status"] = {"replicas": 1}
    stub.answers[DEPLOYMENT.replace("deployments", "statefulsets")] = made
    events = "/api/v1/namespaces/shop/events?fieldSelector="
    chosen = "involvedObject.kind=StatefulSet,involvedObject.name=shop,reason=FailedCreate"
    event = {"lastTimestamp": JUST_NOW, "message": "pods shop-1 is forbidden: exceeded quota: few"}
    stub.answers[events + chosen] = {"items": [event]}
    # The autoscaler and the monitor are made of the entry, as a run would have made them.
    for item in app_objects([stub.app], "operator"):
        path = HPA if item["kind"] == "HorizontalPodAutoscaler" else MONITOR
        stub.answers[path]["spec"] = item["spec"]


def registration(number: int, **spec: Any) -> Change:
    return lambda stub: stub.edit(APISERVICES)["items"][number]["spec"].update(spec)


def unregistered(group: str) -> Change:
    def change(stub: Stub) -> None:
        kept = [item for item in stub.edit(APISERVICES)["items"] if item["spec"]["group"] != group]
        stub.edit(APISERVICES)["items"] = kept

    return change


def unowned(stub: Stub) -> None:
    for item in stub.edit(APISERVICES)["items"]:
        item["metadata"] = {"name": item["metadata"]["name"], "annotations": {"meta.helm.sh/release-name": "keda"}}


def cannot_scale(kind: str) -> Change:
    def change(stub: Stub) -> None:
        entries = stub.edit(HPA)["status"]["conditions"]
        next(entry for entry in entries if entry["type"] == kind).update(
            status="False", reason="FailedGetPodsMetric", message="unable to get metric"
        )

    return change


def limited(stub: Stub) -> None:
    stub.edit(HPA)["status"] = {
        "currentReplicas": 19,
        "desiredReplicas": 20,
        **conditions(
            AbleToScale="True", ScalingActive="True", ScalingLimited=("True", "TooManyReplicas", "more wanted")
        ),
    }


def rival(stub: Stub) -> None:
    other = copy.deepcopy(stub.answers[HPA])
    other["metadata"]["name"] = "by-hand"
    stub.edit(HPAS)["items"].append(other)


def request(name: str = "csr-1", since: str = LONG_AGO, **status: Any) -> dict[str, Any]:
    """A kubelet's request for a serving certificate."""
    return {
        "metadata": {"name": name, "creationTimestamp": since},
        "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:w1"},
        "status": status,
    }


def seen(**others: Any) -> Change:
    return lambda stub: setattr(stub, "seen", Seen(**{"now": NOW, "server_now": NOW, **others}))


def entry(**values: Any) -> Change:
    """A change of the entry alone: nothing of it was applied."""
    return lambda stub: stub.entry.update(values)
