"""Faults between an app and its autoscaler, as data: tests inject, find and heal them, docs/doctor.md tells of them.

Each has an app of its own, or is of the whole cluster and judged by an app that has nothing else wrong.
"""

from __future__ import annotations

import base64
import datetime
import functools
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CONTROL_PLANE, WORKER = "doctor-cp1", "doctor-w1"


class Removed:
    """Stands for the value of what an edit takes away."""


@dataclass(frozen=True)
class Edit:
    """Parts of an object, by JSON pointer, and their new values, or functions that make them of the old ones."""

    path: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Create:
    """An object that is created; healing deletes it."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """An object that is deleted; healing creates it again."""

    path: str


@dataclass(frozen=True)
class DeletePods:
    """Pods that are deleted, so that their controller makes new ones: when the fault comes, when it goes, or both."""

    namespace: str
    when: str = "inject heal"


@dataclass(frozen=True)
class Shell:
    """Commands on a machine."""

    machine: str
    inject: str
    heal: str


Step = Edit | Create | Delete | DeletePods | Shell


@dataclass(frozen=True)
class Fault:
    """What is done, and where and as what the doctor has to find it.

    Healing takes the steps in the same order. ``app`` empty: a finding about the cluster. ``refuses`` is a path that
    fails truly before the doctor is asked, ``ahead`` are the seconds by which the doctor's own clock is fast.
    """

    name: str
    app: str
    link: str
    cause: str
    steps: tuple[Step, ...]
    words: str = ""
    refuses: str = ""
    ahead: int = 0


# -- apps -------------------------------------------------------------------------------------------------------------

#: Entries of autoscaled_apps that differ from the others' six lines.
OTHERS: dict[str, dict[str, Any]] = {
    "request-missing": {"scale_on": {"resource": "cpu", "target": "500%"}},
    "cpu": {"scale_on": {"resource": "cpu", "target": "500%"}},
    "service-astray": {"scrape": {"port": "web", "service": "metrics"}},
    "rule-missing": {"scale_on": {"metric": "work_done_total", "target": 10, "as": "rule_per_second"}},
    "max-reached": {"replicas": {"min": 1, "max": 2}, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}},
    "no-room": {"replicas": {"min": 2, "max": 4}},
    "quota-reached": {"replicas": {"min": 2, "max": 4}},
}
PLAIN = {
    "scrape": {"port": "web"},
    "scale_on": {"metric": "work_done_total", "target": 10},
    "replicas": {"min": 1, "max": 4},
}
WITNESS = "healthy"


def entry(name: str) -> dict[str, Any]:
    """The entry of an app; its namespace and workload have its name."""
    made = {"name": name, "namespace": name, "workload": f"deployment/{name}", **PLAIN, **OTHERS.get(name, {})}
    if "resource" in made["scale_on"]:
        del made["scrape"]
    return made


ENVIRONMENT = ("PORT", "METRICS_PATH", "CONTENT_TYPE", "SERIES", "WORK", "DELAY")
CONTAINER = "/spec/template/spec/containers/0"


def workload(name: str) -> str:
    """Path of an app's workload."""
    return f"/apis/apps/v1/namespaces/{name}/deployments/{name}"


def template(name: str, **values: Any) -> Edit:
    """An edit of an app's pod template, by the end of its pointer below the container (``__`` for slashes)."""
    return Edit(workload(name), {f"{CONTAINER}/{part.replace('__', '/')}": value for part, value in values.items()})


def serves(name: str, **variables: str) -> Edit:
    """An edit of what an app serves."""
    return Edit(
        workload(name),
        {f"{CONTAINER}/env/{ENVIRONMENT.index(variable)}/value": value for variable, value in variables.items()},
    )


def quota(name: str, pods: int) -> Create:
    """A quota of pods."""
    return Create(
        f"/api/v1/namespaces/{name}/resourcequotas",
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few"},
            "spec": {"hard": {"pods": str(pods)}},
        },
    )


def looked_at_again(name: str) -> Edit:
    """An edit that lets a workload's controller try at once what it would try again minutes later."""
    return Edit(workload(name), {"/metadata/annotations/looked-at": "again"})


def monitor(name: str) -> str:
    """Path of an app's monitor."""
    return f"/apis/monitoring.coreos.com/v1/namespaces/{name}/podmonitors/{name}"


