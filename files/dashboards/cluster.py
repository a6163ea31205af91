"""The cluster as a whole: machines, what runs on them, what scales, and whether we would know if it did not."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import Query, good_when, lines, new_dashboard, number, rows_of, truths

IDLE = 'rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval])'
# Pods that ended keep their requests in the metrics but hold nothing any more.
ALIVE = 'max by (namespace, pod) (kube_pod_status_phase{phase=~"Pending|Running"} == 1)'
SPACE = '{fstype!="tmpfs"}'


def requested(resource: str) -> str:
    held = f'kube_pod_container_resource_requests{{resource="{resource}"}}'
    return f"sum({held} * on (namespace, pod) group_left () {ALIVE})"


def allocatable(resource: str) -> str:
    return f'sum(kube_node_status_allocatable{{resource="{resource}"}})'


def add_now(page: dashboard.Dashboard) -> None:
    """Add the row "Now"."""
    page.with_row(dashboard.Row("Now"))
    page.with_panel(number("Nodes ready", 'sum(kube_node_status_condition{condition="Ready", status="true"})'))
    page.with_panel(
        good_when(number("Nodes not ready", 'sum(kube_node_status_condition{condition="Ready", status!="true"})'), 1)
    )
    page.with_panel(number("CPU in use", f"1 - avg({IDLE})", "percentunit"))
    page.with_panel(
        number(
            "Memory in use", "1 - sum(node_memory_MemAvailable_bytes) / sum(node_memory_MemTotal_bytes)", "percentunit"
        )
    )
    page.with_panel(number("Pods running", 'sum(kube_pod_status_phase{phase="Running"})'))
    page.with_panel(
        good_when(number("Targets down", "count(up) - sum(up)", why="Targets that Prometheus cannot read."), 1)
    )


def add_nodes(page: dashboard.Dashboard) -> None:
    """Add the row "Nodes"."""
    page.with_row(dashboard.Row("Nodes"))
    page.with_panel(
        lines("CPU in use by node", Query(f"1 - avg by (instance) ({IDLE})", "{{instance}}"), unit="percentunit")
    )
    page.with_panel(
        lines(
            "Memory in use by node",
            Query("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"),
            unit="percentunit",
        )
    )
    page.with_panel(
        lines(
            "Fullest disk by node",
            Query(
                f"max by (instance) (1 - node_filesystem_avail_bytes{SPACE} / node_filesystem_size_bytes{SPACE})",
                "{{instance}}",
            ),
            unit="percentunit",
        )
    )
    page.with_panel(
        lines(
            "Network by node",
            Query(
                "sum by (instance) (rate(node_network_receive_bytes_total[$__rate_interval]))", "{{instance}} received"
            ),
            Query("sum by (instance) (rate(node_network_transmit_bytes_total[$__rate_interval]))", "{{instance}} sent"),
            unit="Bps",
        )
    )
    page.with_panel(lines("Load by node", Query("node_load1", "{{instance}}"), why="Processes that run or wait."))
    page.with_panel(
        truths(
            "Ready",
            Query('max by (node) (kube_node_status_condition{condition="Ready", status="true"})', "{{node}}"),
        )
    )


def add_workloads(page: dashboard.Dashboard) -> None:
    """Add the row "Workloads"."""
    page.with_row(dashboard.Row("Workloads"))
    page.with_panel(
        lines(
            "CPU by namespace",
            Query(
                'sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[$__rate_interval]))',
                "{{namespace}}",
            ),
            stacked=True,
            why="Cores.",
        )
    )
    page.with_panel(
        lines(
            "Memory by namespace",
            Query('sum by (namespace) (container_memory_working_set_bytes{container!=""})', "{{namespace}}"),
            unit="bytes",
            stacked=True,
        )
    )
    page.with_panel(
        lines(
            "CPU: requested and there",
            Query(requested("cpu"), "requested"),
            Query(allocatable("cpu"), "allocatable"),
            why="Cores. The scheduler places pods by requests, not by use.",
        )
    )
    page.with_panel(
        lines(
            "Memory: requested and there",
            Query(requested("memory"), "requested"),
            Query(allocatable("memory"), "allocatable"),
            unit="bytes",
        )
    )


def add_pods(page: dashboard.Dashboard) -> None:
    """Add numbers of pods and their faults to the row of workloads."""
    page.with_panel(
        lines("Pods by node", Query("count by (node) (kube_pod_info)", "{{node}}"), stacked=True, stairs=True)
    )
    page.with_panel(
        lines("Pods by phase", Query("sum by (phase) (kube_pod_status_phase)", "{{phase}}"), stacked=True, stairs=True)
    )
    page.with_panel(
        lines(
            "Replicas missing",
            Query(
                "sum by (namespace)"
                " (clamp_min(kube_deployment_spec_replicas - kube_deployment_status_replicas_ready, 0))",
                "{{namespace}}",
            ),
            why="Of deployments: wanted, but not ready.",
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Restarts in an hour",
            Query(
                "topk(10, sum by (namespace, pod) (increase(kube_pod_container_status_restarts_total[1h])))",
                "{{namespace}}/{{pod}}",
            ),
            why="The ten pods with the most.",
        )
    )


def add_autoscaling(page: dashboard.Dashboard) -> None:
    """Add the row "Autoscaling"."""
    page.with_row(dashboard.Row("Autoscaling"))
    page.with_panel(
        lines(
            "Replicas by autoscaler",
            Query(
                "max by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_desired_replicas)",
                "{{namespace}}/{{horizontalpodautoscaler}}",
            ),
            why="As each autoscaler wants them.",
            stairs=True,
        )
    )
    page.with_panel(
        truths(
            "Autoscalers that can read their metrics",
            Query(
                "max by (namespace, horizontalpodautoscaler)"
                ' (kube_horizontalpodautoscaler_status_condition{condition="ScalingActive", status="true"})',
                "{{namespace}}/{{horizontalpodautoscaler}}",
            ),
        )
    )


def add_monitoring(page: dashboard.Dashboard) -> None:
    """Add the row "Monitoring"."""
    page.with_row(dashboard.Row("Monitoring"))
    page.with_panel(
        lines(
            "Alerts that fire",
            Query('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} ({{severity}})"),
            nothing="No alert fires.",
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Alerts that are about to",
            Query('count by (alertname, severity) (ALERTS{alertstate="pending"})', "{{alertname}} ({{severity}})"),
            nothing="No alert is pending.",
            why="Their condition holds, but not for long enough yet.",
            stairs=True,
        )
    )
    page.with_panel(
        rows_of(
            "Targets",
            {
                "job": "Job",
                "Value #A": "Up",
                "Value #B": "Known",
                "Value #C": "Slowest scrape (s)",
                "Value #D": "Samples",
            },
            Query("sum by (job) (up)"),
            Query("count by (job) (up)"),
            Query("max by (job) (scrape_duration_seconds)"),
            Query("sum by (job) (scrape_samples_scraped)"),
        )
    )
    page.with_panel(
        lines(
            "Samples per second",
            Query("sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))", "stored"),
        )
    )
    page.with_panel(lines("Series in memory", Query("sum(prometheus_tsdb_head_series)", "series")))


def build() -> dashboard.Dashboard:
    page = new_dashboard("kubescale-cluster", "Cluster", "Nodes, pods, autoscalers, and the targets of Prometheus.")
    add_now(page)
    add_nodes(page)
    add_workloads(page)
    add_pods(page)
    add_autoscaling(page)
    add_monitoring(page)
    return page
