"""The demo app and its autoscaler: what is asked of the app, what the autoscaler makes of it, what the pods bear."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import Query, lines, new_dashboard, number, rows_of, truths

APP = 'namespace="demo"'
PODS = f'{APP}, pod=~"demo-app-.+"'
DEPLOYMENT = f'{APP}, deployment="demo-app"'
HPA = f'{APP}, horizontalpodautoscaler="demo-app"'
AVERAGE = f'{HPA}, metric_target_type="average"'

CLICK_RATE = f"rate(demo_app_button_clicks_total{{{APP}}}[$window])"
REQUEST_RATE = f"rate(flask_http_request_total{{{APP}}}[$window])"
LATENCY = f"sum by (le) (rate(flask_http_request_duration_seconds_bucket{{{APP}}}[$window]))"
# cAdvisor reports pod sandboxes and whole pods as well: without a container's name.
CPU = f'sum by (pod) (rate(container_cpu_usage_seconds_total{{{PODS}, container!=""}}[$__rate_interval]))'
MEMORY = f'sum by (pod) (container_memory_working_set_bytes{{{PODS}, container!=""}})'


def add_now(page: dashboard.Dashboard) -> None:
    """Add the row "Now"."""
    page.with_row(dashboard.Row("Now"))
    page.with_panel(
        number("Clicks", f"sum(demo_app_button_clicks_total{{{APP}}})", why="Counted by the pods that run now.")
    )
    page.with_panel(number("Clicks per second", f"sum({CLICK_RATE})", "cps", 2))
    page.with_panel(
        number(
            "Load against target",
            f"max(kube_horizontalpodautoscaler_status_target_metric{{{AVERAGE}}}"
            f" / kube_horizontalpodautoscaler_spec_target_metric{{{AVERAGE}}})",
            "percentunit",
            why="What the autoscaler read last, by its target. It adds pods above 110 %.",
        )
    )
    page.with_panel(number("Ready replicas", f"max(kube_deployment_status_replicas_ready{{{DEPLOYMENT}}})"))
    page.with_panel(number("Requests per second", f"sum({REQUEST_RATE})", "reqps", 2))
    page.with_panel(
        number("Latency, 95 of 100", f"histogram_quantile(0.95, {LATENCY})", "s", 4, "Nothing without requests.")
    )


def add_autoscaling(page: dashboard.Dashboard) -> None:
    """Add the row "Autoscaling"."""
    page.with_row(dashboard.Row("Autoscaling"))
    page.with_panel(
        lines(
            "Replicas",
            Query(f"max(kube_horizontalpodautoscaler_status_desired_replicas{{{HPA}}})", "desired"),
            Query(f"max(kube_deployment_status_replicas{{{DEPLOYMENT}}})", "started"),
            Query(f"max(kube_deployment_status_replicas_ready{{{DEPLOYMENT}}})", "ready"),
            Query(f"max(kube_horizontalpodautoscaler_spec_min_replicas{{{HPA}}})", "least"),
            Query(f"max(kube_horizontalpodautoscaler_spec_max_replicas{{{HPA}}})", "most"),
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Clicks per second and pod: target and measured",
            Query(f"max(kube_horizontalpodautoscaler_spec_target_metric{{{AVERAGE}}})", "target"),
            Query(f"max(kube_horizontalpodautoscaler_status_target_metric{{{AVERAGE}}})", "as the autoscaler read it"),
            Query(f"avg({CLICK_RATE})", "now, in Prometheus"),
            unit="cps",
            why="The autoscaler lags by a scrape, the window of the rate, and its own period of 15 s.",
        )
    )
    page.with_panel(
        lines("Clicks per second by pod", Query(f"sum by (pod) ({CLICK_RATE})", "{{pod}}"), unit="cps", stacked=True)
    )
    page.with_panel(
        truths(
            "Conditions of the autoscaler",
            Query(
                f'max by (condition) (kube_horizontalpodautoscaler_status_condition{{{HPA}, status="true"}})',
                "{{condition}}",
            ),
            why="ScalingActive false: the metric cannot be read. ScalingLimited true: it would go beyond its bounds.",
        )
    )
    page.with_panel(
        lines(
            "Clicks by pod",
            Query(f"sum by (pod) (demo_app_button_clicks_total{{{APP}}})", "{{pod}}"),
            stacked=True,
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Clicks in the window",
            Query(f"sum(increase(demo_app_button_clicks_total{{{APP}}}[$window]))", "clicks"),
            why="What the rate is made of.",
        )
    )


def add_requests(page: dashboard.Dashboard) -> None:
    """Add the row "Requests"."""
    page.with_row(dashboard.Row("Requests"))
    page.with_panel(
        lines(
            "Requests per second by answer",
            Query(f"sum by (method, status) ({REQUEST_RATE})", "{{method}} {{status}}"),
            unit="reqps",
            stacked=True,
        )
    )
    page.with_panel(
        lines(
            "Requests per second by endpoint",
            Query(
                f"sum by (endpoint) (rate(flask_http_request_duration_seconds_count{{{APP}}}[$window]))",
                "{{endpoint}}",
            ),
            unit="reqps",
            stacked=True,
        )
    )
    page.with_panel(
        lines(
            "Latency",
            *(Query(f"histogram_quantile({share}, {LATENCY})", f"{share:.0%}") for share in (0.5, 0.95, 0.99)),
            unit="s",
            why="This share of requests was faster. Nothing without requests.",
        )
    )
    page.with_panel(
        lines(
            "Failed requests",
            Query(
                f'(sum(rate(flask_http_request_total{{{APP}, status=~"5.."}}[$window])) or vector(0))'
                f" / (sum({REQUEST_RATE}) > 0 or vector(1))",
                "share of all",
            ),
            unit="percentunit",
        )
    )


def add_pods(page: dashboard.Dashboard) -> None:
    """Add the row "Pods"."""
    page.with_row(dashboard.Row("Pods"))
    page.with_panel(
        rows_of(
            "Pods now",
            {
                "pod": "Pod",
                "node": "Node",
                "Value #A": "Ready",
                "Value #B": "Clicks",
                "Value #C": "Clicks per second",
                "Value #D": "CPU cores",
                "Value #E": "Memory (MiB)",
                "Value #F": "Age (s)",
            },
            Query(
                f'max by (pod) (kube_pod_status_ready{{{PODS}, condition="true"}})'
                f" * on (pod) group_left (node) max by (pod, node) (kube_pod_info{{{PODS}}})"
            ),
            Query(f"sum by (pod) (demo_app_button_clicks_total{{{APP}}})"),
            Query(f"sum by (pod) ({CLICK_RATE})"),
            Query(CPU),
            Query(f"{MEMORY} / 2^20"),
            Query(f"max by (pod) (time() - kube_pod_start_time{{{PODS}}})"),
        )
    )
    page.with_panel(
        lines(
            "CPU by pod",
            Query(CPU, "{{pod}}"),
            Query(f'max(kube_pod_container_resource_requests{{{PODS}, resource="cpu"}})', "requested, each"),
            why="Cores.",
        )
    )
    page.with_panel(
        lines(
            "Memory by pod",
            Query(MEMORY, "{{pod}}"),
            Query(f'max(kube_pod_container_resource_requests{{{PODS}, resource="memory"}})', "requested, each"),
            unit="bytes",
        )
    )
    page.with_panel(
        lines(
            "Pods by node", Query(f"count by (node) (kube_pod_info{{{PODS}}})", "{{node}}"), stacked=True, stairs=True
        )
    )
    page.with_panel(
        lines(
            "Restarts",
            Query(f"sum by (pod) (kube_pod_container_status_restarts_total{{{PODS}}})", "{{pod}}"),
            stairs=True,
        )
    )


def build() -> dashboard.Dashboard:
    page = new_dashboard("kubescale-demo-app", "Demo app", "Clicks, the autoscaler that follows them, and the pods.")
    add_now(page)
    add_autoscaling(page)
    add_requests(page)
    add_pods(page)
    return page