def autoscaler(name: str) -> str:
    """Path of an app's autoscaler."""
    return f"/apis/autoscaling/v2/namespaces/{name}/horizontalpodautoscalers/{name}"


def drop_packets(name: str) -> Shell:
    """What a NetworkPolicy does where the pod network obeys it (flannel does not): packets to the pod's port vanish."""
    enter = (
        f"nsenter --net=/proc/$(grep --files-with-matches --text HOSTNAME={name}- /proc/[0-9]*/environ"
        " | head --lines=1 | cut --delimiter=/ --fields=3)/ns/net"
    )
    rules = "table inet doctor { chain input { type filter hook input priority 0; tcp dport 8000 drop; }; }"
    return Shell(WORKER, f"echo '{rules}' | {enter} nft --file -", f"{enter} nft delete table inet doctor")


METRICS_SERVER = "/apis/apps/v1/namespaces/kube-system/deployments/metrics-server"
PROMETHEUS = "/apis/monitoring.coreos.com/v1/namespaces/monitoring/prometheuses/k8s"
NOT_THIS = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["unwatched"]}]}

OF_APPS = [
    Fault(
        "image that cannot be pulled",
        "image-gone",
        "workload",
        "image_not_pulled",
        (template("image-gone", image="localhost/kubescale/none:1"),),
    ),
    Fault(
        "crash loop", "crash-loop", "workload", "crash_loop", (template("crash-loop", args=["raise SystemExit(1)"]),)
    ),
    Fault(
        "ConfigMap missing",
        "config-missing",
        "workload",
        "container_not_created",
        (template("config-missing", envFrom=[{"configMapRef": {"name": "none"}}]),),
        "none",
    ),
    Fault("workload deleted", "deleted", "workload", "workload_missing", (Delete(workload("deleted")),)),
    Fault(
        "replicas set to 0",
        "at-zero",
        "workload",
        "workload_at_zero",
        (Edit(workload("at-zero"), {"/spec/replicas": 0}),),
    ),
    Fault(
        "requests that fit no node",
        "too-big",
        "workload",
        "unschedulable",
        (template("too-big", resources__requests__cpu="64"),),
        "Insufficient cpu",
    ),
    Fault(
        "quota of no pods",
        "quota-none",
        "workload",
        "quota_exceeded",
        (quota("quota-none", 0), DeletePods("quota-none", "inject"), looked_at_again("quota-none")),
        "quota",
    ),
    Fault(
        "port renamed",
        "port-renamed",
        "pods",
        "port_name_unknown",
        (template("port-renamed", ports__0__name="http"),),
        "http (8000)",
    ),
    Fault(
        "CPU request missing",
        "request-missing",
        "pods",
        "request_missing",
        (template("request-missing", resources__requests__cpu=Removed),),
    ),
    Fault(
        "Service with another selector",
        "service-astray",
        "endpoints",
        "service_without_endpoints",
        (Edit("/api/v1/namespaces/service-astray/services/metrics", {"/spec/selector/app": "other"}),),
        "app=other",
    ),
    Fault("monitor deleted", "monitor-gone", "scrape", "monitor_missing", (Delete(monitor("monitor-gone")),)),
    Fault(
        "namespace not watched by Prometheus",
        "unwatched",
        "scrape",
        "namespace_not_watched",
        (Edit(PROMETHEUS, {"/spec/podMonitorNamespaceSelector": NOT_THIS}),),
    ),
    Fault(
        "monitor keeps pods of another controller",
        "controller-other",
        "target",
        "monitor_edited",
        (
            Edit(
                monitor("controller-other"),
                {"/spec/podMetricsEndpoints/0/relabelings/0/regex": "ReplicaSet/other-[a-z0-9]+"},
            ),
        ),
        "other-",
    ),
    Fault(
        "app listens on another port",
        "port-other",
        "target",
        "target_refused",
        (serves("port-other", PORT="8001"),),
        "connection refused",
    ),
    Fault(
        "packets dropped as by a NetworkPolicy",
        "policy",
        "target",
        "target_timed_out",
        (
            Create(
                "/apis/networking.k8s.io/v1/namespaces/policy/networkpolicies",
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": {"name": "nobody"},
                    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
                },
            ),
            drop_packets("policy"),
        ),
        "NetworkPolicy nobody",
    ),
    Fault(
        "metrics at another path",
        "path-other",
        "target",
        "target_not_found",
        (serves("path-other", METRICS_PATH="/prometheus"),),
        "404",
    ),
    Fault(
        "a web page instead of metrics",
        "web-page",
        "target",
        "target_not_metrics",
        (serves("web-page", CONTENT_TYPE="text/html"),),
    ),
    Fault(
        "scraped by a second monitor",
        "twice",
        "target",
        "scraped_twice",
        (
            Create(
                "/apis/monitoring.coreos.com/v1/namespaces/twice/podmonitors",
                {
                    "apiVersion": "monitoring.coreos.com/v1",
                    "kind": "PodMonitor",
                    "metadata": {"name": "by-hand"},
                    "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "web"}]},
                },
            ),
        ),
        "podMonitor/twice/by-hand/0",
    ),
    Fault(
        "counter absent", "counter-absent", "series", "series_absent", (serves("counter-absent", SERIES="temperature"),)
    ),
    Fault(
        "metric renamed",
        "metric-renamed",
        "series",
        "series_renamed",
        (serves("metric-renamed", SERIES="works_done_total"),),
        "works_done_total",
    ),
    Fault(
        "autoscaler edited to another metric",
        "edited",
        "hpa",
        "autoscaler_edited",
        (Edit(autoscaler("edited"), {"/spec/metrics/0/pods/metric/name": "other"}),),
        "is other, not work_done_per_second",
    ),
    Fault("autoscaler deleted", "unscaled", "hpa", "autoscaler_missing", (Delete(autoscaler("unscaled")),)),
    Fault(
        "a second autoscaler",
        "rival",
        "hpa",
        "autoscaler_rival",
        (
            Create(
                "/apis/autoscaling/v2/namespaces/rival/horizontalpodautoscalers",
                {
                    "apiVersion": "autoscaling/v2",
                    "kind": "HorizontalPodAutoscaler",
                    "metadata": {"name": "by-hand"},
                    "spec": {
                        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rival"},
                        "maxReplicas": 2,
                    },
                },
            ),
        ),
        "by-hand",
    ),
    Fault(
        "more load than the most replicas take",
        "max-reached",
        "limits",
        "max_reached",
        (serves("max-reached", WORK="100"),),
        "2 of at most 2",
    ),
    Fault(
        "pods that tolerate no other of them on a node",
        "no-room",
        "limits",
        "no_room",
        (
            Edit(
                workload("no-room"),
                {
                    "/spec/template/spec/affinity": {
                        "podAntiAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": [
                                {
                                    "topologyKey": "kubernetes.io/hostname",
                                    "labelSelector": {"matchLabels": {"app": "no-room"}},
                                }
                            ]
                        }
                    }
                },
            ),
        ),
        "anti-affinity",
    ),
    Fault(
        "quota of fewer pods than are wanted",
        "quota-reached",
        "limits",
        "quota_reached",
        # One pod stays: while all are gone, two at once can slip past a quota that is just being counted. The
        # autoscaler asks for the second one again.
        (
            quota("quota-reached", 1),
            Edit(workload("quota-reached"), {"/spec/replicas": 1}),
            looked_at_again("quota-reached"),
        ),
        "quota",
    ),
    # Concerns nothing but what is scaled on CPU or memory.
    Fault(
        "metrics-server scaled to 0",
        "cpu",
        "apiservice",
        "server_down",
        (Edit(METRICS_SERVER, {"/spec/replicas": 0}),),
        "kube-system/metrics-server",
        "/apis/metrics.k8s.io/v1beta1/pods",
    ),
]

