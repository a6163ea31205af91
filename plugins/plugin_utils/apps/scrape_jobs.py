# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Load new scrape jobs into running Prometheus pods within seconds.

Prometheus reads its configuration from a mounted Secret or ConfigMap. The kubelet refreshes mounted files about once a
minute, but immediately if the pod changes, even by an annotation only.

A starting pod may have mounted its files before the jobs were written, and its Prometheus answers no queries yet. So
the task that waits for autoscalers loads the jobs when that pod becomes ready.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import gzip
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from ..common.components import NAMESPACES, OPERATOR, STANDALONE
from ..common.errors import FleetError
from ..common.yaml_io import YAML_LOADER
from ..kube.client import JSON, Api, ApiError
from ..kube.manifests import REMINDER_ANNOTATION, Ref, ref_of
from ..kube.prometheus import Answer, PrometheusError, prometheus_data
from ..kube.readiness import READY, Verdict, readiness
from ..kube.waiting import NotReadyError, in_parallel, wait_for
from .scraping import APPS, JOBS_FILE

#: API group of the operator. For each kind with endpoints: the field of the endpoints, and the prefix of job names.
MONITORING = "monitoring.coreos.com"
_MONITORS = {"PodMonitor": ("podMetricsEndpoints", "podMonitor"), "ServiceMonitor": ("endpoints", "serviceMonitor")}
#: Fields of an endpoint that select a port. The operator writes their value into a relabeling.
_PORTS = ("port", "portNumber", "targetPort")
#: Secret that the operator writes, its key, and the label selector of such Secrets.
_WRITTEN = Ref("v1", "Secret", NAMESPACES[OPERATOR], "prometheus-k8s")
_WRITTEN_IN = "prometheus.yaml.gz"
_WRITTEN_BY = "managed-by=prometheus-operator"
#: ConfigMap from which a Prometheus without operator reads the jobs of apps.
_CONFIG_MAP = Ref("v1", "ConfigMap", NAMESPACES[STANDALONE], APPS)
#: Seconds in each unit of an interval. Prometheus writes 90s as 1m30s.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
#: Seconds between two requests for a state that cannot be watched, and between two lines of progress.
_POLL_INTERVAL = 0.25
_NEXT_LINE = 5.0


class ScrapeJobsError(FleetError):
    """Prometheus did not load the jobs. The message names pods and jobs, and the cause if it is known."""


class Place(NamedTuple):
    """Namespace and label selector of the pods of a Prometheus."""

    namespace: str
    selector: str


PLACES = {
    OPERATOR: Place(NAMESPACES[OPERATOR], "app.kubernetes.io/name=prometheus,app.kubernetes.io/instance=k8s"),
    STANDALONE: Place(NAMESPACES[STANDALONE], "app.kubernetes.io/name=prometheus"),
}


class Job(NamedTuple):
    """The fields of a scrape job that are compared. An empty field is not known.

    ``words`` are the expressions of its relabelings: ports, workloads, services.
    """

    name: str
    interval: str = ""
    path: str = ""
    scheme: str = ""
    words: frozenset[str] = frozenset()

    def is_in(self, jobs: Mapping[str, Job]) -> bool:
        """Return whether a configuration has this job with the same fields."""
        job = jobs.get(self.name)
        if job is None:
            return False
        wanted, loaded = ((_seconds(item.interval), item.path, item.scheme) for item in (self, job))
        return all(not each or not other or each == other for each, other in zip(wanted, loaded, strict=True)) and (
            not job.words or self.words <= job.words
        )


def _seconds(interval: str) -> float:
    """Return the seconds of an interval as Prometheus reads it, 0 if it is not known."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", interval))


@dataclass
class Outcome:
    """Names of the wanted jobs, and of the pods that lacked jobs."""

    jobs: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)


def wanted_jobs(objects: Iterable[JSON]) -> list[Job]:
    """Return the jobs of PodMonitors, ServiceMonitors and the ConfigMap of a Prometheus without operator."""
    jobs: list[Job] = []
    for obj in objects:
        ref = ref_of(obj)
        if ref.group == MONITORING and ref.kind in _MONITORS:
            endpoints, prefix = _MONITORS[ref.kind]
            jobs += [
                Job(
                    f"{prefix}/{ref.namespace}/{ref.name}/{number}",
                    endpoint.get("interval", ""),
                    endpoint.get("path", ""),
                    endpoint.get("scheme", "").lower(),
                    frozenset(
                        str(word)
                        for word in [
                            *(endpoint.get(key) for key in _PORTS),
                            *(relabeling.get("regex") for relabeling in endpoint.get("relabelings") or []),
                        ]
                        if word is not None
                    ),
                )
                for number, endpoint in enumerate(obj["spec"].get(endpoints) or [])
            ]
        elif ref == _CONFIG_MAP:
            jobs += jobs_of((obj.get("data") or {}).get(JOBS_FILE, "")).values()
    return jobs


def jobs_of(configuration: str) -> dict[str, Job]:
    """Return the jobs of a configuration of Prometheus by name."""
    parsed = yaml.load(configuration, YAML_LOADER) or {}  # noqa: S506 - a safe loader
    return {
        entry["job_name"]: Job(
            entry["job_name"],
            entry.get("scrape_interval", ""),
            entry.get("metrics_path", ""),
            entry.get("scheme", ""),
            frozenset(str(item["regex"]) for item in entry.get("relabel_configs") or [] if "regex" in item),
        )
        for entry in parsed.get("scrape_configs") or []
    }


def lacking(wanted: Iterable[Job], jobs: Mapping[str, Job]) -> list[str]:
    """Return the names of the wanted jobs that a configuration lacks or has with other fields."""
    return [job.name for job in wanted if not job.is_in(jobs)]


def load_jobs(
    api: Api,
    objects: Iterable[JSON],
    flavor: str = "operator",
    check: bool = False,
    timeout: float = 120.0,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Load the jobs of `objects` into every ready Prometheus, within `timeout` seconds.

    A pod that is not ready is skipped, see `load_jobs_meanwhile`. Raise NotReadyError if the operator did not write the
    jobs in time, ScrapeJobsError if Prometheus did not load them.
    """
    deadline = time.monotonic() + timeout
    wanted = wanted_jobs(objects)
    outcome = Outcome([job.name for job in wanted])
    late = [pod for pod in _prometheus(api, flavor) if lacking(wanted, _loaded(api, pod, flavor))] if wanted else []
    outcome.pods = [pod["metadata"]["name"] for pod in late]
    if not late or check:
        return outcome
    if flavor == "operator":
        wait_for(api, [_WRITTEN], lambda obj: _written(obj, wanted), deadline, _WRITTEN_BY, say)
    in_parallel(lambda pod: _load(api, pod, flavor, wanted, deadline, say), late)
    return outcome


