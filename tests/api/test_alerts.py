"""Every alert fires when it should, says what it should, and is quiet otherwise: asked of promtool and Alertmanager."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.alerts import app_rules
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps

from . import cluster

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "roles/prometheus/files/rules").glob("*.yaml"))
cluster.BINARIES.setdefault("promtool", ("prometheus", "promtool"))
DAY = 86400
UNITS = {"m": 1, "h": 60}


@dataclass(frozen=True)
class Case:
    """An alert, series by which it fires (one value a minute), its labels beside the severity, and its value as shown.

    ``quiet`` are other series, each by which it must not fire; ``after`` the minute when it must have fired, by default
    two after what the rule waits for.
    """

    alert: str
    series: dict[str, str]
    labels: dict[str, str]
    value: str = "1"
    quiet: tuple[dict[str, str], ...] = ()
    after: int = 0
    shown: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.alert


HPA = 'namespace="shop",horizontalpodautoscaler="shop"'
CONDITION = "kube_horizontalpodautoscaler_status_condition{" + HPA + ',condition="%s",status="%s"}'
CURRENT, DESIRED = (f"kube_horizontalpodautoscaler_status_{name}_replicas{{{HPA}}}" for name in ("current", "desired"))
LEAST, MOST = (f"kube_horizontalpodautoscaler_spec_{name}_replicas{{{HPA}}}" for name in ("min", "max"))
SPEC = f'kube_horizontalpodautoscaler_spec_target_metric{{{HPA},metric_name="%s",metric_target_type="average"}}'
STATUS = SPEC.replace("spec_target", "status_target")
OF_HPA = {"namespace": "shop", "horizontalpodautoscaler": "shop"}
CONTAINER = 'namespace="shop",pod="shop-1",container="shop"'
OF_CONTAINER = {"namespace": "shop", "pod": "shop-1", "container": "shop"}
WAITING = f'kube_pod_container_status_waiting_reason{{{CONTAINER},reason="%s"}}'
REQUEST = 'kube_certificatesigningrequest_condition{certificatesigningrequest="%s",signer_name="%s",condition="%s"}'
SERVING = "kubernetes.io/kubelet-serving"
DISK = '{instance="node-1",device="/dev/sda1",mountpoint="/",fstype="ext4"}'
TMPFS = '{instance="node-1",device="tmpfs",mountpoint="/run",fstype="tmpfs"}'
OF_DISK = {"instance": "node-1", "device": "/dev/sda1", "mountpoint": "/", "fstype": "ext4"}
PROMETHEUS = '{job="prometheus",instance="10.0.0.1:9090"}'
OF_PROMETHEUS = {"job": "prometheus", "instance": "10.0.0.1:9090"}
APPENDED = 'prometheus_tsdb_head_samples_appended_total{job="prometheus",instance="10.0.0.1:9090",type="%s"}'
APISERVICE = 'aggregator_unavailable_apiservice{job="apiserver",instance="%s",name="%s"}'
CALLERS = 'apiserver_client_certificate_expiration_seconds_bucket{instance="a",le="%s"}'
MANAGED = 'prometheus_operator_managed_resources{state="%s",resource="ServiceMonitor",controller="prometheus"}'

CASES = [
    Case(
        "AutoscalerNotScaling",
        {CONDITION % ("ScalingActive", "false"): "1x20", CURRENT: "2x20", LEAST: "1x20"},
        OF_HPA,
        quiet=(
            {CONDITION % ("ScalingActive", "false"): "0x20", CONDITION % ("ScalingActive", "true"): "1x20"},
            # A person scaled it to zero.
            {CONDITION % ("ScalingActive", "false"): "1x20", CURRENT: "0x20", LEAST: "1x20"},
        ),
    ),
    Case(
        # At zero by itself, without a metric nothing wakes it up.
        "AutoscalerNotScaling",
        {CONDITION % ("ScalingActive", "false"): "1x20", CURRENT: "0x20", LEAST: "0x20"},
        OF_HPA,
    ),
    Case(
        "AutoscalerCannotScale",
        {CONDITION % ("AbleToScale", "false"): "1x20"},
        OF_HPA,
        quiet=({CONDITION % ("AbleToScale", "false"): "0x20", CONDITION % ("AbleToScale", "true"): "1x20"},),
    ),
    Case(
        "AutoscalerMetricMissing",
        {SPEC % "clicks": "1x20", SPEC % "cpu": "1x20", STATUS % "cpu": "0x20", CURRENT: "2x20"},
        OF_HPA | {"metric_name": "clicks"},
        quiet=(
            {SPEC % "clicks": "1x20", STATUS % "clicks": "0x20", CURRENT: "2x20"},
            {SPEC % "clicks": "1x20", CURRENT: "0x20"},
        ),
    ),
    Case(
        "AutoscalerAtMaximum",
        {DESIRED: "10x30", MOST: "10x30", LEAST: "1x30", CONDITION % ("ScalingLimited", "true"): "1x30"},
        OF_HPA,
        value="10",
        quiet=(
            # Exactly as many as it wants.
            {DESIRED: "10x30", MOST: "10x30", LEAST: "1x30", CONDITION % ("ScalingLimited", "true"): "0x30"},
            # Limited by its minimum.
            {DESIRED: "1x30", MOST: "10x30", LEAST: "1x30", CONDITION % ("ScalingLimited", "true"): "1x30"},
            # It cannot be anything else.
            {DESIRED: "3x30", MOST: "3x30", LEAST: "3x30", CONDITION % ("ScalingLimited", "true"): "1x30"},
        ),
    ),
    Case(
        "AutoscalerReplicasMissing",
        {DESIRED: "5x20", CURRENT: "3x20"},
        OF_HPA,
        value="5",
        quiet=({DESIRED: "5x20", CURRENT: "5x20"}, {DESIRED: "3x20", CURRENT: "5x20"}),
    ),
    Case(
        "ContainerCrashLooping",
        # It runs for a moment now and then.
        {WAITING % "CrashLoopBackOff": "1x3 stale _ 1x5 stale _ 1x20"},
        OF_CONTAINER,
        quiet=({WAITING % "CrashLoopBackOff": "1x2 stale _x30"},),
        after=13,
    ),
    Case(
        "ContainerWaiting",
        {WAITING % "ImagePullBackOff": "1x30"},
        OF_CONTAINER | {"reason": "ImagePullBackOff"},
        quiet=({WAITING % "CrashLoopBackOff": "1x30"},),
    ),
    Case(
        "PodUnschedulable",
        {'kube_pod_status_unschedulable{namespace="shop",pod="shop-1"}': "1x20"},
        {"namespace": "shop", "pod": "shop-1"},
        quiet=({'kube_pod_status_unschedulable{namespace="shop",pod="shop-1"}': "1x5 stale _x20"},),
    ),
    Case(
        "DeploymentNotAvailable",
        {
            'kube_deployment_spec_replicas{namespace="shop",deployment="shop"}': "5x20",
            'kube_deployment_status_replicas_available{namespace="shop",deployment="shop"}': "3x20",
        },
        {"namespace": "shop", "deployment": "shop"},
        value="2",
        quiet=(
            {
                'kube_deployment_spec_replicas{namespace="shop",deployment="shop"}': "5x20",
                'kube_deployment_status_replicas_available{namespace="shop",deployment="shop"}': "3x5 5x20",
            },
        ),
    ),
    Case(
        "StatefulSetNotAvailable",
        {
            'kube_statefulset_replicas{namespace="db",statefulset="db"}': "3x20",
            'kube_statefulset_status_replicas_available{namespace="db",statefulset="db"}': "2x20",
        },
        {"namespace": "db", "statefulset": "db"},
        quiet=(
            {
                'kube_statefulset_replicas{namespace="db",statefulset="db"}': "3x20",
                'kube_statefulset_status_replicas_available{namespace="db",statefulset="db"}': "3x20",
            },
        ),
    ),
    Case(
        "DaemonSetNotAvailable",
        {
            'kube_daemonset_status_desired_number_scheduled{namespace="net",daemonset="net"}': "3x20",
            'kube_daemonset_status_number_available{namespace="net",daemonset="net"}': "1x20",
        },
        {"namespace": "net", "daemonset": "net"},
        value="2",
        quiet=(
            {
                'kube_daemonset_status_desired_number_scheduled{namespace="net",daemonset="net"}': "3x20",
                'kube_daemonset_status_number_available{namespace="net",daemonset="net"}': "3x20",
            },
        ),
    ),
    Case(
        "NodeNotReady",
        {'kube_node_status_condition{node="node-1",condition="Ready",status="true"}': "0x20"},
        {"node": "node-1"},
        quiet=({'kube_node_status_condition{node="node-1",condition="Ready",status="true"}': "1x20"},),
    ),
    Case(
        "NodeUnderPressure",
        {'kube_node_status_condition{node="node-1",condition="DiskPressure",status="true"}': "1x20"},
        {"node": "node-1", "condition": "DiskPressure"},
        quiet=({'kube_node_status_condition{node="node-1",condition="DiskPressure",status="false"}': "1x20"},),
    ),
    Case(
        "KubeletServingCertificatePending",
        # After 14 minutes the kubelet asks again.
        {
            REQUEST % ("csr-1", SERVING, "approved"): "0x14 stale",
            REQUEST % ("csr-1", SERVING, "denied"): "0x14 stale",
            REQUEST % ("csr-2", SERVING, "approved"): "_x14 0x30",
            REQUEST % ("csr-2", SERVING, "denied"): "_x14 0x30",
        },
        {"signer_name": SERVING},
        quiet=(
            {REQUEST % ("csr-1", SERVING, "approved"): "0x2 1x30", REQUEST % ("csr-1", SERVING, "denied"): "0x30"},
            {REQUEST % ("csr-1", SERVING, "approved"): "0x30", REQUEST % ("csr-1", SERVING, "denied"): "1x30"},
            {REQUEST % ("csr-1", "example.com/mine", condition): "0x30" for condition in ("approved", "denied")},
        ),
    ),
    *(
        Case(
            alert,
            {f'up{{job="{job}",instance="a"}}': "0x20"},
            {"job": job},
            quiet=({f'up{{job="{job}",instance="a"}}': "0x20", f'up{{job="{job}",instance="b"}}': "1x20"},),
        )
        for alert, job in (
            ("KubeStateMetricsDown", "kube-state-metrics"),
            ("ApiServerDown", "apiserver"),
            ("KubeletsDown", "kubelet"),
            ("NodeExporterDown", "node-exporter"),
        )
    ),
    Case(
        "MetricsApiUnavailable",
        # Of two API servers one does not reach it.
        {
            APISERVICE % ("a", "v1beta1.custom.metrics.k8s.io"): "0x20",
            APISERVICE % ("b", "v1beta1.custom.metrics.k8s.io"): "1x20",
            APISERVICE % ("a", "v1beta1.metrics.k8s.io"): "0x20",
        },
        {"name": "v1beta1.custom.metrics.k8s.io"},
        quiet=({APISERVICE % ("a", "v1.packages.example.com"): "1x20"},),
    ),
    Case(
        "AggregatedApiUnavailable",
        {APISERVICE % ("a", "v1.packages.example.com"): "1x20"},
        {"name": "v1.packages.example.com"},
        quiet=(
            {APISERVICE % ("a", "v1beta1.metrics.k8s.io"): "1x20"},
            {APISERVICE % ("a", "v1.packages.example.com"): "0x20"},
        ),
    ),
    Case(
        "ClientCertificateExpiring",
        {CALLERS % "604800.0": "0+2x90"},
        {"instance": "a", "le": "604800.0"},
        value="120",
        quiet=(
            {CALLERS % "604800.0": "7x90"},
            {CALLERS % "2.592e+06": "0+2x90"},
        ),
        after=80,
    ),
    Case(
        "KubeletServingCertificateExpiring",
        {'kubelet_certificate_manager_server_ttl_seconds{node="node-1"}': f"{6 * DAY}x30"},
        {"node": "node-1"},
        value="6d 0h 0m 0s",
        quiet=(
            {'kubelet_certificate_manager_server_ttl_seconds{node="node-1"}': f"{60 * DAY}x30"},
            {'kubelet_certificate_manager_server_ttl_seconds{node="node-1"}': " ".join(["Inf"] * 20)},
        ),
    ),
    *(
        Case(
            "KubeletCertificateRenewalFailing",
            {f'{series}{{node="node-1"}}': "0+1x60"},
            {"node": "node-1"},
            value="15",
            quiet=({f'{series}{{node="node-1"}}': "1x60"},),
            after=40,
        )
        for series in (
            "kubelet_server_expiration_renew_errors",
            "kubelet_certificate_manager_client_expiration_renew_errors",
        )
    ),
    Case(
        "VolumeAlmostFull",
        {
            'kubelet_volume_stats_available_bytes{namespace="db",persistentvolumeclaim="db",node="a"}': "5x30",
            'kubelet_volume_stats_capacity_bytes{namespace="db",persistentvolumeclaim="db",node="a"}': "100x30",
        },
        {"namespace": "db", "persistentvolumeclaim": "db"},
        value="5.0",
        quiet=(
            {
                'kubelet_volume_stats_available_bytes{namespace="db",persistentvolumeclaim="db"}': "50x30",
                'kubelet_volume_stats_capacity_bytes{namespace="db",persistentvolumeclaim="db"}': "100x30",
            },
        ),
    ),
    Case(
        "NodeMemoryLow",
        {
            'node_memory_MemAvailable_bytes{instance="node-1"}': "5x30",
            'node_memory_MemTotal_bytes{instance="node-1"}': "100x30",
        },
        {"instance": "node-1"},
        value="5.0",
        quiet=(
            {
                'node_memory_MemAvailable_bytes{instance="node-1"}': "50x30",
                'node_memory_MemTotal_bytes{instance="node-1"}': "100x30",
            },
        ),
    ),
    Case(
        "NodeDiskAlmostFull",
        {
            f"node_filesystem_{name}{DISK}": value
            for name, value in {"avail_bytes": "4x30", "size_bytes": "100x30", "readonly": "0x30"}.items()
        },
        OF_DISK,
        value="4.0",
        quiet=(
            {
                f"node_filesystem_{name}{DISK}": value
                for name, value in {"avail_bytes": "40x30", "size_bytes": "100x30", "readonly": "0x30"}.items()
            },
            {
                f"node_filesystem_{name}{DISK}": value
                for name, value in {"avail_bytes": "0x30", "size_bytes": "100x30", "readonly": "1x30"}.items()
            },
            {
                f"node_filesystem_{name}{TMPFS}": value
                for name, value in {"avail_bytes": "4x30", "size_bytes": "100x30", "readonly": "0x30"}.items()
            },
        ),
    ),
    Case(
        "NodeDiskFilling",
        # 80 % left in the beginning, 10 % less each hour.
        {
            f"node_filesystem_{name}{DISK}": value
            for name, value in {"avail_bytes": "8000-16.6x500", "size_bytes": "10000x500", "readonly": "0x500"}.items()
        },
        OF_DISK,
        quiet=(
            {
                f"node_filesystem_{name}{DISK}": value
                for name, value in {"avail_bytes": "2400x500", "size_bytes": "10000x500", "readonly": "0x500"}.items()
            },
            {
                f"node_filesystem_{name}{DISK}": value
                for name, value in {"avail_bytes": "9900-8x500", "size_bytes": "10000x500", "readonly": "0x500"}.items()
            },
            # A machine that just began, and was filled then.
            {
                f"node_filesystem_{name}{DISK}": value
                for name, value in {
                    "avail_bytes": "_x200 8000-22x300",
                    "size_bytes": "10000x500",
                    "readonly": "0x500",
                }.items()
            },
        ),
        after=460,
    ),
    Case(
        "NodeClockOff",
        # promtool's time starts at 0.
        {'node_time_seconds{instance="node-1"}': "-5+60x30"},
        {"instance": "node-1"},
        value="5.0",
        quiet=({'node_time_seconds{instance="node-1"}': "1+60x30"},),
    ),
    Case("Watchdog", {}, {}, after=1),
    Case(
        "TargetDown",
        {'up{job="shop",instance="10.0.0.7:8080",namespace="shop",pod="shop-1"}': "0x20"},
        {"job": "shop", "instance": "10.0.0.7:8080", "namespace": "shop", "pod": "shop-1"},
        quiet=({'up{job="shop",instance="10.0.0.7:8080"}': "1x20"},),
        shown={"{{ with $labels.pod }}": "", "{{ . }}{{ end }}": "shop-1"},
    ),
    Case(
        "TargetDown",
        {'up{job="kubelet",instance="10.0.0.1:10250"}': "0x20"},
        {"job": "kubelet", "instance": "10.0.0.1:10250"},
        shown={"{{ with $labels.pod }}, pod {{ $labels.namespace }}/{{ . }}{{ end }}": ""},
    ),
    Case(
        "PrometheusConfigReloadFailed",
        {f"prometheus_config_last_reload_successful{PROMETHEUS}": "0x20"},
        OF_PROMETHEUS,
        quiet=({f"prometheus_config_last_reload_successful{PROMETHEUS}": "1x20"},),
    ),
    Case(
        "PrometheusRuleFailures",
        {'prometheus_rule_evaluation_failures_total{instance="a",rule_group="apps"}': "0+1x30"},
        {"instance": "a", "rule_group": "apps"},
        value="5",
        quiet=({'prometheus_rule_evaluation_failures_total{instance="a",rule_group="apps"}': "3x30"},),
        after=16,
    ),
    *(
        Case(
            "PrometheusStorageFailing",
            {f"{series}{PROMETHEUS}": "0+1x90"},
            OF_PROMETHEUS,
            quiet=({f"{series}{PROMETHEUS}": "1x90"},),
            after=80,
        )
        for series in (
            "prometheus_tsdb_reloads_failures_total",
            "prometheus_tsdb_compactions_failed_total",
            "prometheus_tsdb_wal_corruptions_total",
        )
    ),
    Case(
        "PrometheusIngestsNothing",
        {
            APPENDED % "float": "7x30",
            APPENDED % "histogram": "0x30",
            f"prometheus_target_metadata_cache_entries{PROMETHEUS}": "3x30",
        },
        OF_PROMETHEUS,
        quiet=(
            {
                APPENDED % "float": "0+9x30",
                APPENDED % "histogram": "0x30",
                f"prometheus_target_metadata_cache_entries{PROMETHEUS}": "3x30",
            },
        ),
        after=14,
    ),
    *(
        Case(
            "PrometheusScrapePoolFailed",
            {f"{series}{PROMETHEUS}": "0+1x30"},
            OF_PROMETHEUS,
            value="15",
            quiet=({f"{series}{PROMETHEUS}": "1x30"},),
            after=20,
        )
        for series in (
            "prometheus_target_scrape_pools_failed_total",
            "prometheus_target_scrape_pool_reloads_failed_total",
            "prometheus_target_scrape_pool_exceeded_target_limit_total",
        )
    ),
    *(
        Case(
            "PrometheusSamplesRejected",
            {f"{series}{PROMETHEUS}": "0+1x60"},
            OF_PROMETHEUS,
            value="15",
            quiet=({f"{series}{PROMETHEUS}": "1x60"},),
            after=40,
        )
        for series in (
            "prometheus_target_scrapes_sample_duplicate_timestamp_total",
            "prometheus_target_scrapes_sample_out_of_order_total",
            "prometheus_target_scrapes_sample_out_of_bounds_total",
            "prometheus_target_scrapes_exceeded_sample_limit_total",
        )
    ),
    Case(
        "PrometheusOperatorRejects",
        {MANAGED % "rejected": "2x30"},
        {"state": "rejected", "resource": "ServiceMonitor", "controller": "prometheus"},
        value="2",
        quiet=(
            {MANAGED % "rejected": "0x30"},
            {MANAGED % "selected": "9x30"},
        ),
    ),
    Case(
        "PrometheusOperatorFailing",
        {
            'prometheus_operator_reconcile_errors_total{controller="prometheus"}': "0+1x40",
            'prometheus_operator_reconcile_operations_total{controller="prometheus"}': "0+2x40",
        },
        {"controller": "prometheus"},
        value="50%",
        quiet=(
            {
                'prometheus_operator_reconcile_errors_total{controller="prometheus"}': "1x40",
                'prometheus_operator_reconcile_operations_total{controller="prometheus"}': "0+2x40",
            },
        ),
        after=30,
    ),
    Case(
        "ServingCertificateExpiring",
        {'kubescale_serving_certificate_not_after_seconds{service="a.b"}': f"{10 * DAY + 80 * 60}x90"},
        {"service": "a.b"},
        value="10d 0h 0m 0s",
        quiet=({'kubescale_serving_certificate_not_after_seconds{service="a.b"}': f"{90 * DAY}x90"},),
        after=80,
    ),
    Case(
        "PrometheusNotConnectedToAlertmanager",
        {f"prometheus_notifications_alertmanagers_discovered{PROMETHEUS}": "0x20"},
        OF_PROMETHEUS,
        quiet=({f"prometheus_notifications_alertmanagers_discovered{PROMETHEUS}": "1x20"},),
    ),
    Case(
        "PrometheusNotificationsFailing",
        {
            'prometheus_notifications_errors_total{instance="a",alertmanager="m"}': "0+1x40",
            'prometheus_notifications_sent_total{instance="a",alertmanager="m"}': "0+2x40",
        },
        {"instance": "a", "alertmanager": "m"},
        quiet=(
            {
                'prometheus_notifications_errors_total{instance="a",alertmanager="m"}': "1x40",
                'prometheus_notifications_sent_total{instance="a",alertmanager="m"}': "0+2x40",
                'prometheus_notifications_dropped_total{instance="a",alertmanager="m"}': "1x40",
            },
        ),
        after=30,
    ),
    Case(
        "PrometheusNotificationsFailing",
        {'prometheus_notifications_dropped_total{instance="a",alertmanager="m"}': "0+1x40"},
        {"instance": "a", "alertmanager": "m"},
        after=30,
    ),
    Case(
        "AlertmanagerConfigReloadFailed",
        {'alertmanager_config_last_reload_successful{instance="a"}': "0x20"},
        {"instance": "a"},
        quiet=({'alertmanager_config_last_reload_successful{instance="a"}': "1x20"},),
    ),
    Case(
        "AlertmanagerNotificationsFailing",
        {
            'alertmanager_notifications_failed_total{instance="a",integration="webhook",reason="other"}': "0+1x40",
            'alertmanager_notifications_failed_total{instance="a",integration="webhook",reason="timeout"}': "0+1x40",
            'alertmanager_notifications_total{instance="a",integration="webhook"}': "0+4x40",
        },
        {"instance": "a", "integration": "webhook"},
        value="50%",
        quiet=(
            {
                'alertmanager_notifications_failed_total{instance="a",integration="webhook",reason="other"}': "1x40",
                'alertmanager_notifications_total{instance="a",integration="webhook"}': "0+4x40",
            },
        ),
        after=20,
    ),
    Case(
        "AlertmanagerClusterIncomplete",
        {
            'alertmanager_cluster_members{job="alertmanager",instance="a"}': "2x30",
            'alertmanager_cluster_members{job="alertmanager",instance="b"}': "3x30",
            'alertmanager_cluster_members{job="alertmanager",instance="c"}': "3x30",
        },
        {"job": "alertmanager", "instance": "a"},
        value="2",
        quiet=({'alertmanager_cluster_members{job="alertmanager",instance="a"}': "1x30"},),
    ),
]

SHOP: dict[str, Any] = {
    "name": "shop",
    "namespace": "shop",
    "workload": "deployment/shop",
    "scrape": {"port": "web"},
    "scale_on": {"metric": "http_requests_total", "target": 10},
    "replicas": {"min": 1, "max": 5},
}
READY = 'kube_pod_status_ready{namespace="shop",pod="shop-6d4cf56db6-abcde",condition="true"}'
OTHER_READY = 'kube_pod_status_ready{namespace="shop",pod="shop-api-6d4cf56db6-abcde",condition="true"}'
REQUESTS = 'http_requests_total{namespace="shop",pod="shop-6d4cf56db6-abcde"}'
OF_SHOP = {"namespace": "shop", "app": "shop", "metric": "http_requests_per_second"}
INGRESS = {"metric": "ingress_requests_total", "target": 10, "object": "ingress/shop"}
OF_INGRESS = OF_SHOP | {"metric": "ingress_requests_per_second"}
INGRESS_SERIES = 'ingress_requests_total{namespace="shop",ingress="shop"}'
QUEUE = {"metric": "queue_length", "target": 30, "external": True, "selector": {"queue": "orders"}}
OF_QUEUE = OF_SHOP | {"metric": "queue_length"}
RATIO = {"metric": "busy_seconds_total", "over": "workers_total", "as": "busy", "target": "500m"}
# Values every 15 seconds.
APP_CASES = [
    (
        {},
        Case(
            "AutoscaledAppMetricMissing",
            {READY: "1x120"},
            OF_SHOP,
            quiet=(
                {READY: "1x120", REQUESTS: "0x120"},
                # Pods that are not ready, and those of another app.
                {READY: "0x120", OTHER_READY: "1x120"},
            ),
        ),
    ),
    (
        {},
        Case(
            "AutoscaledAppNotFollowing",
            # 30 a second need 3 replicas.
            {REQUESTS: "0+450x120", DESIRED: "1x120", READY: "1x120"},
            OF_SHOP,
            value="3.0",
            quiet=(
                {REQUESTS: "0+450x120", DESIRED: "3x120", READY: "1x120"},
                # 600 would need 60, of which it may have 5.
                {REQUESTS: "0+9000x120", DESIRED: "5x120", READY: "1x120"},
                {REQUESTS: "0x120", DESIRED: "1x120", READY: "1x120"},
            ),
            after=14,
        ),
    ),
    (
        {"scale_on": INGRESS},
        Case("AutoscaledAppMetricMissing", {READY: "1x120"}, OF_INGRESS, quiet=({INGRESS_SERIES: "0x120"},)),
    ),
    (
        {"scale_on": INGRESS},
        Case(
            "AutoscaledAppNotFollowing",
            {INGRESS_SERIES: "0+450x120", DESIRED: "1x120"},
            OF_INGRESS,
            value="3.0",
            quiet=({INGRESS_SERIES: "0+450x120", DESIRED: "3x120"},),
            after=14,
        ),
    ),
    (
        {"scale_on": QUEUE},
        Case(
            "AutoscaledAppNotFollowing",
            {'queue_length{queue="orders"}': "90x120", 'queue_length{queue="mails"}': "900x120", DESIRED: "2x120"},
            OF_QUEUE,
            value="3.0",
            quiet=({'queue_length{queue="orders"}': "60x120", DESIRED: "2x120"},),
        ),
    ),
    (
        {"scale_on": QUEUE},
        Case("AutoscaledAppMetricMissing", {'queue_length{queue="mails"}': "900x120"}, OF_QUEUE),
    ),
    (
        {"scale_on": RATIO},
        Case(
            "AutoscaledAppMetricMissing",
            {READY: "1x120", 'busy_seconds_total{namespace="shop",pod="shop-6d4cf56db6-abcde"}': "0+9x120"},
            OF_SHOP | {"metric": "busy"},
            after=9,
        ),
    ),
]  # fmt: skip


def rules_of(file: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


RULES = {rule["alert"]: (rule, file) for file in FILES for rule in rules_of(file)}


def minutes(rule: dict[str, Any]) -> int:
    lasting = rule.get("for", "0m")
    return int(lasting[:-1]) * UNITS[lasting[-1]]


def rendered(text: str, case: Case) -> str:
    """An annotation as a person reads it."""
    for template, shown in case.shown.items():
        text = text.replace(template, shown)
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: case.labels[found.group(1)], text)
    return re.sub(r"{{ \$value[^}]*}}", case.value, text)


def expectations(case: Case, rule: dict[str, Any], interval: str = "1m") -> list[dict[str, Any]]:
    """What promtool is to find: nothing before the rule's time, the alert after it, and nothing with quiet series."""
    at = case.after or minutes(rule) + 2
    # A condition that holds from the first minute on fires when the rule's time is over, and not a minute earlier.
    early = [] if case.after or not minutes(rule) else [{"eval_time": f"{minutes(rule) - 1}m", "alertname": case.alert}]
    fired = {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {name: rendered(text, case) for name, text in rule["annotations"].items()},
    }
    loud = {"eval_time": f"{at}m", "alertname": case.alert, "exp_alerts": [fired]}
    tests = [as_promtool_test(f"{case.alert} fires", interval, case.series, [*early, loud])]
    if all(name.startswith("kube_") for name in case.series):
        # A pod of kube-state-metrics follows another: each series is there twice, and the alert fires once.
        twice = {
            name.replace("}", f',instance="{pod}"}}'): values for name, values in case.series.items() for pod in "ab"
        }
        tests.append(as_promtool_test(f"{case.alert} fires once", interval, twice, [*early, loud]))
    for number, series in enumerate(case.quiet):
        tests.append(
            as_promtool_test(
                f"{case.alert} is quiet {number}", interval, series, [{"eval_time": f"{at}m", "alertname": case.alert}]
            )
        )
    return tests


