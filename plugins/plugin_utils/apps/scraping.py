# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Scrape jobs of a Prometheus without operator.

Targets get the same labels as from the operator's monitors, so that rules, dashboards and autoscalers work with both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence

import yaml

from ..common.components import NAMESPACES, STANDALONE
from ..common.yaml_io import YAML_DUMPER
from ..kube.objects import JSON
from .model import App, Scrape

NAMESPACE = NAMESPACES[STANDALONE]
#: ConfigMap with the jobs and rules of autoscaled apps, in NAMESPACE.
APPS = "prometheus-apps"
#: Files with the jobs of apps, and with the jobs of annotated targets.
JOBS_FILE, ANNOTATED_FILE = "scrape.yml", "annotated.yml"
ANNOTATION = "prometheus_io_"
#: Jobs that scrape all annotated Services and pods. Only these jobs may have no target.
ANNOTATED_SERVICES, ANNOTATED_PODS = "annotated-services", "annotated-pods"
#: Labels of service discovery that name the controller of a pod.
CONTROLLER = ("pod_controller_kind", "pod_controller_name")
_META = "__meta_kubernetes_"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Credentials for targets that authenticate requests and have a certificate of the cluster's CA.
_TOKEN = {"credentials_file": f"{_ACCOUNT}/token"}
_CA = {"ca_file": f"{_ACCOUNT}/ca.crt"}
#: A pod that has ended still shows its address, though another pod may use that address already.
_NOT_ENDED = {"action": "drop", "source_labels": [f"{_META}pod_phase"], "regex": "Failed|Succeeded"}


def label(target: str, source: str) -> JSON:
    """Return a relabeling that copies a label of service discovery."""
    return {"source_labels": [f"{_META}{source}"], "target_label": target}


def keep(source: str, regex: str) -> JSON:
    """Return a relabeling that keeps targets whose label of service discovery matches."""
    return {"action": "keep", "source_labels": [f"{_META}{source}"], "regex": regex}


_POD_LABELS = [label("namespace", "namespace"), label("pod", "pod_name"), label("container", "pod_container_name")]
_SERVICE_LABELS = [*_POD_LABELS, label("service", "service_name")]


def component_jobs(components: Collection[str], apiserver_series: str) -> list[JSON]:
    """Return the jobs of kubelets, API servers, and those components that annotations cannot describe.

    An annotation cannot describe credentials, samples that name a pod themselves, or an ``instance`` that is not the
    address. ``apiserver_series`` is a regular expression for the series of API servers to keep: ``NAME;LE``, their
    name and label ``le``.
    """
    kubelet = {
        "scheme": "https",
        "authorization": _TOKEN,
        "tls_config": _CA,
        # The labels namespace and pod of cAdvisor's samples name the pod that was measured.
        "honor_labels": True,
        "kubernetes_sd_configs": [{"role": "node"}],
        "relabel_configs": [
            {"target_label": "job", "replacement": "kubelet"},
            label("node", "node_name"),
            {"source_labels": ["__metrics_path__"], "target_label": "metrics_path"},
        ],
    }
    apiserver = {
        # The response is larger than all others together: 6 MiB on a new cluster.
        "scrape_interval": "60s",
        "scrape_timeout": "20s",
        "scheme": "https",
        "authorization": _TOKEN,
        # The certificate of each API server has this name, but not always its address.
        "tls_config": {**_CA, "server_name": "kubernetes.default.svc"},
        "kubernetes_sd_configs": [{"role": "endpointslice", "namespaces": {"names": ["default"]}}],
        "relabel_configs": [keep("service_name", "kubernetes"), keep("endpointslice_port_name", "https")],
        "metric_relabel_configs": [
            {"action": "keep", "source_labels": ["__name__", "le"], "regex": apiserver_series},
        ],
    }
    jobs = {
        "node_exporter": _service_job(
            "node-exporter", NAMESPACES["node_exporter"], "http", label("instance", "pod_node_name")
        ),
        # The labels namespace and pod of its samples name the described object, not kube-state-metrics.
        "kube_state_metrics": {
            **_service_job("kube-state-metrics", NAMESPACES["kube_state_metrics"], "http-metrics"),
            "honor_labels": True,
        },
        "metrics_server": _secured_job("metrics-server", "kube-system", "https"),
        "prometheus_adapter": _secured_job("prometheus-adapter", NAMESPACES["prometheus_adapter"], "https"),
    }
    return [
        {"job_name": "kubelet", "metrics_path": "/metrics", **kubelet},
        {"job_name": "kubelet-cadvisor", "metrics_path": "/metrics/cadvisor", **kubelet},
        {"job_name": "apiserver", **apiserver},
        *(job for component, job in jobs.items() if component in components),
    ]


