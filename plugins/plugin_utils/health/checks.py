"""The links of the chain, from node to autoscaler, read from a cluster's API and judged.

A *check* is data (roles/verify/vars/main.yml); a *probe* is the function here that it names. A probe gets the facts
of one round and the check's arguments, and says whether the link holds, with evidence either way. Probes read; nothing
here changes a cluster.
"""

from __future__ import annotations

import base64
import datetime
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ..apps.scraping import ANNOTATED_PODS, ANNOTATED_SERVICES
from ..kube.client import CONNECTIONS, ApiError
from ..kube.objects import (
    SelectorError,
    condition,
    explain,
    holds,
    matches,
    selector_text,
    why_not_ready,
    with_query,
)
from ..kube.prometheus import (
    SERVICES,
    Answer,
    PrometheusError,
    Reader,
    prometheus_data,
    prometheus_query,
    service_path,
)
from ..kube.readiness import without_workload

# Seconds between two looks at what cannot be watched (Prometheus, the adapter), and between two progress lines.
POLL_SECONDS = 1.0
PROGRESS_SECONDS = 10.0
NO_POD_METRIC = "no app scales on a metric of its pods"
# An autoscaler is ours when a set of ours applied it.
OURS = "labelSelector=applyset.kubernetes.io/part-of"

AUTOSCALERS = f"/apis/autoscaling/v2/horizontalpodautoscalers?{OURS}"
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
CUSTOM = "/apis/custom.metrics.k8s.io"
NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"


class Cluster(Reader, Protocol):
    """The part of an API connection that checks need (see ``kube.Api``)."""

    def watch(self, api_version: str, kind: str, *, resource_version: str, timeout: float) -> Iterable[Any]:
        """Yield changes of all objects of a kind since a version, for ``timeout`` seconds at most."""


@dataclass(frozen=True)
class Outcome:
    """What one probe saw once."""

    ok: bool
    evidence: str


@dataclass
class Check:
    """One link of the chain, as the role's data describes it."""

    id: str
    title: str
    probe: str
    reason: str
    next: str
    args: dict[str, Any] = field(default_factory=dict)
    components: list[str] = field(default_factory=list)


@dataclass
class Result:
    """How a check ended; ``seconds`` is the time from the start of all checks until this one's last look."""

    id: str
    title: str
    ok: bool
    evidence: str
    seconds: float
    reason: str
    next: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a task result and the report."""
        return asdict(self)


class CheckDataError(Exception):
    """The data of a check is wrong: the message names the check, the key and what is allowed."""


class Facts:
    """What one round of checks read: every path once, however many checks ask for it.

    ``read`` answers a path with JSON or raises. Safe for many threads. ``flavor`` is how Prometheus is run.
    """

    def __init__(self, cluster: Cluster, flavor: str = "operator") -> None:
        self.cluster = cluster
        self.flavor = flavor
        self.lists: dict[str, tuple[str, str, str]] = {}
        self._answers: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def raw(self, path: str) -> Answer:
        """Answer at ``path``; the first to ask reads, others wait for the same answer or error."""
        with self._lock:
            answer = self._answers.get(path)
            first = answer is None
            if answer is None:
                answer = self._answers[path] = Future()
        if first:
            try:
                value = self.cluster.raw(path)
                version = value.get("metadata", {}).get("resourceVersion") if isinstance(value, Mapping) else None
                if version and value["kind"].endswith("List"):
                    self.lists[path] = (value["apiVersion"], value["kind"].removesuffix("List"), version)
                answer.set_result(value)
            except Exception as error:
                answer.set_exception(error)
        return answer.result()

    def items(self, path: str) -> list[dict[str, Any]]:
        """Objects of a list; an unset list is an empty one."""
        return self.raw(path).get("items") or []


class Watched:
    """One probe's view of the facts, which remembers what the probe read."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.paths: set[str] = set()
        self.flavor = facts.flavor
        # The service of Prometheus, as ``service_path`` wants it.
        self.prometheus = SERVICES[facts.flavor]

    def raw(self, path: str) -> Answer:
        """See ``Facts.raw``."""
        self.paths.add(path)
        return self._facts.raw(path)

    def items(self, path: str) -> list[dict[str, Any]]:
        """See ``Facts.items``."""
        self.paths.add(path)
        return self._facts.items(path)


