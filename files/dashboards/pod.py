"""Pods of one, several or all namespaces: what they use against what they asked for, and whether they stay up."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import Query, choice, good_when, lines, new_dashboard, number, rows_of

PODS = 'namespace=~"$namespace", pod=~"$pod"'
# cAdvisor reports pod sandboxes and whole pods as well: without a container's name.
CONTAINERS = f'{PODS}, container!=""'
BY = "by (namespace, pod)"
RATE = "[$__rate_interval]"
CPU = f"sum {BY} (rate(container_cpu_usage_seconds_total{{{CONTAINERS}}}{RATE}))"
MEMORY = f"sum {BY} (container_memory_working_set_bytes{{{CONTAINERS}}})"
# Only a container with a CPU limit can be throttled: for all others 0 is the truth.
THROTTLED = (
    f"sum {BY} (rate(container_cpu_cfs_throttled_periods_total{{{CONTAINERS}}}{RATE}))"
    f" / sum {BY} (rate(container_cpu_cfs_periods_total{{{CONTAINERS}}}{RATE})) or 0 * {CPU}"
)
ALIVE = f'max {BY} (kube_pod_status_phase{{{PODS}, phase=~"Pending|Running"}} == 1)'
READY = f'max {BY} (kube_pod_status_ready{{{PODS}, condition="true"}})'
RESTARTS = f"sum {BY} (increase(kube_pod_container_status_restarts_total{{{PODS}}}[1h]))"


def asked(what: str, resource: str) -> str:
    """Return the sum of a pod's containers; ``what`` is requests or limits."""
    return f'sum {BY} (kube_pod_container_resource_{what}{{{PODS}, resource="{resource}"}})'


def add_now(page: dashboard.Dashboard) -> None:
    """Add the row "Now"."""
    page.with_row(dashboard.Row("Now"))
    page.with_panel(number("Pods", f"count({ALIVE})", why="Running, or about to."))
    page.with_panel(
        good_when(number("Pods not ready", f"count(({READY} == 0) and {ALIVE}) or vector(0)", why="Of these."), 1)
    )
    page.with_panel(good_when(number("Restarts in an hour", f"sum({RESTARTS})"), 1))
    page.with_panel(number("CPU of requests", f"sum({CPU}) / sum({asked('requests', 'cpu')})", "percentunit"))
    page.with_panel(number("Memory of requests", f"sum({MEMORY}) / sum({asked('requests', 'memory')})", "percentunit"))
    page.with_panel(
        number(
            "Most throttled", f"max({THROTTLED})", "percentunit", why="Share of its time slices cut short by a limit."
        )
    )
    page.with_panel(
        rows_of(
            "Pods now",
            {
                "namespace": "Namespace",
                "pod": "Pod",
                "node": "Node",
                "Value #A": "Ready",
                "Value #B": "Restarts",
                "Value #C": "CPU cores",
                "Value #D": "CPU requested",
                "Value #E": "Memory (MiB)",
                "Value #F": "Memory requested (MiB)",
                "Value #G": "Age (s)",
            },
            Query(
                f"{READY} * on (namespace, pod) group_left (node)"
                f' max by (namespace, pod, node) (kube_pod_info{{{PODS}, node!=""}})'
            ),
            Query(f"sum {BY} (kube_pod_container_status_restarts_total{{{PODS}}})"),
            Query(CPU),
            Query(asked("requests", "cpu")),
            Query(f"{MEMORY} / 2^20"),
            Query(f"{asked('requests', 'memory')} / 2^20"),
            Query(f"max {BY} (time() - kube_pod_start_time{{{PODS}}})"),
        )
    )