def as_promtool_test(
    name: str, interval: str, series: dict[str, str], expected: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": name,
        "interval": interval,
        "input_series": [{"series": labels, "values": values} for labels, values in series.items()],
        "alert_rule_test": expected,
    }


def run_promtool(folder: Path, rule_file: Path, tests: list[dict[str, Any]]) -> None:
    promtool = cluster.find_binary("promtool")
    if not promtool:
        pytest.skip("promtool is not built (run playbooks/artifacts.yml, or set KUBESCALE_BIN)")
    content = {"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": tests}
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_when_it_should_and_only_then(case: Case, tmp_path: Path) -> None:
    rule, file = RULES[case.alert]
    run_promtool(tmp_path, file, expectations(case, rule))


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == set(RULES)
    assert [
        case.alert
        for case in CASES
        if case.alert != "Watchdog" and not any(other.quiet for other in CASES if other.alert == case.alert)
    ] == []


@pytest.mark.parametrize(("changes", "case"), APP_CASES, ids=lambda value: str(value) if value else "rate")
def test_an_alert_of_an_app_fires_when_it_should_and_only_then(
    changes: dict[str, Any], case: Case, tmp_path: Path
) -> None:
    groups = app_rules(*parse_apps([SHOP | changes]))
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["alert"] == case.alert]
    run_promtool(tmp_path, file, expectations(case, rule, "15s"))