# -- the cluster ------------------------------------------------------------------------------------------------------

ADAPTER = "/apis/apps/v1/namespaces/custom-metrics/deployments/prometheus-adapter"
RULES = "/api/v1/namespaces/custom-metrics/configmaps/adapter-config"
SECRET = "/api/v1/namespaces/custom-metrics/secrets/cm-adapter-serving-certs"  # noqa: S105 - a path
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"


def shell(machine: str, command: str) -> str:
    """Run a command on a machine and return what it said."""
    return subprocess.run(
        ["podman", "exec", machine, "sh", "-c", command], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def sign(issuer: x509.Name, key: Any, own: Any, begin: int, end: int) -> str:
    """A certificate of the adapter (base64 of PEM), valid between days from now; of a CA if it signs itself."""
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(issuer if own is key else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "adapter")]))
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begin))
        .not_valid_after(now + datetime.timedelta(days=end))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("prometheus-adapter.custom-metrics.svc")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=own is key, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(built.public_bytes(serialization.Encoding.PEM)).decode()


@functools.cache
def expired() -> dict[str, str]:
    """A serving certificate that ended yesterday, signed by the cluster's own CA, as the Secret has it."""
    authority = x509.load_pem_x509_certificate(shell(CONTROL_PLANE, "cat /etc/kubernetes/pki/ca.crt").encode())
    key = serialization.load_pem_private_key(shell(CONTROL_PLANE, "cat /etc/kubernetes/pki/ca.key").encode(), None)
    own = ec.generate_private_key(ec.SECP256R1())
    private = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "tls.crt": sign(authority.subject, key, own, -30, -1),
        "tls.key": base64.b64encode(private).decode(),
    }


