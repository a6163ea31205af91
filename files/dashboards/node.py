"""One machine after the other: what it has, what is taken of it, and how its kubelet does."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .cluster import ALIVE
from .panels import Query, choice, lines, new_dashboard, number, repeated, rows_of, truths

# Node exporters are known by the node's name, kubelets by the label node.
MACHINE = 'instance=~"$node"'
NODE = 'node=~"$node"'
SPACE = f'{MACHINE}, fstype!="tmpfs"'
CARDS = f'{MACHINE}, device!="lo"'
FULL = f"1 - node_filesystem_avail_bytes{{{SPACE}}} / node_filesystem_size_bytes{{{SPACE}}}"


def requested(resource: str, by: str = "") -> str:
    """Share of what pods may have on a node that they asked for."""
    held = f'kube_pod_container_resource_requests{{{NODE}, resource="{resource}"}}'
    there = f'kube_node_status_allocatable{{{NODE}, resource="{resource}"}}'
    return f"sum {by}({held} * on (namespace, pod) group_left () {ALIVE}) / sum {by}({there})"


def within(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket{{{NODE}}}[$window])))"


def add_all_of_them(page: dashboard.Dashboard) -> None:
    """Add the row "All of them"."""
    page.with_row(dashboard.Row("All of them"))
    page.with_panel(
        rows_of(
            "Nodes now",
            {
                "node": "Node",
                "Value #A": "Ready",
                "Value #B": "CPU in use (%)",
                "Value #C": "Memory in use (%)",
                "Value #D": "Fullest disk (%)",
                "Value #E": "CPU requested (%)",
                "Value #F": "Memory requested (%)",
                "Value #G": "Pods",
            },
            Query(f'max by (node) (kube_node_status_condition{{{NODE}, condition="Ready", status="true"}})'),
            *(
                Query(f'max by (node) (label_join({expr}, "node", "", "instance"))')
                for expr in (
                    "100 * (1 - avg by (instance)"
                    f' (rate(node_cpu_seconds_total{{{MACHINE}, mode="idle"}}[$__rate_interval])))',
                    f"100 * (1 - node_memory_MemAvailable_bytes{{{MACHINE}}}"
                    f" / node_memory_MemTotal_bytes{{{MACHINE}}})",
                    f"100 * ({FULL})",
                )
            ),
            Query(f"100 * {requested('cpu', 'by (node) ')}"),
            Query(f"100 * {requested('memory', 'by (node) ')}"),
            Query(f"sum by (node) (kubelet_running_pods{{{NODE}}})"),
        )
    )


def add_node(page: dashboard.Dashboard) -> None:
    """Add the row "$node"."""
    page.with_row(repeated("$node", "node"))
    page.with_panel(
        number(
            "CPU in use",
            f'1 - avg(rate(node_cpu_seconds_total{{{MACHINE}, mode="idle"}}[$__rate_interval]))',
            "percentunit",
        )
    )
    page.with_panel(
        number(
            "Memory in use",
            f"1 - sum(node_memory_MemAvailable_bytes{{{MACHINE}}}) / sum(node_memory_MemTotal_bytes{{{MACHINE}}})",
            "percentunit",
        )
    )
    page.with_panel(number("Fullest disk", f"max({FULL})", "percentunit"))
    page.with_panel(number("CPU requested", requested("cpu"), "percentunit", why="Of what pods may have here."))
    page.with_panel(number("Memory requested", requested("memory"), "percentunit", why="Of what pods may have here."))
    page.with_panel(number("Up for", f"time() - min(node_boot_time_seconds{{{MACHINE}}})", "s"))


def add_load_of_node(page: dashboard.Dashboard) -> None:
    """Add processors, memory and pods to the row of a node."""
    page.with_panel(
        lines(
            "CPU by mode",
            Query(
                f'avg by (mode) (rate(node_cpu_seconds_total{{{MACHINE}, mode!="idle"}}[$__rate_interval]))', "{{mode}}"
            ),
            unit="percentunit",
            stacked=True,
            why="Share of all processors; the rest is idle.",
        )
    )
    page.with_panel(
        lines(
            "Load",
            Query(f"max(node_load1{{{MACHINE}}})", "1 minute"),
            Query(f"max(node_load5{{{MACHINE}}})", "5 minutes"),
            Query(f"max(node_load15{{{MACHINE}}})", "15 minutes"),
            Query(f'count(node_cpu_seconds_total{{{MACHINE}, mode="idle"}})', "processors"),
            why="Processes that run or wait, averaged.",
        )
    )
    page.with_panel(
        lines(
            "Memory",
            Query(
                f"sum(node_memory_MemTotal_bytes{{{MACHINE}}} - node_memory_MemAvailable_bytes{{{MACHINE}}})", "in use"
            ),
            Query(
                f"sum(node_memory_MemAvailable_bytes{{{MACHINE}}} - node_memory_MemFree_bytes{{{MACHINE}}})",
                "caches, can be freed",
            ),
            Query(f"sum(node_memory_MemFree_bytes{{{MACHINE}}})", "free"),
            unit="bytes",
            stacked=True,
        )
    )
    page.with_panel(
        lines(
            "Pods",
            Query(f"sum(kubelet_running_pods{{{NODE}}})", "running"),
            Query(f'sum(kube_node_status_allocatable{{{NODE}, resource="pods"}})', "most"),
            stairs=True,
        )
    )


def add_disks_of_node(page: dashboard.Dashboard) -> None:
    """Add disks to the row of a node."""
    page.with_panel(
        lines("Disk space in use", Query(f"max by (mountpoint) ({FULL})", "{{mountpoint}}"), unit="percentunit")
    )
    page.with_panel(
        lines(
            "Files in use",
            Query(
                f"max by (mountpoint) (1 - node_filesystem_files_free{{{SPACE}}}"
                f" / (node_filesystem_files{{{SPACE}}} > 0))",
                "{{mountpoint}}",
            ),
            unit="percentunit",
            why="Of the inodes that a file system has: without one left, a disk with space is full as well.",
        )
    )
    page.with_panel(
        lines(
            "Disks",
            Query(
                f"sum by (device) (rate(node_disk_read_bytes_total{{{MACHINE}}}[$__rate_interval]))", "{{device}} read"
            ),
            Query(
                f"sum by (device) (rate(node_disk_written_bytes_total{{{MACHINE}}}[$__rate_interval]))",
                "{{device}} written",
            ),
            unit="Bps",
        )
    )
    page.with_panel(
        lines(
            "Disks at work",
            Query(
                f"max by (device) (rate(node_disk_io_time_seconds_total{{{MACHINE}}}[$__rate_interval]))", "{{device}}"
            ),
            unit="percentunit",
            why="Share of the time in which a disk had something to do.",
        )
    )


def add_network_of_node(page: dashboard.Dashboard) -> None:
    """Add the network to the row of a node."""
    page.with_panel(
        lines(
            "Network",
            Query(
                f"sum by (device) (rate(node_network_receive_bytes_total{{{CARDS}}}[$__rate_interval]))",
                "{{device}} received",
            ),
            Query(
                f"sum by (device) (rate(node_network_transmit_bytes_total{{{CARDS}}}[$__rate_interval]))",
                "{{device}} sent",
            ),
            unit="Bps",
        )
    )
    page.with_panel(
        lines(
            "Network packets lost",
            *(
                Query(
                    f"sum(rate(node_network_{way}_errs_total{{{CARDS}}}[$__rate_interval])"
                    f" + rate(node_network_{way}_drop_total{{{CARDS}}}[$__rate_interval]))",
                    name,
                )
                for way, name in (("receive", "receiving"), ("transmit", "sending"))
            ),
            unit="pps",
            why="Broken or dropped.",
        )
    )


def add_kubelet_of_node(page: dashboard.Dashboard) -> None:
    """Add kubelet, busiest pods and conditions to the row of a node."""
    page.with_panel(
        lines(
            "Kubelet: 95 of 100 within",
            Query(within(0.95, "kubelet_pod_start_duration_seconds"), "start of a pod"),
            Query(within(0.95, "kubelet_pleg_relist_duration_seconds"), "look at all containers"),
            Query(within(0.95, "kubelet_pod_worker_duration_seconds"), "sync of a pod"),
            unit="s",
            why="No value while nothing of the kind happens.",
        )
    )
    page.with_panel(
        lines(
            "Kubelet: calls of the container runtime",
            Query(f"sum(rate(kubelet_runtime_operations_total{{{NODE}}}[$__rate_interval]))", "all"),
            Query(
                f"sum(rate(kubelet_runtime_operations_errors_total{{{NODE}}}[$__rate_interval])) or vector(0)", "failed"
            ),
            unit="ops",
        )
    )
    page.with_panel(
        lines(
            "CPU of the busiest pods",
            Query(
                "topk(5, sum by (namespace, pod)"
                f' (rate(container_cpu_usage_seconds_total{{{NODE}, container!=""}}[$__rate_interval])))',
                "{{namespace}}/{{pod}}",
            ),
            why="Cores; five pods.",
        )
    )
    page.with_panel(
        truths(
            "Conditions",
            Query(f'max by (condition) (kube_node_status_condition{{{NODE}, status="true"}})', "{{condition}}"),
            why="Ready should be true, everything else false.",
        )
    )


def build() -> dashboard.Dashboard:
    page = new_dashboard("kubescale-node", "Node", "Each machine: processors, memory, disks, network, pods, kubelet.")
    page.with_variable(choice("node", "Node", "kube_node_info", "node"))
    add_all_of_them(page)
    add_node(page)
    add_load_of_node(page)
    add_disks_of_node(page)
    add_network_of_node(page)
    add_kubelet_of_node(page)
    return page