def _service_job(name: str, namespace: str, port: str, *relabelings: JSON) -> JSON:
    return {
        "job_name": name,
        "kubernetes_sd_configs": [{"role": "endpointslice", "namespaces": {"names": [namespace]}}],
        "relabel_configs": [
            keep("service_name", name),
            keep("endpointslice_port_name", port),
            _NOT_ENDED,
            *_SERVICE_LABELS,
            {"target_label": "job", "replacement": name},
            {"target_label": "endpoint", "replacement": port},
            *relabelings,
        ],
    }


def _secured_job(name: str, namespace: str, port: str) -> JSON:
    tls = {**_CA, "server_name": f"{name}.{namespace}.svc"}
    return {**_service_job(name, namespace, port), "scheme": "https", "authorization": _TOKEN, "tls_config": tls}


def annotated_jobs(apps: Iterable[App] = ()) -> list[JSON]:
    """Return the jobs of all Services and pods that are annotated ``prometheus.io/scrape: "true"``.

    Each target is scraped by one job only, because a sample that is stored twice doubles each rate. An app's own job
    takes precedence over the pod's annotation, and that over the Service's.
    """
    return [
        {
            "job_name": ANNOTATED_SERVICES,
            "kubernetes_sd_configs": [{"role": "endpointslice"}],
            "relabel_configs": [
                keep(f"service_annotation_{ANNOTATION}scrape", "true"),
                {
                    "action": "drop",
                    "source_labels": [f"{_META}pod_annotation_{ANNOTATION}scrape"],
                    "regex": "true",
                },
                # Targets without a port of the Service are other ports of its pods.
                keep("endpointslice_port", ".+"),
                *_annotated("service", "endpointslice_port", apps),
                *_SERVICE_LABELS,
                label("job", "service_name"),
                {**label("job", "service_label_app_kubernetes_io_name"), "regex": "(.+)"},
                label("endpoint", "endpointslice_port_name"),
            ],
        },
        {
            "job_name": ANNOTATED_PODS,
            "kubernetes_sd_configs": [{"role": "pod"}],
            "relabel_configs": [
                keep(f"pod_annotation_{ANNOTATION}scrape", "true"),
                keep("pod_container_port_number", ".+"),
                *_annotated("pod", "pod_container_port_number", apps),
                *_POD_LABELS,
                {**label("job", "pod_label_app_kubernetes_io_name"), "regex": "(.+)"},
                label("endpoint", "pod_container_port_name"),
            ],
        },
    ]


def _annotated(kind: str, port: str, apps: Iterable[App]) -> list[JSON]:
    """Return relabelings that follow the annotations port (among the declared ports), path and scheme."""
    annotation = f"{_META}{kind}_annotation_{ANNOTATION}"
    port_label = "__tmp_port"
    return [
        _NOT_ENDED,
        {"source_labels": [f"{_META}{port}"], "target_label": port_label},
        {"source_labels": [f"{annotation}port"], "regex": "(.+)", "target_label": port_label},
        {"action": "keepequal", "source_labels": [f"{_META}{port}"], "target_label": port_label},
        *(_not_of(app, app.scrape) for app in apps if app.scrape),
        {"source_labels": [f"{annotation}path"], "regex": "(.+)", "target_label": "__metrics_path__"},
        {"source_labels": [f"{annotation}scheme"], "regex": "(https?)", "target_label": "__scheme__"},
    ]