def other_authority(_before: str) -> str:
    """A CA that nobody of the cluster was signed by, as caBundle has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")]), key, key, -1, 1)


def without_rule(before: str) -> str:
    """The adapter's configuration without the rule of one app."""
    config = yaml.safe_load(before)
    config["rules"] = [rule for rule in config["rules"] if rule["name"]["as"] != "rule_per_second"]
    return json.dumps(config)


OF_THE_CLUSTER = [
    Fault(
        "adapter scaled to 0",
        WITNESS,
        "apiservice",
        "server_down",
        (Edit(ADAPTER, {"/spec/replicas": 0}),),
        "custom-metrics/prometheus-adapter",
        CUSTOM,
    ),
    Fault(
        "rules newer than the adapter",
        WITNESS,
        "discovered",
        "adapter_not_restarted",
        (
            Edit(RULES, {"/data/config.yaml": lambda before: before + "\n# seen\n"}),
            DeletePods("custom-metrics", "heal"),
        ),
    ),
    Fault(
        "rule missing in the adapter's configuration",
        "rule-missing",
        "discovered",
        "rule_missing",
        (Edit(RULES, {"/data/config.yaml": without_rule}), DeletePods("custom-metrics")),
        "rule_per_second",
    ),
    Fault(
        "adapter's certificate expired",
        WITNESS,
        "apiservice",
        "certificate_expired",
        (
            Edit(
                SECRET,
                {
                    "/data/tls.crt": lambda _old: expired()["tls.crt"],
                    "/data/tls.key": lambda _old: expired()["tls.key"],
                },
            ),
            DeletePods("custom-metrics"),
        ),
        refuses=CUSTOM,
    ),
    Fault(
        "caBundle of another CA",
        WITNESS,
        "apiservice",
        "ca_bundle_wrong",
        (
            Edit(f"{APISERVICES}/v1beta1.custom.metrics.k8s.io", {"/spec/caBundle": other_authority}),
            Edit(f"{APISERVICES}/v1beta2.custom.metrics.k8s.io", {"/spec/caBundle": other_authority}),
        ),
        "CN=somebody else",
        CUSTOM,
    ),
    Fault(
        "Prometheus scaled to 0",
        WITNESS,
        "scrape",
        "no_prometheus",
        (Edit(PROMETHEUS, {"/spec/replicas": 0}),),
        refuses="/api/v1/namespaces/monitoring/services/prometheus-k8s:9090/proxy/-/ready",
    ),
    Fault(
        "resource metrics served without verification",
        "",
        "owners",
        "api_unverified",
        (
            Edit(
                f"{APISERVICES}/v1beta1.metrics.k8s.io",
                {"/spec/insecureSkipTLSVerify": True, "/spec/caBundle": Removed},
            ),
        ),
        "insecureSkipTLSVerify",
    ),
    Fault(
        "resource metrics registered by somebody else",
        "",
        "owners",
        "api_of_others",
        (
            Edit(
                f"{APISERVICES}/v1beta1.metrics.k8s.io",
                {"/metadata/labels/applyset.kubernetes.io~1part-of": Removed},
            ),
        ),
    ),
    Fault(
        "controller's clock 10 minutes ahead",
        "",
        "clock",
        "controller_clock_off",
        (),
        "ahead of the API server",
        ahead=600,
    ),
]
FAULTS = [*OF_APPS, *OF_THE_CLUSTER]
APPS = [*(fault.app for fault in OF_APPS), "rule-missing", WITNESS]