Probe = Callable[[Watched, Mapping[str, Any]], Outcome]
PROBES: dict[str, Probe] = {}


def probe(function: Probe) -> Probe:
    """Make a function known under its name to the data of the checks."""
    PROBES[function.__name__] = function
    return function


def key(item: Mapping[str, Any]) -> str:
    """``namespace/name`` of an object, or its name."""
    metadata = item["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]


def verdict(broken: Sequence[str], good: str) -> Outcome:
    """An outcome from the list of what is broken (none: good)."""
    return Outcome(not broken, "; ".join(broken) if broken else good)


# -- machines and workloads --


@probe
def nodes_ready(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Every node is Ready, and every machine named in ``names`` is a node."""
    nodes = {node["metadata"]["name"]: node for node in facts.items(NODES)}
    broken = [f"{name} has not joined" for name in args.get("names") or [] if name not in nodes]
    for name, node in sorted(nodes.items()):
        if not holds(node, "Ready"):
            broken.append(f"{name} is not Ready ({explain(condition(node, 'Ready'))})")
    if not nodes:
        broken.append("the cluster has no nodes")
    return verdict(broken, f"{len(nodes)} nodes Ready")


@probe
def kubelet_certificates(facts: Watched, _unused: Mapping[str, Any]) -> Outcome:
    """The newest serving request of every node is approved and signed (older ones of the same node are left-overs)."""
    newest: dict[str, dict[str, Any]] = {}
    for request in facts.items("/apis/certificates.k8s.io/v1/certificatesigningrequests"):
        if request["spec"].get("signerName") != "kubernetes.io/kubelet-serving":
            continue
        user = request["spec"].get("username", "")
        held = newest.get(user)
        if held is None or request["metadata"]["creationTimestamp"] >= held["metadata"]["creationTimestamp"]:
            newest[user] = request
    broken = []
    for user, request in sorted(newest.items()):
        for bad in ("Denied", "Failed"):
            if holds(request, bad):
                broken.append(
                    f"{user}: {request['metadata']['name']} {bad.lower()} ({explain(condition(request, bad))})"
                )
                break
        else:
            if not request.get("status", {}).get("certificate"):
                state = "approved but not signed" if holds(request, "Approved") else "waits for approval"
                broken.append(f"{user}: {request['metadata']['name']} {state}")
    return verdict(broken, f"no request is waiting ({len(newest)} on record)")


@probe
def workloads_available(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Deployments, DaemonSets and StatefulSets of ``namespaces`` run their current revision, all replicas available."""
    namespaces = set(args["namespaces"])
    broken, count = [], 0
    for plural in ("deployments", "daemonsets", "statefulsets"):
        for workload in facts.items(f"/apis/apps/v1/{plural}"):
            if workload["metadata"]["namespace"] not in namespaces:
                continue
            count += 1
            missing = unavailable(plural, workload)
            if missing:
                detail = pod_trouble(facts, workload)
                broken.append(f"{plural[:-1]} {key(workload)}: {missing}" + (f" ({detail})" if detail else ""))
    return verdict(broken, f"{count} workloads available")


def unavailable(plural: str, workload: Mapping[str, Any]) -> str:
    """What a workload lacks to be available at its current generation, or nothing."""
    status, spec = workload.get("status", {}), workload["spec"]
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return "its controller has not seen the newest generation"
    if plural == "daemonsets":
        wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
        ready = status.get("numberAvailable", 0)
    else:
        wanted = spec.get("replicas", 1)
        updated, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} updated"
    return "" if ready >= wanted else f"{ready} of {wanted} available"


def pods_of(facts: Watched, workload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Pods that a workload selects, those on their way out left aside."""
    namespace, selector = workload["metadata"]["namespace"], workload["spec"]["selector"]
    return [
        pod
        for pod in facts.items(PODS)
        if pod["metadata"]["namespace"] == namespace
        and "deletionTimestamp" not in pod["metadata"]
        and matches(selector, pod["metadata"].get("labels") or {})
    ]


def pod_trouble(facts: Watched, workload: Mapping[str, Any]) -> str:
    """Why the first pod of a workload that is not Ready is not, as the kubelet or the scheduler says it."""
    for pod in pods_of(facts, workload):
        if holds(pod, "Ready"):
            continue
        return f"pod {pod['metadata']['name']}: {why_not_ready(pod)}"
    return ""


# -- aggregated APIs --


@probe
def apiservices_available(facts: Watched, _unused: Mapping[str, Any]) -> Outcome:
    """Every APIService, local or aggregated, is Available."""
    services = facts.items(APISERVICES)
    broken = [
        f"{key(service)}: {explain(condition(service, 'Available'))}"
        for service in services
        if not holds(service, "Available")
    ]
    return verdict(broken, f"{len(services)} APIServices available")


@probe
def apiservice_verified(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """The APIServices ``names`` exist, are Available, and their server's certificate is verified."""
    services = {service["metadata"]["name"]: service for service in facts.items(APISERVICES)}
    broken = []
    for name in args["names"]:
        service = services.get(name)
        if service is None:
            broken.append(f"{name} is not registered")
            continue
        if service["spec"].get("insecureSkipTLSVerify"):
            broken.append(f"{name} skips the verification of its server (insecureSkipTLSVerify)")
        elif not service["spec"].get("caBundle"):
            broken.append(f"{name} has no caBundle")
        if not holds(service, "Available"):
            broken.append(f"{name}: {explain(condition(service, 'Available'))}")
    return verdict(broken, f"{', '.join(args['names'])}: available, with CA bundle")


@probe
def resource_metrics(facts: Watched, _unused: Mapping[str, Any]) -> Outcome:
    """metrics.k8s.io has every node, and pods."""
    measured = {item["metadata"]["name"] for item in facts.items("/apis/metrics.k8s.io/v1beta1/nodes")}
    pods = facts.items("/apis/metrics.k8s.io/v1beta1/pods")
    broken = [
        f"no metrics of node {node['metadata']['name']}"
        for node in facts.items(NODES)
        if node["metadata"]["name"] not in measured
    ]
    if not pods:
        broken.append("no metrics of any pod")
    return verdict(broken, f"{len(measured)} nodes and {len(pods)} pods measured")


@probe
def serving_certificate(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """The certificate in ``secret`` is issued by the ``apiservice``'s CA bundle, for its service, for ``days`` days."""
    service = facts.raw(f"{APISERVICES}/{args['apiservice']}")
    namespace, _unused, name = args["secret"].partition("/")
    secret = facts.raw(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    target = service["spec"]["service"]
    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
        bundle = x509.load_pem_x509_certificates(base64.b64decode(service["spec"].get("caBundle") or ""))
    except (KeyError, ValueError) as error:
        return Outcome(False, f"Secret {args['secret']} or the CA bundle holds no certificate ({error})")
    return judge_certificate(certificate, bundle, f"{target['name']}.{target['namespace']}.svc", int(args["days"]))


def judge_certificate(
    certificate: x509.Certificate, bundle: Sequence[x509.Certificate], host: str, days: int
) -> Outcome:
    """Whether a certificate is issued by one of ``bundle``, names ``host`` and is valid for ``days`` days from now."""
    broken = []
    if not any(issued_by(certificate, authority) for authority in bundle):
        broken.append(f"not issued by the APIService's CA bundle (issuer {certificate.issuer.rfc4514_string()})")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        hosts = []
    if host not in hosts:
        broken.append(f"does not name {host} (names {', '.join(hosts) or 'nothing'})")
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left.days < days:
        broken.append(f"valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, less than {days} days")
    return verdict(broken, f"names {host}, valid for {left.days} more days")


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` signed ``certificate``."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


# -- Prometheus and what stands beside it --


@probe
def prometheus_ready(facts: Watched, _unused: Mapping[str, Any]) -> Outcome:
    """Prometheus answers a query, which it only does once it has read its data."""
    prometheus_query(facts, "vector(1)", facts.prometheus)
    path = service_path(facts.prometheus, "/api/v1/status/buildinfo")
    return Outcome(True, f"version {prometheus_data(facts.raw(path), 'its version')['version']}")


@probe
def prometheus_targets(facts: Watched, _unused: Mapping[str, Any]) -> Outcome:
    """Everything that Prometheus is told to scrape has a target, and every target is up."""
    path = service_path(facts.prometheus, "/api/v1/targets", {"state": "active"})
    targets = prometheus_data(facts.raw(path), "its targets")["activeTargets"]
    broken = (broken_monitors if facts.flavor == "operator" else broken_jobs)(facts, targets)
    for target in targets:
        if target["health"] != "up":
            error = target.get("lastError") or "not scraped yet"
            broken.append(f"{target['scrapePool']} {target['scrapeUrl']} is {target['health']}: {error}")
    return verdict(broken, f"{len(targets)} targets up in {len({target['scrapePool'] for target in targets})} pools")


def broken_monitors(facts: Watched, targets: Iterable[Mapping[str, Any]]) -> list[str]:
    """Endpoints of ServiceMonitors and PodMonitors that have no target."""
    pools = {target["scrapePool"] for target in targets}
    broken = []
    idle = without_pods(facts)
    for kind, field_name in (("serviceMonitor", "endpoints"), ("podMonitor", "podMetricsEndpoints")):
        for monitor in facts.items(f"/apis/monitoring.coreos.com/v1/{kind.lower()}s"):
            if key(monitor) in idle:
                continue
            for number, endpoint in enumerate(monitor["spec"].get(field_name) or []):
                if f"{kind}/{key(monitor)}/{number}" not in pools:
                    port = endpoint.get("port") or endpoint.get("targetPort") or endpoint.get("portNumber")
                    broken.append(f"{kind} {key(monitor)} has no target at port {port}")
    return broken


def broken_jobs(facts: Watched, targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scrape jobs, and annotated Services and pods, that have no target; and targets that two jobs scrape."""
    jobs = prometheus_data(facts.raw(service_path(facts.prometheus, "/api/v1/scrape_pools")), "its jobs")["scrapePools"]
    idle = {*jobs} - {target["scrapePool"] for target in targets} - {ANNOTATED_SERVICES, ANNOTATED_PODS}
    idle -= {f"app/{app}" for app in without_pods(facts)}
    broken = [f"job {job} has no target" for job in sorted(idle)]
    for kind, path in (("service", "/api/v1/services"), ("pod", PODS)):
        scraped = {f"{target['labels'].get('namespace')}/{target['labels'].get(kind)}" for target in targets}
        for item in facts.items(path):
            wanted = (item["metadata"].get("annotations") or {}).get("prometheus.io/scrape") == "true"
            if wanted and key(item) not in scraped and (kind == "service" or holds(item, "Ready")):
                broken.append(
                    f"{kind} {key(item)} is annotated, and has no target: no port of it is that of the annotation"
                )
    pools: dict[str, list[str]] = {}
    for target in targets:
        pools.setdefault(target["scrapeUrl"], []).append(target["scrapePool"])
    return broken + [
        f"{url} is scraped by {' and by '.join(sorted(both))}, which doubles rates"
        for url, both in pools.items()
        if len(both) > 1
    ]


@probe
def alertmanager(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Prometheus sends to an Alertmanager, and the service of ``service`` is ready."""
    path = service_path(facts.prometheus, "/api/v1/alertmanagers")
    active = prometheus_data(facts.raw(path), "its Alertmanagers")["activeAlertmanagers"]
    if not active:
        return Outcome(False, "Prometheus knows no Alertmanager")
    status = facts.raw(service_path(args["service"], "/api/v2/status"))
    state = status["cluster"]["status"]
    version = status["versionInfo"]["version"]
    return verdict(
        [] if state in ("ready", "disabled") else [f"it is {state}"], f"version {version}, {len(active)} known"
    )


@probe
def grafana(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Grafana's own health is good and it has dashboards: by its own word, or, behind its login, by what is mounted."""
    health = facts.raw(service_path(args["service"], "/api/health"))
    if health.get("database") != "ok":
        return Outcome(False, f"/api/health says {health}")
    try:
        count = len(facts.raw(service_path(args["service"], "/api/search", {"type": "dash-db"})))
    except ApiError as error:
        if error.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise
        namespace, _unused, name = args["service"].partition(":")[0].partition("/")
        pod = facts.raw(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")["spec"]["template"]["spec"]
        mounted = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])]
        count = sum("configMap" in source for source in mounted)
    return verdict([] if count else ["it has no dashboards"], f"version {health.get('version')}, {count} dashboards")


# -- autoscaled apps --


def pod_metrics(autoscaler: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Pods metrics of an autoscaler: name and target."""
    return [entry["pods"] for entry in autoscaler["spec"].get("metrics") or [] if entry.get("type") == "Pods"]


def autoscalers(facts: Watched, args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Autoscalers of ours whose workload exists, only those of ``apps`` (namespace/name) when the check names some."""
    wanted = args.get("apps")
    ours = [item for item in facts.items(AUTOSCALERS) if not wanted or key(item) in wanted]
    return [item for item in ours if not without_workload(item)]


def without_pods(facts: Watched) -> set[str]:
    """Apps (namespace/name) whose autoscaler says that they have no pods, or not even a workload."""
    return {
        key(item)
        for item in facts.items(AUTOSCALERS)
        if without_workload(item)
        or ((item.get("status") or {}).get("currentReplicas") == 0 and holds(item, "AbleToScale"))
    }


def scaled_pods(facts: Watched, autoscaler: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Label selector of what an autoscaler scales, and the names of its Ready pods."""
    namespace, target = autoscaler["metadata"]["namespace"], autoscaler["spec"]["scaleTargetRef"]
    path = f"/apis/{target['apiVersion']}/namespaces/{namespace}/{target['kind'].lower()}s/{target['name']}"
    workload = facts.raw(path)
    selector = selector_text(workload["spec"].get("selector"))
    return selector, sorted(pod["metadata"]["name"] for pod in pods_of(facts, workload) if holds(pod, "Ready"))


@probe
def autoscaler_exists(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Every app of ``expected`` (namespace/name) has an autoscaler of ours."""
    there = {key(item): without_workload(item) for item in facts.items(AUTOSCALERS)}
    broken = [f"{app} has none" for app in args["expected"] if app not in there]
    good = [name + (" (its workload does not exist yet)" if waits else "") for name, waits in sorted(there.items())]
    return verdict(broken, ", ".join(good) or "no app is to be scaled")


@probe
def series_present(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """The series that the adapter's rule reads exist for every Ready pod, with ``namespace`` and ``pod`` labels."""
    namespace, _unused, name = args["config"].partition("/")
    data = facts.raw(f"/api/v1/namespaces/{namespace}/configmaps/{name}")["data"]
    rules = [rule for text in data.values() for rule in (yaml.safe_load(text) or {}).get("rules") or []]
    broken, good = [], []
    for autoscaler in autoscalers(facts, args):
        for metric in pod_metrics(autoscaler):
            wanted = metric["metric"]["name"]
            query = series_query(rules, wanted)
            if not query:
                broken.append(f"{key(autoscaler)}: no rule of the adapter makes {wanted}")
                continue
            samples = prometheus_query(facts, query, facts.prometheus)
            home = autoscaler["metadata"]["namespace"]
            held = {item["metric"].get("pod") for item in samples if item["metric"].get("namespace") == home}
            missing = [pod for pod in scaled_pods(facts, autoscaler)[1] if pod not in held]
            if missing:
                broken.append(f"{key(autoscaler)}: {query} has no series for {', '.join(missing)}")
            else:
                good.append(f"{query}: {len(samples)} series")
    return verdict(broken, "; ".join(good) or NO_POD_METRIC)


def series_query(rules: Iterable[Mapping[str, Any]], metric: str) -> str:
    """The series selector of the adapter rule that makes ``metric``, or nothing."""
    for rule in rules:
        query, naming = rule.get("seriesQuery", ""), rule.get("name") or {}
        series = re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", query)
        if not series:
            continue
        pattern, target = naming.get("matches") or ".*", naming.get("as") or ""
        found = re.search(pattern, series.group(0))
        if not found:
            continue
        if not target:
            made = found.group(1) if found.groups() else series.group(0)
        else:
            made = found.expand(re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", target))
        if made == metric:
            return query
    return ""


@probe
def metric_discovered(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Both versions of the custom metrics API list every metric of pods that an autoscaler asks for."""
    broken: list[str] = []
    good: list[str] = []
    wanting = [item for item in autoscalers(facts, args) if pod_metrics(item)]
    for version in ("v1beta1", "v1beta2") if wanting else ():
        names = {resource["name"] for resource in facts.raw(f"{CUSTOM}/{version}").get("resources") or []}
        for autoscaler in wanting:
            for metric in pod_metrics(autoscaler):
                wanted = f"pods/{metric['metric']['name']}"
                (good if wanted in names else broken).append(
                    f"{version} {wanted}" + ("" if wanted in names else " is missing")
                )
    return verdict(broken, ", ".join(good) or NO_POD_METRIC)


@probe
def metric_values(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """The custom metrics API returns a value for every Ready pod of every autoscaled app."""
    broken, good = [], []
    for autoscaler in [item for item in autoscalers(facts, args) if pod_metrics(item)]:
        selector, pods = scaled_pods(facts, autoscaler)
        for metric in pod_metrics(autoscaler):
            values = metric_by_pod(facts, autoscaler["metadata"]["namespace"], metric["metric"]["name"], selector)
            missing = [pod for pod in pods if pod not in values]
            if missing:
                broken.append(f"{key(autoscaler)}: no value for {', '.join(missing)}")
            elif not values and key(autoscaler) not in without_pods(facts):
                broken.append(f"{key(autoscaler)}: no pod has a value")
            else:
                good.append(
                    f"{key(autoscaler)}: " + ", ".join(f"{pod} {value}" for pod, value in sorted(values.items()))
                )
    return verdict(broken, "; ".join(good) or NO_POD_METRIC)


def metric_by_pod(reader: Reader, namespace: str, metric: str, selector: str) -> dict[str, str]:
    """Value (a Kubernetes quantity) of a Pods metric for every pod that ``selector`` selects."""
    path = with_query(f"{CUSTOM}/v1beta2/namespaces/{namespace}/pods/*/{metric}", {"labelSelector": selector})
    return {item["describedObject"]["name"]: item["value"] for item in reader.raw(path).get("items") or []}


@probe
def autoscaler_active(facts: Watched, args: Mapping[str, Any]) -> Outcome:
    """Every autoscaler of ours is AbleToScale and its metric is ScalingActive."""
    broken, good = [], []
    for autoscaler in autoscalers(facts, args):
        bad = [kind for kind in ("AbleToScale", "ScalingActive") if not holds(autoscaler, kind)]
        for kind in bad:
            entry = condition(autoscaler, kind)
            broken.append(f"{key(autoscaler)} {kind}: {explain(entry) if entry else 'not judged yet'}")
        if not bad:
            current, desired = (autoscaler["status"].get(f"{word}Replicas", 0) for word in ("current", "desired"))
            good.append(f"{key(autoscaler)}: {current} replicas, {desired} desired")
    return verdict(broken, "; ".join(good) or "no app is to be scaled")


# -- running them --


def load_checks(data: Iterable[Mapping[str, Any]], absent: Iterable[str] = ()) -> list[Check]:
    """Checks from the role's data without those of absent components; ``CheckDataError`` names what is wrong."""
    gone, checks = set(absent), []
    for entry in data:
        try:
            check = Check(**entry)
        except TypeError as error:
            raise CheckDataError(
                f"check {entry.get('id', entry)}: {error}; a check has the keys {', '.join(Check.__annotations__)}"
            ) from None
        if check.probe not in PROBES:
            raise CheckDataError(
                f"check {check.id}: there is no probe {check.probe}; there are {', '.join(sorted(PROBES))}"
            )
        if not gone.intersection(check.components):
            checks.append(check)
    return checks


def look(check: Check, facts: Facts) -> tuple[Outcome, set[str]]:
    """One look of one check, and the paths it read; an API or Prometheus that refuses is evidence, not an accident."""
    view = Watched(facts)
    try:
        return PROBES[check.probe](view, check.args), view.paths
    except (ApiError, PrometheusError, SelectorError) as error:
        return Outcome(False, str(error)), view.paths
    except (KeyError, TypeError, AttributeError) as error:
        return Outcome(False, f"the answer is not what was expected: {error!r}"), view.paths


def run_checks(
    cluster: Cluster,
    checks: Sequence[Check],
    timeout: float,
    progress: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    flavor: str = "operator",
) -> list[Result]:
    """Run all checks at once, then look again at those that do not hold until all do or ``timeout`` seconds are over.

    What the API serves is watched; Prometheus and the adapter, which cannot be, are asked again every ``POLL_SECONDS``.
    ``progress`` gets a line about every ``PROGRESS_SECONDS`` that names what is missing. ``timeout`` 0: one look.
    ``flavor`` is how Prometheus is run.
    """
    start = clock()
    results: dict[str, Result] = {}
    pending, said = list(checks), start
    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        while pending:
            facts = Facts(cluster, flavor)
            looks = list(pool.map(lambda check, now=facts: look(check, now), pending))
            seconds = round(clock() - start, 2)
            paths: set[str] = set()
            for check, (outcome, read) in zip(pending, looks, strict=True):
                results[check.id] = Result(
                    check.id, check.title, outcome.ok, outcome.evidence, seconds, check.reason, check.next
                )
                if not outcome.ok:
                    paths |= read
            pending = [check for check in pending if not results[check.id].ok]
            left = timeout - (clock() - start)
            if not pending or left <= 0:
                break
            if clock() - said >= PROGRESS_SECONDS:
                said = clock()
                missing = "; ".join(f"{check.id} ({shorten(results[check.id].evidence)})" for check in pending)
                progress(f"{seconds:.0f} s, waiting for {missing}")
            await_change(cluster, facts, paths, min(left, PROGRESS_SECONDS))
    return [results[check.id] for check in checks]


def shorten(text: str, most: int = 90) -> str:
    """The beginning of a text that is too long for a line."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def await_change(cluster: Cluster, facts: Facts, paths: set[str], seconds: float) -> None:
    """Return when one of the lists read changes, after ``POLL_SECONDS`` where a path can't be watched.

    Returns after ``seconds`` in any case.
    """
    changed = threading.Event()

    def wait_for_event(api_version: str, kind: str, version: str) -> None:
        try:
            for _unused in cluster.watch(api_version, kind, resource_version=version, timeout=seconds):
                break
            changed.set()
        except ApiError:
            # The version is too old to watch from, or the server went away: the next look is at the usual pace.
            return

    if all(path in facts.lists for path in paths):
        for path in paths:
            threading.Thread(target=wait_for_event, args=facts.lists[path], daemon=True).start()
        changed.wait(seconds)
    else:
        changed.wait(min(seconds, POLL_SECONDS))