@contextlib.contextmanager
def load_jobs_meanwhile(
    api: Api,
    members: Collection[JSON],
    pending: Collection[Ref],
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Load the jobs of `members` into each Prometheus that is ready or becomes ready during the block.

    The block waits for the objects `pending`. If none of them is an autoscaler, nothing needs the jobs and no request
    is sent. `say` gets a line for pods that lacked jobs and for each error. An error does not end the block: the
    autoscaler does not become ready then, and the wait for it times out.
    """
    stop = threading.Event()
    if any(ref.kind == "HorizontalPodAutoscaler" for ref in pending):
        objects, flavor = list(members), "operator"
        if not wanted_jobs(objects):
            config_map = api.get("v1", "ConfigMap", _CONFIG_MAP.name, _CONFIG_MAP.namespace)
            objects, flavor = [config_map] if config_map else [], "standalone"
        if wanted_jobs(objects):
            args = (api, objects, flavor, say, stop)
            threading.Thread(target=_load_when_ready, args=args, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _load_when_ready(
    api: Api, objects: Collection[JSON], flavor: str, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Load the jobs whenever a pod of Prometheus is ready, until `stop` is set."""
    place = PLACES[flavor]
    while not stop.is_set():
        try:
            for event in api.watch("v1", "Pod", place.namespace, place.selector):
                if stop.is_set():
                    return
                if event.type == "DELETED" or not readiness({"apiVersion": "v1", "kind": "Pod", **event.object}).ready:
                    continue
                outcome = load_jobs(api, objects, flavor, say=say)
                if outcome.pods:
                    say(f"scrape jobs were missing and are loaded now: {', '.join(outcome.pods)}")
        except (ApiError, PrometheusError, ScrapeJobsError, NotReadyError) as error:
            say(f"scrape jobs are not loaded yet: {error}")
            stop.wait(_NEXT_LINE)


def _prometheus(api: Api, flavor: str) -> list[JSON]:
    """Return the ready pods of Prometheus."""
    place = PLACES[flavor]
    return [pod for pod in api.list("v1", "Pod", place.namespace, place.selector).items if readiness(pod).ready]


def _loaded(api: Api, pod: JSON, flavor: str) -> dict[str, Job]:
    """Return the jobs that a Prometheus reports as loaded."""
    if flavor == "operator":
        return jobs_of(_ask(api, pod, "status/config")["yaml"])
    # The reported configuration lacks jobs of included files. Only their names are known.
    return {name: Job(name) for name in _ask(api, pod, "scrape_pools")["scrapePools"]}


def _ask(api: Api, pod: JSON, question: str) -> Answer:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    try:
        answer = api.raw(f"/api/v1/namespaces/{namespace}/pods/{name}:9090/proxy/api/v1/{question}")
    except ApiError as error:
        raise ScrapeJobsError(f"pod {namespace}/{name} does not report its jobs: {error}") from error
    return prometheus_data(answer, question)


def _written(secret: Mapping[str, Any] | None, wanted: list[Job]) -> Verdict:
    """Return whether the operator has written all jobs."""
    packed = ((secret or {}).get("data") or {}).get(_WRITTEN_IN)
    jobs = jobs_of(gzip.decompress(base64.b64decode(packed)).decode()) if packed else {}
    missing = lacking(wanted, jobs)
    if not missing:
        return READY
    return Verdict(
        False,
        f"the operator has not written {', '.join(missing)} there; its log has the reason: "
        "kubectl -n monitoring logs deployment/prometheus-operator",
    )


def _load(api: Api, pod: JSON, flavor: str, wanted: list[Job], deadline: float, say: Callable[[str], None]) -> None:
    """Make the kubelet refresh a pod's files, and wait until Prometheus has loaded them."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    now = datetime.datetime.now(datetime.UTC).isoformat()
    api.patch("v1", "Pod", name, {"metadata": {"annotations": {REMINDER_ANNOTATION: now}}}, namespace)
    next_line = time.monotonic() + _NEXT_LINE
    while missing := lacking(wanted, _loaded(api, pod, flavor)):
        if time.monotonic() > deadline:
            raise ScrapeJobsError(
                f"pod {namespace}/{name} did not load {', '.join(missing)}, though its files have them. Its log has "
                f"the reason: kubectl -n {namespace} logs {name} --all-containers"
            )
        if time.monotonic() > next_line:
            next_line += _NEXT_LINE
            say(f"{name} has not loaded {', '.join(missing)} yet")
        threading.Event().wait(_POLL_INTERVAL)
