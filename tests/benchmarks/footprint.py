#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What the pipeline costs while nothing happens: CPU, memory, series and scraped bytes of a running cluster.

CPU and memory are what the cluster's own Prometheus knows of them. How large scrapes are, Prometheus does not keep: a
pod with its rights asks every target once, as it does.
Run: python3 -m tests.benchmarks.footprint KUBECONFIG [--minutes 10] [--write]
--write makes docs/footprint.md of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api, connect
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.prometheus import (
    SERVICES,
    prometheus_data,
    prometheus_query,
    service_path,
)
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.quantity import quantity

from conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "footprint.md"
PINS = yaml.safe_load((REPOSITORY / "files/artifacts.yml").read_text(encoding="utf-8"))["components"]
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20
SERIES = "scrape_samples_post_metric_relabeling"

#: Namespace and pods of each component. Grafana is left out: where its image cannot be pulled, a stand-in runs.
COMPONENTS = {
    "Prometheus": ("monitoring", "prometheus-k8s-.+"),
    "Prometheus operator": ("monitoring", "prometheus-operator-.+"),
    "Alertmanager": ("monitoring", "alertmanager-main-.+"),
    "kube-state-metrics": ("monitoring", "kube-state-metrics-.+"),
    "node_exporter": ("node-exporter", "node-exporter-.+"),
    "metrics-server": ("kube-system", "metrics-server-.+"),
    "prometheus-adapter": ("custom-metrics", "prometheus-adapter-.+"),
}
#: What the manifests of kube-prometheus ask for, main branch of 2026-08-10 (operator 0.93.1, Prometheus 3.13.2): pods
#: (0: one per node), millicores and MiB of a pod with all its containers. Prometheus and Alertmanager have a
#: config-reloader beside them, for which their operator asks its defaults, 10m and 50Mi. Resource metrics come from the
#: adapter. Grafana (100m, 100Mi) is left out, as ours.
PUBLISHED = {
    "Prometheus": (2, 10, 450),
    "Prometheus operator": (1, 110, 120),
    "Alertmanager": (3, 14, 150),
    "kube-state-metrics": (1, 40, 230),
    "node_exporter": (0, 112, 200),
    "prometheus-adapter": (2, 102, 180),
    "blackbox exporter": (1, 30, 60),
}
#: Asks as Prometheus does; prints the size of each target's answer, as it is and as it travels.
SIZES = """
import gzip, json, ssl, sys, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=account + "ca.crt")
context.check_hostname = False
sizes = {}
for url in json.loads(sys.argv[1]):
    headers = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5",
               "Accept-Encoding": "gzip"}
    if url.startswith("https"):
        headers["Authorization"] = "Bearer " + open(account + "token").read()
    answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30, context=context)
    body = answer.read()
    zipped = answer.headers.get("Content-Encoding") == "gzip"
    sizes[url] = [len(gzip.decompress(body)) if zipped else len(body), len(body)]
print(json.dumps(sizes))
"""


@dataclass
class Component:
    """What one component's pods use and ask for: cores and bytes."""

    pods: int
    cpu: float
    memory: float
    cpu_request: float
    memory_request: float


@dataclass
class Job:
    """What one scrape job brings; sizes in bytes per second."""

    targets: int = 0
    series: float = 0
    samples: float = 0
    plain: float = 0
    travelling: float = 0
    intervals: set[str] = field(default_factory=set)


def number(api: Api, expr: str) -> float:
    """The one value of an expression; an error where it has none, so that nothing counts as free of charge."""
    samples = prometheus_query(api, expr)
    if len(samples) != 1:
        raise SystemExit(f"footprint: Prometheus has {len(samples)} values for {expr}")
    return float(samples[0]["value"][1])