def _not_of(app: App, scrape: Scrape) -> JSON:
    """Return a relabeling that drops the targets of the app's own job."""
    # In the pod, the name of the Service's port may belong to another port, or to none.
    port = ".*" if scrape.service else re.escape(str(scrape.port))
    return {
        "action": "drop",
        "separator": "/",
        "source_labels": [f"{_META}{name}" for name in ("namespace", *CONTROLLER, _port_label(scrape))],
        "regex": "/".join((re.escape(app.namespace), controller_pattern(app), port)),
    }


def controller_pattern(app: App) -> str:
    """Return a regular expression for ``KIND/NAME`` of the controller of an app's pods. Prometheus anchors it."""
    name = re.escape(app.workload_name)
    if app.workload_kind == "Deployment":
        return f"ReplicaSet/{name}-[a-z0-9]+"
    return f"{app.workload_kind}/{name}"


def _port_label(scrape: Scrape) -> str:
    """Return the label of service discovery for a pod's port: its name or its number."""
    return f"pod_container_port_{'name' if isinstance(scrape.port, str) else 'number'}"


def job_name(app: App) -> str:
    """Return the name of an app's own job."""
    return f"app/{app.namespace}/{app.name}"


def standalone_scrape_config(app: App, scrape: Scrape) -> JSON:
    """Return the job of an app. Its targets are the pods of the workload, or the pods behind the Service."""
    if scrape.service:
        role, labels = "endpointslice", _SERVICE_LABELS
        selection = keep("service_name", re.escape(scrape.service))
        port = "endpointslice_port_name" if isinstance(scrape.port, str) else _port_label(scrape)
    else:
        role, labels = "pod", _POD_LABELS
        sources = [f"{_META}{name}" for name in CONTROLLER]
        selection = {"action": "keep", "source_labels": sources, "separator": "/", "regex": controller_pattern(app)}
        port = _port_label(scrape)
    return {
        "job_name": job_name(app),
        "scrape_interval": f"{scrape.interval}s",
        "metrics_path": scrape.path,
        "scheme": scrape.scheme,
        "kubernetes_sd_configs": [{"role": role, "namespaces": {"names": [app.namespace]}}],
        "relabel_configs": [
            selection,
            keep(port, re.escape(str(scrape.port))),
            _NOT_ENDED,
            *labels,
            {"target_label": "job", "replacement": app.name},
            {"target_label": "endpoint", "replacement": str(scrape.port)},
        ],
    }


def job_files(components: Collection[str], apiserver_series: str) -> dict[str, str]:
    """Return the jobs that do not depend on apps, as YAML by file name."""
    return {
        "components.yml": _as_yaml({"scrape_configs": component_jobs(components, apiserver_series)}),
        ANNOTATED_FILE: _as_yaml({"scrape_configs": annotated_jobs()}),
    }


def standalone_objects(apps: Sequence[App], groups: Sequence[JSON] = ()) -> list[JSON]:
    """Return the ConfigMap with the jobs and rule groups of apps, or an empty list if there are none.

    Prometheus reads the jobs of annotated targets from this ConfigMap instead of its own file.
    """
    jobs = [standalone_scrape_config(app, app.scrape) for app in apps if app.scrape]
    if not jobs and not groups:
        return []
    data = {
        JOBS_FILE: {"scrape_configs": jobs},
        ANNOTATED_FILE: {"scrape_configs": annotated_jobs(apps)},
        "rules.yml": {"groups": list(groups)},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": APPS, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "prometheus"}},
            "data": {name: _as_yaml(content) for name, content in data.items()},
        }
    ]


def _as_yaml(content: JSON) -> str:
    # JSON copies objects that occur twice; YAML would write the second one as a reference.
    return str(yaml.dump(json.loads(json.dumps(content)), Dumper=YAML_DUMPER, sort_keys=False, width=120))
