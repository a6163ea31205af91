"""The doctor: each cause is found at its link, in answers as a cluster gives them."""

from __future__ import annotations

import base64
import copy
import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import doctor_table
import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import App
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import app_objects
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.scraping import standalone_scrape_config
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import chain as doctor_chain
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import cluster as doctor_cluster
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import doctor
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.causes import CAUSES, GENERAL, LINKS, broken
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.settings import (
    CUSTOM_API,
    EXTERNAL_API,
    RESOURCE_API,
    Settings,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import SERVICES
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

REPOSITORY = Path(__file__).resolve().parents[3]
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
            }
        ]
        self.dropped: list[dict[str, Any]] = []
        self.samples: dict[str, list[dict[str, Any]]] = {SERIES: [{"pod": POD}]}
        self.samples |= {"queue_length": [{"job": "mail"}], "ingress_requests_total": [{"job": "ingress"}]}
        self.names = [SERIES]
        self.clocks = {"node_time_seconds": "0.01", "kubelet_certificate": str(300 * 86400)}
        self.prometheus_error: ApiError | None = None
        self.answers = self._answers()
        self.seen = doctor_cluster.Seen(NOW, NOW, pem(make_certificate(AUTHORITY)[0]))
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
        hpa["metadata"]["namespace"] = "shop"
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
            f"/apis/{CUSTOM_API}/v1beta2": {"resources": [{"name": name} for name in listed]},
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
            "/apis/autoscaling/v2/horizontalpodautoscalers": {"items": [hpa]},
            CSRS: {"items": []},
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

    def watch(self, *_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a doctor looks once")

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
        assert question == "query", question
        return {"result": self._samples(arguments["query"])}

    def _samples(self, query: str) -> list[dict[str, Any]]:
        for name, value in self.clocks.items():
            if name in query:
                return [{"metric": {"node": "w1"}, "value": [1, value]}]
        if "__name__" in query:
            return [{"metric": {"__name__": name}, "value": [1, "1"]} for name in self.names]
        inner = re.fullmatch(r"count by \((\w+)\) \((.*)\)", query)
        assert inner, query
        kind = "before" if "last_over_time" in query else "unlabelled" if re.search('[^!]=""', query) else ""
        series = re.search(r"[a-z_]+(?=\{)", inner[2])
        assert series, query
        held = self.samples.get(f"{kind} {series[0]}".strip(), [])
        return [{"metric": labels, "value": [1, "1"]} for labels in held]

    def examine(self) -> doctor.Diagnosis:
        settings = Settings(NOW, SERVICES[self.flavor], self.flavor, self.owners)
        return doctor.examine(self, [self.app], settings, self.seen)

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


def seen(**others: Any) -> Change:
    return lambda stub: setattr(stub, "seen", doctor_cluster.Seen(**{"now": NOW, "server_now": NOW, **others}))


def entry(**values: Any) -> Change:
    """A change of the entry alone: nothing of it was applied."""
    return lambda stub: stub.entry.update(values)


NO_CPU = set_at(DEPLOYMENT, "spec", "template", "spec", "containers", 0, "resources")({})
WAITING = "waiting"
#: Cause, link, entry, what is done to a healthy cluster, words of the evidence.
CASES: list[tuple[str, str, dict[str, Any], Change, str]] = [
    ("namespace_missing", "workload", ENTRY, gone(DEPLOYMENT, "/api/v1/namespaces/shop"), "no namespace shop"),
    ("workload_missing", "workload", ENTRY, gone(DEPLOYMENT), "no Deployment shop in namespace shop; there is shopp"),
    ("workload_at_zero", "workload", ENTRY, set_at(DEPLOYMENT, "spec", "replicas")(0), "is 0"),
    (
        "image_not_pulled",
        "workload",
        ENTRY,
        status_of_pod(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"}),
        f"pod {POD}: web ImagePullBackOff: Back-off pulling image",
    ),
    (
        "container_not_created",
        "workload",
        ENTRY,
        another_pod(waiting={"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}),
        'secret "x" not found',
    ),
    ("crash_loop", "workload", ENTRY, status_of_pod(waiting={"reason": "CrashLoopBackOff"}), "CrashLoopBackOff"),
    (
        "crash_loop",
        "workload",
        ENTRY,
        lambda stub: stub.edit(PODS)["items"][0].update(
            status={
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "web",
                        "restartCount": 2,
                        "state": {"terminated": {"exitCode": 1, "reason": "Error"}},
                        "lastState": {"terminated": {"exitCode": 1}},
                    }
                ],
                **conditions(Ready="False"),
            }
        ),
        f"pod {POD}: web ended, exit code 1: Error, 2 restarts",
    ),
    ("pods_refused", "workload", ENTRY, refused("violates PodSecurity", ready=True), "violates PodSecurity"),
    ("quota_exceeded", "workload", ENTRY, refused("exceeded quota: few"), "exceeded quota: few"),
    (
        "unschedulable",
        "workload",
        ENTRY,
        status_of_pod(PodScheduled=("False", "Unschedulable", "0/2 nodes are available: 2 Insufficient cpu.")),
        "2 Insufficient cpu",
    ),
    ("pods_not_ready", "workload", ENTRY, another_pod(), "ContainersNotReady"),
    ("pods_not_ready", "workload", ENTRY, set_at(PODS, "items")([]), "no pods yet"),
    (
        "port_name_unknown",
        "pods",
        ENTRY,
        entry(scrape={"port": "wbe"}),
        "no container has a port named wbe; there are web (8000) of web",
    ),
    (
        "container_unknown",
        "pods",
        CPU,
        entry(scale_on={"resource": "cpu", "container": "wbe", "target": "60%"}),
        "no container wbe; there are web",
    ),
    ("request_missing", "pods", CPU, NO_CPU, "web requests no cpu"),
    ("service_missing", "endpoints", SERVED, gone("/api/v1/namespaces/shop/services/shop"), "no Service shop"),
    (
        "service_port_unknown",
        "endpoints",
        SERVED,
        set_at("/api/v1/namespaces/shop/services/shop", "spec", "ports")([{"name": "http", "port": 80}]),
        "Service shop has no port web; it has http (80)",
    ),
    ("service_without_endpoints", "endpoints", SERVED, set_at(SLICES, "items")([]), "none of the 1 ready pods"),
    (
        "service_lacks_pods",
        "endpoints",
        SERVED,
        lambda stub: stub.edit(PODS)["items"].append(pod("shop-5d8f7c9b6-other")),
        "does not lead to shop-5d8f7c9b6-other",
    ),
    (
        "no_prometheus",
        "scrape",
        ENTRY,
        lambda stub: setattr(stub, "prometheus_error", ApiError("no endpoints available for service", 503)),
        "no endpoints available",
    ),
    ("no_prometheus", "scrape", ENTRY, set_at(SERVERS, "items")([]), "no Prometheus object"),
    ("monitor_kind_missing", "scrape", ENTRY, gone(MONITORING, MONITOR), "does not know kind PodMonitor"),
    ("monitor_missing", "scrape", ENTRY, gone(MONITOR), "no PodMonitor shop/shop"),
    (
        "namespace_not_watched",
        "scrape",
        ENTRY,
        set_at(SERVERS, "items", 0, "spec", "podMonitorNamespaceSelector")({"matchLabels": {"watched": "yes"}}),
        "Prometheus monitoring/k8s watches namespaces with watched=yes only",
    ),
    (
        "namespace_not_watched",
        "scrape",
        ENTRY,
        set_at(SERVERS, "items", 0, "spec", "podMonitorNamespaceSelector")(None),
        "its own namespace only",
    ),
    (
        "monitor_not_selected",
        "scrape",
        ENTRY,
        set_at(SERVERS, "items", 0, "spec", "podMonitorSelector")({"matchLabels": {"release": "kps"}}),
        "release=kps",
    ),
    ("monitor_not_loaded", "scrape", ENTRY, lambda stub: stub.pools.clear(), f"0 jobs without {POOL}"),
    (
        "monitor_edited",
        "target",
        ENTRY,
        lambda stub: (
            stub.active.clear(),
            stub.edit(MONITOR)["spec"]["podMetricsEndpoints"][0].update(port="wbe"),
        ),
        "spec.podMetricsEndpoints[0].port is wbe, not web",
    ),
    (
        "targets_dropped",
        "target",
        ENTRY,
        lambda stub: (
            stub.active.clear(),
            stub.dropped.append(
                {
                    "discoveredLabels": {
                        "__meta_kubernetes_namespace": "shop",
                        "__meta_kubernetes_pod_name": POD,
                    }
                }
            ),
        ),
        "which ReplicaSet shop-5d8f7c9b6 controls",
    ),
    ("target_missing", "target", ENTRY, lambda stub: stub.active.clear(), "has none of them"),
    *[
        (cause, "target", ENTRY, scrape_fails(error), error)
        for cause, error in {
            "target_refused": "dial tcp 10.244.1.7:8000: connect: connection refused",
            "target_timed_out": "context deadline exceeded",
            "target_unreachable": "dial tcp 10.244.1.7:8000: connect: no route to host",
            "target_not_found": "server returned HTTP status 404 Not Found",
            "target_forbidden": "server returned HTTP status 401 Unauthorized",
            "target_http_error": "server returned HTTP status 500 Internal Server Error",
            "target_not_metrics": 'received unsupported Content-Type "text/html" and no fallback_scrape_protocol',
            "target_tls": "http: server gave HTTP response to HTTPS client",
            "target_down": "something new",
        }.items()
    ],
    (
        "scraped_twice",
        "target",
        ENTRY,
        lambda stub: stub.active.append({**stub.active[0], "scrapePool": "serviceMonitor/shop/by-hand/0"}),
        "scraped by podMonitor/shop/shop/0 and by serviceMonitor/shop/by-hand/0",
    ),
    ("series_renamed", "series", ENTRY, no_series("http_request_total", "up"), "the pod has http_request_total"),
    ("series_absent", "series", ENTRY, no_series("up", "process_cpu_seconds_total"), "the pod has 2 others"),
    (
        "series_incomplete",
        "series",
        ENTRY,
        lambda stub: (
            stub.edit(PODS)["items"].append(pod("shop-5d8f7c9b6-other")),
            stub.active.append({**stub.active[0], "labels": {"pod": "shop-5d8f7c9b6-other"}, "scrapeUrl": "b"}),
        ),
        "missing for pod shop-5d8f7c9b6-other, 1 have it",
    ),
    ("series_stale", "series", ENTRY, no_series(**{f"before__{SERIES}": [{"pod": POD}]}), "within the last 15 minutes"),
    (
        "series_unlabelled",
        "series",
        ENTRY,
        no_series(**{f"unlabelled__{SERIES}": [{"instance": "10.244.1.7:8000"}]}),
        "without label pod or namespace",
    ),
    ("series_renamed", "series", QUEUE, no_series("queue_lengths"), "there is queue_lengths"),
    ("series_absent", "series", QUEUE, no_series("up"), 'queue_length{queue="mail"} has no samples'),
    ("series_unlabelled", "series", QUEUE, no_series("queue_length"), "with other labels"),
    ("series_stale", "series", QUEUE, no_series(before__queue_length=[{"job": "mail"}]), "within the last"),
    ("rule_missing", "discovered", ENTRY, set_at(CONFIG, "data")({"config.yaml": "rules: []"}), f"makes {METRIC}"),
    ("rule_missing", "discovered", ENTRY, gone(CONFIG), "no rule"),
    (
        "adapter_not_restarted",
        "discovered",
        ENTRY,
        set_at(CONFIG, "metadata", "managedFields", 0, "time")(JUST_NOW),
        f"pod prometheus-adapter-1 started at {LONG_AGO}",
    ),
    (
        "metric_not_listed",
        "discovered",
        ENTRY,
        set_at(f"/apis/{CUSTOM_API}/v1beta2", "resources")([{"name": "pods/other"}]),
        f"lists 1 metrics without {METRIC}",
    ),
    ("api_not_registered", "apiservice", CPU, unregistered(RESOURCE_API), "no APIService of metrics.k8s.io"),
    ("api_of_others", "apiservice", ENTRY, unowned, "belongs to Helm release ?/keda"),
    ("api_unverified", "apiservice", ENTRY, registration(1, insecureSkipTLSVerify=True), "insecureSkipTLSVerify"),
    ("api_unverified", "apiservice", ENTRY, registration(1, caBundle=""), "no caBundle"),
    ("server_down", "apiservice", ENTRY, set_at(ADAPTER_PODS, "items")([]), "it has no pods"),
    (
        "server_down",
        "apiservice",
        CPU,
        gone("/api/v1/namespaces/kube-system/services/metrics-server"),
        "Service kube-system/metrics-server, which does not exist",
    ),
    (
        "certificate_expired",
        "apiservice",
        ENTRY,
        lambda stub: stub.answers.update({SERVING: secret(days=-1)}),
        f"to {day(-1):%Y-%m-%d %H:%M} UTC",
    ),
    (
        "ca_bundle_wrong",
        "apiservice",
        ENTRY,
        registration(1, caBundle=encoded(OTHER_AUTHORITY[0])),
        "signed by CN=kubernetes, the APIService's caBundle is another CA (CN=somebody else)",
    ),
    ("ca_bundle_wrong", "apiservice", ENTRY, registration(1, caBundle="bm9uZQ=="), "holds no certificate"),
    (
        "certificate_misnamed",
        "apiservice",
        ENTRY,
        lambda stub: stub.answers.update({SERVING: secret("localhost")}),
        "names localhost, not prometheus-adapter.custom-metrics.svc",
    ),
    (
        "api_unavailable",
        "apiservice",
        ENTRY,
        lambda stub: stub.edit(APISERVICES)["items"][1].update(
            status=conditions(Available=("False", "FailedDiscoveryCheck", "context deadline exceeded"))
        ),
        "FailedDiscoveryCheck: context deadline exceeded",
    ),
    (
        "adapter_asks_elsewhere",
        "apiservice",
        ENTRY,
        lambda stub: stub.edit(ADAPTER_PODS)["items"][0]["spec"]["containers"][0].update(
            args=["--prometheus-url=http://prometheus.prom.svc:9090"]
        ),
        "no Service prom/prometheus",
    ),
    ("value_missing", "values", ENTRY, set_at(VALUES, "items")([]), "empty list"),
    (
        "value_missing",
        "values",
        ENTRY,
        lambda stub: stub.answers.update({VALUES: ApiError("the server could not find the metric", 404)}),
        "could not find the metric",
    ),
    (
        "values_incomplete",
        "values",
        ENTRY,
        set_at(VALUES, "items", 0, "describedObject")({"name": "other"}),
        f"no value for pod {POD}",
    ),
    (
        "values_incomplete",
        "values",
        CPU,
        set_at(USAGE, "items", 0, "containers")([]),
        f"cpu has no value for pod {POD}",
    ),
    ("autoscaler_missing", "hpa", ENTRY, gone(HPA), "no HorizontalPodAutoscaler in shop"),
    (
        "autoscaler_edited",
        "hpa",
        ENTRY,
        set_at(HPA, "spec", "metrics", 0, "pods", "metric", "name")("other"),
        f"spec.metrics[0].pods.metric.name is other, not {METRIC}",
    ),
    ("autoscaler_rival", "hpa", ENTRY, rival, "shop and by-hand scale Deployment shop"),
    ("autoscaler_unable", "hpa", ENTRY, cannot_scale("AbleToScale"), "AbleToScale=False: FailedGetPodsMetric"),
    ("autoscaler_blind", "hpa", ENTRY, cannot_scale("ScalingActive"), "ScalingActive=False: FailedGetPodsMetric"),
    ("max_reached", "limits", ENTRY, limited, "20 of at most 20 replicas desired: TooManyReplicas: more wanted"),
    ("size_fixed", "limits", ENTRY | {"replicas": {"min": 3, "max": 3}}, lambda _stub: None, "are 3"),
    (
        "scale_up_disabled",
        "limits",
        ENTRY | {"behavior": {"scaleUp": {"selectPolicy": "Disabled"}}},
        lambda _stub: None,
        "scaleUp.selectPolicy is Disabled",
    ),
    ("quota_reached", "limits", ENTRY, refused("exceeded quota: few", ready=True), "exceeded quota: few"),
    ("quota_reached", "limits", ENTRY, statefulset, "exceeded quota: few"),
    (
        "no_room",
        "limits",
        ENTRY,
        another_pod(PodScheduled=("False", "Unschedulable", "0/2 nodes are available")),
        "0/2 nodes are available",
    ),
    ("api_of_others", "owners", ENTRY, unowned, "keda"),
    ("api_unverified", "owners", ENTRY, registration(0, insecureSkipTLSVerify=True), "v1beta1.metrics.k8s.io"),
    (
        "certificate_ending",
        "certificates",
        ENTRY,
        lambda stub: stub.answers.update({SERVING: secret(days=3)}),
        f"Secret custom-metrics/cm-adapter-serving-certs ends first, on {day(3):%Y-%m-%d} (3 days)",
    ),
    (
        "certificate_ending",
        "certificates",
        ENTRY,
        seen(server_certificate=pem(make_certificate(days=2)[0])),
        "the API server's own ends first",
    ),
    (
        "certificate_ending",
        "certificates",
        ENTRY,
        lambda stub: stub.clocks.update(kubelet_certificate=str(86400)),
        "the kubelet's on w1 ends first",
    ),
    (
        "kubelet_certificate_waiting",
        "certificates",
        ENTRY,
        set_at(CSRS, "items")(
            [
                {
                    "metadata": {"name": "csr-1", "creationTimestamp": LONG_AGO},
                    "spec": {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:w1"},
                    "status": {},
                }
            ]
        ),
        "system:node:w1: csr-1 waits for approval",
    ),
    (
        "controller_clock_off",
        "clock",
        ENTRY,
        seen(now=NOW + datetime.timedelta(minutes=10)),
        "600 s ahead of the API server",
    ),
    ("node_clock_off", "clock", ENTRY, lambda stub: stub.clocks.update(node_time_seconds="-33.4"), "w1 is 33 s behind"),
    (
        "node_clock_off",
        "clock",
        ENTRY,
        set_at(LEASES, "items", 0, "spec", "renewTime")(at(120)),
        "w1 is 120 s ahead",
    ),
    ("target_without_request", "requests", CPU, NO_CPU, "shop/shop: web (cpu)"),
]


@pytest.mark.parametrize(
    ("cause", "link", "given", "change", "words"),
    CASES,
    ids=[f"{case[1]}-{case[0]}-{n}" for n, case in enumerate(CASES)],
)
def test_a_cause_is_found_at_its_link(cause: str, link: str, given: dict[str, Any], change: Change, words: str) -> None:
    stub = Stub(given)
    healthy = stub.examine()
    change(stub)
    diagnosis = stub.examine()
    patient = diagnosis.apps[0] if link in LINKS else diagnosis.cluster
    first = patient.diagnosis
    assert first, doctor.describe("berlin", diagnosis, detailed=True)
    assert (first.link, first.cause) == (link, cause), doctor.describe("berlin", diagnosis, detailed=True)
    assert words in first.evidence
    assert "{" not in first.advice.replace("{namespace=", "")
    # What the cluster is like without the change, so that it is the change that was found.
    if not given.get("behavior") and given["replicas"] == ENTRY["replicas"]:
        assert healthy.ill == [], doctor.describe("berlin", healthy, detailed=True)


@pytest.mark.parametrize("selector", [None, {}])
def test_a_service_without_a_selector_leads_to_no_pods_of_its_namespace(selector: dict[str, str] | None) -> None:
    stub = Stub()
    # Whoever made its endpoints by hand answers for them; pods beside it, with certificates of their own, do not count.
    stub.edit("/api/v1/namespaces/custom-metrics/services/prometheus-adapter")["spec"]["selector"] = selector
    stub.edit("/api/v1/namespaces/monitoring/services/prometheus-k8s")["spec"]["selector"] = selector
    stub.answers[SERVING] = secret("localhost", days=-1)
    assert stub.examine().ill == [], doctor.describe("berlin", stub.examine(), detailed=True)


def test_every_cause_is_tested_at_each_of_its_links() -> None:
    assert {(case[0], case[1]) for case in CASES} == {
        (name, link) for name, cause in CAUSES.items() for link in cause.links
    }


def test_causes_are_of_links_that_there_are_and_links_have_examinations() -> None:
    assert {link for cause in CAUSES.values() for link in cause.links} == {*LINKS, *GENERAL}
    assert list(doctor_chain.CHAIN) == list(LINKS)
    assert list(doctor_cluster.EXAMINATIONS) == list(GENERAL)
    with pytest.raises(KeyError, match="crash_loop is a cause at workload, not at pods"):
        broken("crash_loop", "pods", "", {})


@pytest.mark.parametrize(
    "given", [ENTRY, SERVED, CPU, QUEUE, INGRESS], ids=["pods", "service", "cpu", "queue", "ingress"]
)
def test_a_healthy_app_of_each_kind_is_healthy(given: dict[str, Any]) -> None:
    stub = Stub(given)
    diagnosis = stub.examine()
    assert diagnosis.ill == [], doctor.describe("berlin", diagnosis, detailed=True)
    states = {finding.link: finding.state for finding in diagnosis.apps[0].findings}
    skipped = {link for link, state in states.items() if state == "skipped"}
    not_scraped = {"endpoints", "scrape", "target"}
    assert skipped == {
        id(ENTRY): {"endpoints"},
        id(SERVED): set(),
        id(CPU): not_scraped | {"series", "discovered"},
        id(QUEUE): not_scraped | {"pods"},
        id(INGRESS): not_scraped | {"pods"},
    }[id(given)] | ({"pods"} if given is SERVED else set())


def standalone() -> Stub:
    """A healthy cluster whose Prometheus runs without the operator."""
    stub = Stub(flavor="standalone")
    for kind in (MONITORING, MONITOR, SERVERS):
        del stub.answers[kind]
    stub.pools = ["app/shop/shop"]
    stub.active[0]["scrapePool"] = stub.pools[0]
    stub.answers[JOBS] = {
        "data": {
            "scrape.yml": yaml.safe_dump({"scrape_configs": [standalone_scrape_config(stub.app, stub.app.scrape)]})
        }
    }
    return stub


def test_without_the_operator_jobs_are_looked_for_in_the_file_that_prometheus_reads() -> None:
    stub = standalone()
    assert stub.examine().ill == [], doctor.describe("berlin", stub.examine(), detailed=True)
    stub.active.clear()
    stub.edit(JOBS)["data"]["scrape.yml"] = stub.edit(JOBS)["data"]["scrape.yml"].replace("/metrics", "/other")
    first = stub.examine().apps[0].diagnosis
    assert (first.link, first.cause) == ("target", "monitor_edited")
    assert "of app/shop/shop job.metrics_path is /other, not /metrics" in first.evidence
    del stub.answers[JOBS]
    first = stub.examine().apps[0].diagnosis
    assert (first.link, first.cause) == ("scrape", "monitor_missing")
    assert first.evidence == "ConfigMap prom/prometheus-apps has no job app/shop/shop"


def test_a_new_pod_beside_old_ones_has_time_to_get_ready_and_scraped() -> None:
    stub = Stub()
    starting, fresh = pod("shop-5d8f7c9b6-new"), pod("shop-5d8f7c9b6-fresh")
    starting["status"] = not_ready(JUST_NOW)
    fresh["status"] = {"phase": "Running", **conditions(JUST_NOW, PodScheduled="True", Ready="True")}
    stub.edit(PODS)["items"] += [starting, fresh]
    assert stub.examine().ill == []


def test_of_an_app_that_has_just_started_nothing_is_said_that_may_be_so_for_that_reason() -> None:
    stub = Stub()
    stub.edit(PODS)["items"][0]["status"] = {
        "phase": "Running",
        **conditions(JUST_NOW, PodScheduled="True", Ready="True"),
    }
    assert stub.examine().ill == []
    stub.active.clear()
    no_series("up")(stub)
    set_at(VALUES, "items")([])(stub)
    cannot_scale("ScalingActive")(stub)
    patient = stub.examine().apps[0]
    unknown = {finding.link for finding in patient.findings if finding.state == "unknown"}
    assert (patient.state, unknown) == ("unknown", {"target", "series", "values", "hpa"})
    assert "? shop: target cannot be told: no target yet: its pods are ready for less than 30 s" in doctor.describe(
        "berlin", stub.examine()
    )


def test_an_adapter_that_is_down_is_found_at_its_api_not_at_what_cannot_be_asked() -> None:
    stub = Stub()
    stub.edit(ADAPTER_PODS)["items"] = []
    stub.answers[f"/apis/{CUSTOM_API}/v1beta2"] = ApiError("service unavailable", 503)
    stub.answers[VALUES] = ApiError("service unavailable", 503)
    cannot_scale("ScalingActive")(stub)
    patient = stub.examine().apps[0]
    states = {finding.link: finding.state for finding in patient.findings}
    assert patient.diagnosis
    assert (patient.diagnosis.link, patient.diagnosis.cause) == ("apiservice", "server_down")
    assert (states["discovered"], states["values"], states["hpa"]) == ("unknown", "unknown", "broken")
    text = doctor.describe("berlin", stub.examine())
    assert "✗ shop: broken at apiservice, server_down" in text
    assert "then:  hpa (autoscaler_blind): most likely a consequence" in text


def test_what_cannot_be_read_is_unknown_and_not_healthy() -> None:
    stub = Stub()
    stub.answers[HPA] = ApiError("forbidden", 403)
    diagnosis = stub.examine()
    assert diagnosis.apps[0].state == "unknown"
    assert not diagnosis.document("berlin")["healthy"]
    assert "? shop: hpa cannot be told: forbidden" in doctor.describe("berlin", diagnosis)
    stub.answers[HPA] = {"spec": stub.answers[HPAS]["items"][0]["spec"]}
    assert "not what was expected" in doctor.describe("berlin", stub.examine())


def test_others_may_serve_an_api_that_is_not_ours_to_serve() -> None:
    stub = Stub(CPU)
    unowned(stub)
    registration(0, insecureSkipTLSVerify=True, caBundle=None)(stub)
    stub.owners = {}
    diagnosis = stub.examine()
    assert diagnosis.ill == [], doctor.describe("berlin", diagnosis, detailed=True)
    assert (
        "metrics.k8s.io: kube-system/metrics-server (not ours, not verified)" in diagnosis.cluster.findings[0].evidence
    )


def test_an_entry_may_forbid_the_way_down() -> None:
    stub = Stub(ENTRY | {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}})
    diagnosis = stub.examine()
    assert diagnosis.ill == []
    assert "never fewer" in diagnosis.apps[0].findings[-1].evidence


def test_network_policies_are_named_when_a_scrape_gets_no_answer() -> None:
    stub = Stub()
    scrape_fails("context deadline exceeded")(stub)
    policy = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    out = {"metadata": {"name": "out"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    stub.edit(POLICIES)["items"] = [policy, out]
    assert "; NetworkPolicy deny limits who may reach these pods" in stub.examine().apps[0].diagnosis.evidence


def test_every_path_is_read_once() -> None:
    stub, asked = Stub(), []
    answer = stub.raw
    stub.raw = lambda path: (asked.append(path), answer(path))[1]  # type: ignore[method-assign]
    stub.examine()
    assert len(asked) == len(set(asked))


def test_the_text_has_a_row_for_each_app_and_details_when_asked() -> None:
    stub = Stub()
    lines = doctor.describe("berlin", stub.examine()).splitlines()
    assert re.fullmatch(r"berlin: 1 of 1 apps healthy, examined in \d\.\d s", lines[0])
    assert lines[2].split() == ["app", *LINKS]
    assert lines[3].split() == ["shop", "✓", "✓", "-", *["✓"] * 8]
    assert lines[5] == "cluster  ✓ owners  ✓ certificates  ✓ clock  ✓ requests"
    details = doctor.describe("berlin", stub.examine(), detailed=True)
    assert "  ✓ target      1 pods up" in details
    assert "  ✓ clock         this machine within 0 s of the API server, 1 nodes within 0.0 s" in details


def test_the_document_is_plain_data() -> None:
    stub = Stub()
    scrape_fails("connection refused")(stub)
    document = json.loads(json.dumps(stub.examine().document("berlin")))
    (app,) = document["apps"]
    assert (document["cluster"], document["healthy"], app["name"], app["state"]) == ("berlin", False, "shop", "broken")
    assert app["diagnosis"]["cause"] == "target_refused"
    assert app["diagnosis"]["meaning"] == CAUSES["target_refused"].meaning
    assert [link["link"] for link in app["links"]] == list(LINKS)
    assert [each["link"] for each in document["general"]] == list(GENERAL)


def test_unknown_apps_are_named_with_those_that_there_are() -> None:
    apps = parse_apps([ENTRY, ENTRY | {"name": "node", "workload": "deployment/node"}])
    assert [app.name for app in doctor.choose(apps, ["node"])] == ["node"]
    assert doctor.choose(apps, []) == apps
    with pytest.raises(
        doctor.UnknownAppError, match=r"app = 'shp' has no entry.*there are shop, node; did you mean shop"
    ):
        doctor.choose(apps, ["shp"])
    with pytest.raises(doctor.UnknownAppError, match="there are no autoscaled apps"):
        doctor.choose([], ["shop"])


def test_paths_are_as_the_api_server_wants_them() -> None:
    stub, asked = Stub(SERVED), []
    answer = stub.raw
    stub.raw = lambda path: (asked.append(path), answer(path))[1]  # type: ignore[method-assign]
    stub.examine()
    assert not [path for path in asked if re.search(r"[ \"{}]", path) or urlsplit(path).fragment]


def test_the_page_has_every_link_and_cause_and_the_faults_that_prove_them() -> None:
    text = doctor_table.PAGE.read_text(encoding="utf-8")
    assert text == doctor_table.page(text), "run: make docs"
    assert [name for name in CAUSES if f"`{name}`" not in text] == []
    # Faults are of causes that there are, one app each, with an entry in the scenario's inventory.
    faults = doctor_table.faults
    assert [fault.name for fault in faults.FAULTS if fault.link not in CAUSES[fault.cause].links] == []
    inventory = REPOSITORY / "molecule/doctor/inventory/group_vars/all.yml"
    entries = yaml.safe_load(inventory.read_text())["autoscaled_apps"]
    assert entries == [faults.entry(name) for name in faults.APPS]
    assert len(set(faults.APPS)) == len(faults.APPS)
    assert len(faults.FAULTS) >= 18