def component(api: Api, namespace: str, pattern: str, minutes: int) -> Component:
    """Mean use of the last minutes, and the requests."""
    selected = f'namespace="{namespace}",pod=~"{pattern}",container!=""'
    cpu = number(api, f"sum(rate(container_cpu_usage_seconds_total{{{selected}}}[{minutes}m]))")
    memory = number(api, f"sum(avg_over_time(container_memory_working_set_bytes{{{selected}}}[{minutes}m]))")
    names = {
        sample["metric"]["pod"] for sample in prometheus_query(api, f"kube_pod_info{{{pods(namespace, pattern)}}}")
    }
    requests = [
        container.get("resources", {}).get("requests", {})
        for pod in api.list("v1", "Pod", namespace).items
        if pod["metadata"]["name"] in names
        for container in pod["spec"]["containers"]
    ]
    return Component(
        len(names),
        cpu,
        memory,
        sum(quantity(request.get("cpu", "0")) for request in requests),
        sum(quantity(request.get("memory", "0")) for request in requests),
    )


def pods(namespace: str, pattern: str) -> str:
    """Label matchers for the pods of a component."""
    return f'namespace="{namespace}",pod=~"{pattern}"'


def sizes(api: Api, urls: Sequence[str]) -> dict[str, list[int]]:
    """The size of each target's answer, as it is and as it travels, asked by a pod with Prometheus' rights."""
    name = "footprint"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "monitoring"},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "prometheus-k8s",
            "automountServiceAccountToken": True,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": name,
                    "image": f"localhost/kubescale/demo-app:{PINS['demo_app']['version']}",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/usr/bin/python3", "-c", SIZES, json.dumps(urls)],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    api.apply(pod, "footprint")
    try:
        for event in api.watch("v1", "Pod", "monitoring", field_selector=f"metadata.name={name}", timeout=180):
            phase = event.object["status"].get("phase")
            if phase in ("Succeeded", "Failed"):
                log = api.raw(f"/api/v1/namespaces/monitoring/pods/{name}/log", accept="*/*")
                if phase == "Failed":
                    raise SystemExit(f"footprint: the pod that asks the targets failed:\n{log}")
                return dict(log if isinstance(log, dict) else json.loads(log))
        raise SystemExit("footprint: the pod that asks the targets did not end within 180 s")
    finally:
        api.delete("v1", "Pod", name, "monitoring")


def jobs(api: Api) -> dict[str, Job]:
    """What each scrape job brings."""
    targets = prometheus_data(
        api.raw(service_path(SERVICES["operator"], "/api/v1/targets", {"state": "active"})), "its targets"
    )
    active = [target for target in targets["activeTargets"] if target["health"] == "up"]
    measured = sizes(api, [target["scrapeUrl"] for target in active])
    kept = {
        frozenset(sample["metric"].items()) - {("__name__", SERIES)}: float(sample["value"][1])
        for sample in prometheus_query(api, SERIES)
    }
    found: dict[str, Job] = {}
    for target in active:
        job = found.setdefault(target["labels"]["job"], Job())
        # As Prometheus says it: 15s, 1m, 1m30s.
        parts = re.findall(r"(\d+)([hms])", target["scrapeInterval"])
        seconds = sum(int(count) * {"h": 3600, "m": 60, "s": 1}[unit] for count, unit in parts)
        series = kept[frozenset(target["labels"].items())]
        plain, travelling = measured[target["scrapeUrl"]]
        job.targets += 1
        job.intervals.add(target["scrapeInterval"])
        job.series += series
        job.samples += series / seconds
        job.plain += plain / seconds
        job.travelling += travelling / seconds
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def components_table(found: dict[str, Component], nodes: int) -> str:
    """Used and asked for, beside what kube-prometheus asks for."""
    rows: list[list[str]] = []
    mine, theirs, alike = [0.0] * 4, [0.0] * 2, [0.0] * 2
    for name in dict.fromkeys([*found, *PUBLISHED]):
        cells = [name, *[""] * 8]
        if part := found.get(name):
            values = [part.cpu * 1000, part.memory / MEBIBYTE, part.cpu_request * 1000, part.memory_request / MEBIBYTE]
            cells[1:6] = [str(part.pods), *(f"{value:.{1 if value < 10 else 0}f}" for value in values)]
            mine = [old + new for old, new in zip(mine, values, strict=True)]
            # As if there were as many pods of it as kube-prometheus has.
            times = (PUBLISHED[name][0] or nodes) / part.pods if name in PUBLISHED else 1
            alike = [old + times * new for old, new in zip(alike, values[2:], strict=True)]
        if name in PUBLISHED:
            count, cpu, memory = PUBLISHED[name]
            count = count or nodes
            cells[6:] = [str(count), str(count * cpu), str(count * memory)]
            theirs = [theirs[0] + count * cpu, theirs[1] + count * memory]
        rows.append(cells)
    rows.append(["together", "", *(f"{value:.0f}" for value in mine), "", *(f"{value:.0f}" for value in theirs)])
    head = ["component", "pods", "uses mCPU", "uses MiB", "asks mCPU", "asks MiB"]
    ratios = (
        f"What we ask for is {mine[2] / theirs[0]:.2f} of their CPU and {mine[3] / theirs[1]:.2f} of their memory; "
        f"with their numbers of pods it would be {alike[0] / theirs[0]:.2f} and {alike[1] / theirs[1]:.2f}.\n"
    )
    return table([*head, "their pods", "they ask mCPU", "they ask MiB"], rows) + "\n" + ratios