def add_processors(page: dashboard.Dashboard) -> None:
    """Add the row "Processors"."""
    page.with_row(dashboard.Row("Processors"))
    page.with_panel(lines("CPU", Query(CPU, "{{pod}}"), stacked=True, why="Cores."))
    page.with_panel(
        lines(
            "CPU against requests",
            Query(f"{CPU} / {asked('requests', 'cpu')}", "{{pod}}"),
            unit="percentunit",
            why="What an autoscaler on CPU utilization compares with its target. Nothing for a pod without a request.",
        )
    )
    page.with_panel(
        lines(
            "CPU against limits",
            Query(f"{CPU} / {asked('limits', 'cpu')}", "{{pod}}"),
            unit="percentunit",
            nothing="No pod here has a CPU limit.",
        )
    )
    page.with_panel(
        lines(
            "Throttled",
            Query(THROTTLED, "{{pod}}"),
            unit="percentunit",
            why="Share of a pod's time slices that its CPU limit cut short. 0 without a limit.",
        )
    )


def add_memory(page: dashboard.Dashboard) -> None:
    """Add the row "Memory"."""
    page.with_row(dashboard.Row("Memory"))
    page.with_panel(lines("Memory", Query(MEMORY, "{{pod}}"), unit="bytes", stacked=True))
    page.with_panel(
        lines(
            "Memory against requests",
            Query(f"{MEMORY} / {asked('requests', 'memory')}", "{{pod}}"),
            unit="percentunit",
            why="What an autoscaler on memory utilization compares with its target.",
        )
    )
    page.with_panel(
        lines(
            "Memory against limits",
            Query(f"{MEMORY} / {asked('limits', 'memory')}", "{{pod}}"),
            unit="percentunit",
            nothing="No pod here has a memory limit.",
            why="At 100 % the kernel ends a container.",
        )
    )
    page.with_panel(
        lines(
            "Ended for lack of memory",
            Query(f"sum {BY} (increase(container_oom_events_total{{{CONTAINERS}}}[1h]))", "{{pod}}"),
            why="In an hour.",
            stairs=True,
        )
    )


def add_network(page: dashboard.Dashboard) -> None:
    """Add the row "Network"."""
    page.with_row(dashboard.Row("Network"))
    page.with_panel(
        lines(
            "Received",
            Query(f"sum {BY} (rate(container_network_receive_bytes_total{{{PODS}}}{RATE}))", "{{pod}}"),
            unit="Bps",
        )
    )
    page.with_panel(
        lines(
            "Sent",
            Query(f"sum {BY} (rate(container_network_transmit_bytes_total{{{PODS}}}{RATE}))", "{{pod}}"),
            unit="Bps",
        )
    )


def add_staying_up(page: dashboard.Dashboard) -> None:
    """Add the row "Staying up"."""
    page.with_row(dashboard.Row("Staying up"))
    page.with_panel(lines("Restarts in the last hour", Query(RESTARTS, "{{pod}}"), stairs=True))
    page.with_panel(
        lines(
            "Pods by readiness",
            Query(f"sum({READY} and {ALIVE})", "ready"),
            Query(f"count({ALIVE})", "all"),
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Why containers wait",
            Query(f"sum by (pod, reason) (kube_pod_container_status_waiting_reason{{{PODS}}})", "{{pod}}: {{reason}}"),
            nothing="No container waits.",
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Why containers ended last",
            Query(
                f"sum by (pod, reason) (kube_pod_container_status_last_terminated_reason{{{PODS}}})",
                "{{pod}}: {{reason}}",
            ),
            nothing="No container ended and was started again.",
            stairs=True,
        )
    )


def build() -> dashboard.Dashboard:
    page = new_dashboard("kubescale-pod", "Pod", "Pods: use against requests and limits, restarts, network.")
    page.with_variable(choice("namespace", "Namespace", "kube_pod_info", "namespace"))
    page.with_variable(choice("pod", "Pod", 'kube_pod_info{namespace=~"$namespace"}', "pod"))
    add_now(page)
    add_processors(page)
    add_memory(page)
    add_network(page)
    add_staying_up(page)
    return page