def jobs_table(found: dict[str, Job]) -> str:
    """What each scrape job brings."""
    together = Job(
        *(sum(getattr(job, name) for job in found.values()) for name in ("targets", "series", "samples")),
        *(sum(getattr(job, name) for job in found.values()) for name in ("plain", "travelling")),
    )
    rows = [
        [
            name,
            job.targets,
            "/".join(sorted(job.intervals)),
            f"{job.series:.0f}",
            f"{job.samples:.0f}",
            f"{job.plain / KIBIBYTE:.1f}",
            f"{job.travelling / KIBIBYTE:.1f}",
        ]
        for name, job in [*sorted(found.items(), key=lambda item: -item[1].series), ("together", together)]
    ]
    return table(["job", "targets", "every", "series", "samples/s", "KiB/s parsed", "KiB/s sent"], rows)


def page(api: Api, minutes: int) -> str:
    """The page with the figures of a cluster."""
    nodes = len(api.list("v1", "Node").items)
    found = {name: component(api, *place, minutes) for name, place in COMPONENTS.items()}
    by_job = jobs(api)
    series = number(api, "sum(prometheus_tsdb_head_series)")
    appended = number(api, f"sum(rate(prometheus_tsdb_head_samples_appended_total[{minutes}m]))")
    place = pods(*COMPONENTS["Prometheus"])
    received = number(api, f"sum(rate(container_network_receive_bytes_total{{{place}}}[{minutes}m]))")
    names = ("kubernetes", "prometheus", "prometheus_operator", "prometheus_adapter", "metrics_server")
    versions = ", ".join(f"{name.replace('_', '-')} {PINS[name]['version']}" for name in names)
    return f"""\
<!-- Made by `python3 -m tests.benchmarks.footprint KUBECONFIG --write`; run that instead of editing. -->

# Footprint

See how much CPU, memory and traffic an idle cluster needs.

Measured on a cluster of {nodes} nodes in containers on one machine with 2 cores ({versions}):
the mean of {minutes} minutes without load. Grafana is left out, because a stand-in runs if its image cannot be pulled.

## Components

CPU is in thousandths of a core, memory is the working set. The last columns are the requests of the
[manifests of kube-prometheus](https://github.com/prometheus-operator/kube-prometheus/tree/main/manifests) (main branch
of 2026-08-10) on the same number of nodes, with the requests that their operator adds for config-reloaders. These are
requests, not measurements. They are for two or three pods of some components; this collection runs one pod of each
unless `high_availability` is set. Their Prometheus container requests memory only.

{components_table(found, nodes)}
## Scrapes

*Parsed* is the size that Prometheus reads, *sent* the compressed size on the network. Prometheus drops nearly all of an
API server's answer after parsing: the alerts need few of its series, and the API server cannot send these alone.

{jobs_table(by_job)}
Prometheus holds {series:.0f} series and takes in {appended:.0f} samples per second. It receives
{received / KIBIBYTE:.0f} KiB per second, including its watches of the API.
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--write", action="store_true", help="write docs/footprint.md")
    options = parser.parse_args(arguments)
    text = page(connect(options.kubeconfig), options.minutes)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
