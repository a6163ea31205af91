# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""What can be found broken between an app and its autoscaler: links, causes, what each means and what to do.

The table of docs/doctor.md is made from this, and every cause has a unit test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: Links of an app's chain, in the order in which a metric travels.
LINKS: Mapping[str, str] = {
    "workload": "the workload exists and its pods run",
    "pods": "its containers have what is asked of them: the port that is scraped, the CPU request that is scaled on",
    "endpoints": "the Service to scrape leads to its pods",
    "scrape": "Prometheus has the scrape job",
    "target": "every pod is scraped, once, without an error",
    "series": "every pod has the series",
    "discovered": "the adapter has the rule and lists the metric",
    "apiservice": "the metrics API is served and verified",
    "values": "the metrics API has a value for every pod",
    "hpa": "the autoscaler is as its entry says and can scale",
    "limits": "nothing keeps it from the replicas it wants",
}
#: What is examined once for the whole cluster.
GENERAL: Mapping[str, str] = {
    "owners": "who serves the metrics APIs",
    "certificates": "certificates are valid for long enough",
    "clock": "clocks agree",
    "requests": "what is scaled on CPU or memory requests it",
}

State = Literal["ok", "broken", "skipped", "unknown"]


@dataclass(frozen=True)
class Cause:
    """Why a link is broken. ``advice`` has the names that the finding fills in: {namespace}, {app}, …"""

    links: tuple[str, ...]
    meaning: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """What was found of one link of one app, or (``app`` empty) of the cluster."""

    link: str
    state: State
    evidence: str
    cause: str = ""
    advice: str = ""
    app: str = field(default="")


def broken(cause: str, link: str, evidence: str, values: Mapping[str, Any]) -> Finding:
    """Make the finding of a cause; its advice gets the values."""
    known = CAUSES[cause]
    if link not in known.links:
        raise KeyError(f"{cause} is a cause at {', '.join(known.links)}, not at {link}")
    return Finding(link, "broken", evidence, cause, known.advice.format_map(values))


_AGAIN = "run site.yml with --tags {role} again"

CAUSES: Mapping[str, Cause] = {
    # -- workload
    "namespace_missing": Cause(
        ("workload",),
        "The namespace of the app is not there.",
        "deploy the app, or correct `namespace` of entry {app} in autoscaled_apps",
    ),
    "workload_missing": Cause(
        ("workload",),
        "Nothing of that kind and name is in the namespace.",
        "deploy the app, or correct `workload` of entry {app} in autoscaled_apps",
    ),
    "workload_at_zero": Cause(
        ("workload",),
        "Somebody set its replicas to 0, which switches its autoscaler off.",
        "kubectl --namespace {namespace} scale {workload} --replicas={min}",
    ),
    "image_not_pulled": Cause(
        ("workload",),
        "The image is not on the node, and cannot be fetched.",
        "correct the image's name or tag, give the namespace a pull secret, or bring the image to the nodes",
    ),
    "container_not_created": Cause(
        ("workload",),
        "The kubelet cannot make the container as it is described, mostly for a missing ConfigMap or Secret.",
        "kubectl --namespace {namespace} describe pod {pod}",
    ),
    "crash_loop": Cause(
        ("workload",),
        "The container ends again and again.",
        "kubectl --namespace {namespace} logs {pod} --previous",
    ),
    "pods_refused": Cause(
        ("workload",),
        "The API server refuses its pods: PodSecurity, a webhook, a missing ServiceAccount.",
        "kubectl --namespace {namespace} describe {workload}; correct the pod template as the message says",
    ),
    "quota_exceeded": Cause(
        ("workload",),
        "The namespace's quota lets it have no pod at all.",
        "kubectl --namespace {namespace} describe resourcequota; raise the quota or lower the requests",
    ),
    "unschedulable": Cause(
        ("workload",),
        "No node has room for, or accepts, its pods.",
        "lower the requests, free or add nodes; the message counts the nodes and says what each lacks",
    ),
    "pods_not_ready": Cause(
        ("workload",),
        "Pods run and do not become ready, so nobody sends them requests and the autoscaler leaves them aside.",
        "kubectl --namespace {namespace} describe pod {pod}; kubectl --namespace {namespace} logs {pod}",
    ),
    # -- pods
    "port_name_unknown": Cause(
        ("pods",),
        "No container has a port of the name that is to be scraped.",
        "set `scrape.port` of entry {app} in autoscaled_apps to a name or number that the containers have, "
        "or name the port in the workload; then site.yml with --tags hpa",
    ),
    "container_unknown": Cause(
        ("pods",),
        "The pods have no container of the name whose usage is the metric.",
        "correct `container` of entry {app} in autoscaled_apps; then site.yml with --tags hpa",
    ),
    "request_missing": Cause(
        ("pods",),
        "The target is a percentage of what the container requests, and it requests nothing.",
        "set resources.requests.{resource} of container {container}, or aim at a quantity instead of a percentage",
    ),
    # -- endpoints
    "service_missing": Cause(
        ("endpoints",),
        "The Service to be scraped is not there.",
        "create it, or take `scrape.service` out of entry {app} in autoscaled_apps: pods are scraped then",
    ),
    "service_port_unknown": Cause(
        ("endpoints",),
        "The Service has no port of that name.",
        "set `scrape.port` of entry {app} in autoscaled_apps to a port of Service {service}",
    ),
    "service_without_endpoints": Cause(
        ("endpoints",),
        "The Service's selector finds none of the app's pods, or its target port is in none of their containers.",
        "compare: kubectl --namespace {namespace} describe service {service}; "
        "kubectl --namespace {namespace} get pods --show-labels",
    ),
    "service_lacks_pods": Cause(
        ("endpoints",),
        "The Service leads to some of the app's ready pods only.",
        "compare: kubectl --namespace {namespace} describe service {service}; "
        "kubectl --namespace {namespace} get pods --show-labels",
    ),
    # -- scrape
    "no_prometheus": Cause(
        ("scrape",),
        "Prometheus does not answer: no app has metrics.",
        "kubectl --namespace {prometheus_namespace} get pods; then describe and logs of the one that is not ready; "
        "site.yml with --tags prometheus puts back what was deleted or scaled",
    ),
    "monitor_kind_missing": Cause(
        ("scrape",),
        "The cluster does not know the kind that tells Prometheus what to scrape.",
        "run site.yml with --tags prometheus,hpa",
    ),
    "monitor_missing": Cause(
        ("scrape",),
        "Nothing tells Prometheus to scrape the app.",
        "run site.yml with --tags hpa",
    ),
    "namespace_not_watched": Cause(
        ("scrape",),
        "Prometheus leaves the app's namespace out.",
        "give namespace {namespace} the labels that the selector wants, or put Prometheus back to all namespaces: "
        "site.yml with --tags prometheus",
    ),
    "monitor_not_selected": Cause(
        ("scrape",),
        "Prometheus chooses by labels, and the app's monitor does not have them.",
        "put Prometheus back to all monitors: site.yml with --tags prometheus",
    ),
    "monitor_not_loaded": Cause(
        ("scrape",),
        "The job is described, and Prometheus does not have it (yet): a new one takes up to a minute or two.",
        "run the doctor again in a minute; then look at the logs of the operator and of Prometheus' config-reloader "
        "in namespace {prometheus_namespace}",
    ),
    # -- target
    "monitor_edited": Cause(
        ("target",),
        "Pods are missing among the targets, and the scrape job is not as its entry says.",
        "run site.yml with --tags hpa, which puts it back",
    ),
    "targets_dropped": Cause(
        ("target",),
        "Prometheus finds the pods, and the job's relabeling drops them: they belong to another controller, "
        "or have no container port of that name or number.",
        "compare the pods' controller (kubectl --namespace {namespace} get pods --output yaml, ownerReferences) and "
        "ports with `workload` and `scrape.port` of entry {app}",
    ),
    "target_missing": Cause(
        ("target",),
        "Prometheus has the job and does not find the pods.",
        "look at the job under Status, Service discovery of Prometheus; may its ServiceAccount list pods there?",
    ),
    "target_refused": Cause(
        ("target",),
        "Nothing listens on that port of the pod.",
        "correct `scrape.port` of entry {app} in autoscaled_apps, or let the app listen on all addresses (0.0.0.0)",
    ),
    "target_timed_out": Cause(
        ("target",),
        "No answer in time: a NetworkPolicy or firewall drops the packets, or the app is too slow for the interval.",
        "allow ingress from Prometheus' namespace {prometheus_namespace} to the port; try: "
        "kubectl --namespace {namespace} port-forward {pod} PORT, then curl",
    ),
    "target_unreachable": Cause(
        ("target",),
        "There is no way from Prometheus' node to the pod.",
        "look at the pod network: kubectl get nodes; kubectl --namespace kube-system get pods "
        "--selector k8s-app=flannel --output wide",
    ),
    "target_not_found": Cause(
        ("target",),
        "The app answers, and has nothing at that path.",
        "correct `scrape.path` of entry {app} in autoscaled_apps, then site.yml with --tags hpa",
    ),
    "target_forbidden": Cause(
        ("target",),
        "The app wants to know who asks.",
        "let the metrics be read without login on a port of their own, and set `scrape.port` of entry {app} to it",
    ),
    "target_http_error": Cause(
        ("target",),
        "The app answers with an error of its own.",
        "kubectl --namespace {namespace} logs {pod}",
    ),
    "target_not_metrics": Cause(
        ("target",),
        "What the app serves there is not Prometheus' text format.",
        "correct `scrape.path` or `scrape.port` of entry {app} in autoscaled_apps, then site.yml with --tags hpa",
    ),
    "target_tls": Cause(
        ("target",),
        "One side speaks TLS and the other does not, or the certificate is not trusted.",
        "correct `scrape.scheme` of entry {app} in autoscaled_apps, then site.yml with --tags hpa",
    ),
    "target_down": Cause(
        ("target",),
        "The scrape fails.",
        "kubectl --namespace {namespace} logs {pod}; the error is Prometheus' own",
    ),
    "scraped_twice": Cause(
        ("target",),
        "Two jobs scrape the same address, so every pod counts twice.",
        "remove one of the two: the monitor that came with the app, or the `scrape` of entry {app}",
    ),
    # -- series
    "series_renamed": Cause(
        ("series",),
        "The pods have no such series, but one with a similar name.",
        "set `metric` of entry {app} in autoscaled_apps to the name that the app has, then site.yml with --tags hpa",
    ),
    "series_absent": Cause(
        ("series",),
        "The app is scraped and has no such series. Many libraries show a counter only after its first event.",
        "let the app make the counter at its start, with value 0; or correct `metric` of entry {app}",
    ),
    "series_incomplete": Cause(
        ("series",),
        "Some pods have the series and some do not: their counter is not there before its first event.",
        "let the app make the counter at its start, with value 0",
    ),
    "series_stale": Cause(
        ("series",),
        "Pods had the series and do not show it any more.",
        "kubectl --namespace {namespace} logs {pod}; did the app restart and count anew?",
    ),
    "series_unlabelled": Cause(
        ("series",),
        "The series is there without the labels that say whose it is (namespace and pod, or the object's).",
        "keep these labels in the job that scrapes it (site.yml with --tags hpa makes one that does), or name those "
        "that it has: `labels` of entry {app}",
    ),
    # -- discovered
    "rule_missing": Cause(
        ("discovered",),
        "No rule of the adapter makes the metric.",
        "run site.yml with --tags prometheus_adapter,hpa",
    ),
    "adapter_not_restarted": Cause(
        ("discovered",),
        "The adapter reads its rules at its start only, and they are newer.",
        "kubectl --namespace custom-metrics rollout restart deployment prometheus-adapter",
    ),
    "metric_not_listed": Cause(
        ("discovered",),
        "The adapter has the rule and does not list the metric: its look for series "
        "(`prometheus_adapter_relist_interval`, 10 s by default) fails or found none.",
        "run the doctor again in half a minute; then kubectl --namespace custom-metrics logs deployment/"
        "prometheus-adapter",
    ),
    # -- apiservice
    "api_not_registered": Cause(
        ("apiservice",),
        "Nobody serves the API.",
        _AGAIN,
    ),
    "api_of_others": Cause(
        ("apiservice", "owners"),
        "The API leads to a server that is not the one of this collection.",
        "decide for one owner: `{role}_state: absent` leaves it to them, `{role}_adopt: true` takes it over",
    ),
    "api_unverified": Cause(
        ("apiservice", "owners"),
        "Anybody in the path could answer in the server's place.",
        _AGAIN + ", which registers it with its CA",
    ),
    "server_down": Cause(
        ("apiservice",),
        "The API has no running server.",
        "kubectl --namespace {server_namespace} describe pods; site.yml with --tags {role} puts back what was "
        "deleted or scaled",
    ),
    "certificate_expired": Cause(
        ("apiservice",),
        "The server's certificate is over, or has not begun.",
        _AGAIN + ", which makes a new one",
    ),
    "ca_bundle_wrong": Cause(
        ("apiservice",),
        "The API server does not trust the CA that signed the server's certificate.",
        _AGAIN,
    ),
    "certificate_misnamed": Cause(
        ("apiservice",),
        "The server's certificate is for other names than the one it is asked by.",
        _AGAIN + ", which makes a new one",
    ),
    "api_unavailable": Cause(
        ("apiservice",),
        "The API server cannot use the API, although its server runs: mostly the way from API server to pod.",
        "kubectl describe apiservice {api}; does a NetworkPolicy, firewall or HTTP proxy (NO_PROXY) stand between?",
    ),
    "adapter_asks_elsewhere": Cause(
        ("apiservice",),
        "The adapter asks a Prometheus that is not there.",
        "correct prometheus_adapter_prometheus_url, then site.yml with --tags prometheus_adapter",
    ),
    # -- values
    "value_missing": Cause(
        ("values",),
        "The API lists the metric and has no value of it.",
        "ask yourself: kubectl get --raw '{path}'; then kubectl --namespace {server_namespace} logs service/{server}",
    ),
    "values_incomplete": Cause(
        ("values",),
        "Pods without a value count as 0 on the way up and as on target on the way down.",
        "ask yourself: kubectl get --raw '{path}'",
    ),
    # -- hpa
    "autoscaler_missing": Cause(
        ("hpa",),
        "There is no autoscaler for the app.",
        "run site.yml with --tags hpa",
    ),
    "autoscaler_edited": Cause(
        ("hpa",),
        "The autoscaler is not what its entry says: edited by hand, or the entry changed since the last run.",
        "take the edit into entry {app} of autoscaled_apps, or run site.yml with --tags hpa, which puts it back",
    ),
    "autoscaler_rival": Cause(
        ("hpa",),
        "Two autoscalers set the replicas of one workload.",
        "remove one: kubectl --namespace {namespace} delete horizontalpodautoscaler {rival}",
    ),
    "autoscaler_unable": Cause(
        ("hpa",),
        "The autoscaler cannot read or set the workload's replicas.",
        "kubectl --namespace {namespace} describe horizontalpodautoscaler {app}",
    ),
    "autoscaler_blind": Cause(
        ("hpa",),
        "The autoscaler has no metric. It looks every 15 s: right after a repair this may be of before.",
        "kubectl --namespace {namespace} describe horizontalpodautoscaler {app}",
    ),
    # -- limits
    "max_reached": Cause(
        ("limits",),
        "The metric asks for more replicas than the entry allows.",
        "raise `replicas.max` of entry {app} in autoscaled_apps, or its target",
    ),
    "size_fixed": Cause(
        ("limits",),
        "Fewest and most replicas are the same number.",
        "set `replicas` of entry {app} in autoscaled_apps to a range",
    ),
    "scale_up_disabled": Cause(
        ("limits",),
        "Its behavior forbids the way up.",
        "take `selectPolicy: Disabled` out of `behavior.scaleUp` of entry {app}",
    ),
    "quota_reached": Cause(
        ("limits",),
        "The namespace's quota lets it have some pods, and not those it wants.",
        "kubectl --namespace {namespace} describe resourcequota; raise the quota or lower the requests",
    ),
    "no_room": Cause(
        ("limits",),
        "No node has room for, or accepts, the pods it wants.",
        "add nodes, lower the requests, or lower `replicas.max` of entry {app}",
    ),
    # -- the cluster
    "certificate_ending": Cause(
        ("certificates",),
        "A certificate ends soon.",
        "{renewal}",
    ),
    "kubelet_certificate_waiting": Cause(
        ("certificates",),
        "A kubelet waits for its serving certificate: metrics-server cannot verify it, logs and exec fail.",
        "kubectl get csr; run site.yml with --tags control_plane,worker, which approves requests for own names",
    ),
    "controller_clock_off": Cause(
        ("clock",),
        "The clock of this machine and that of the API server differ.",
        "set the clock of both by network time: timedatectl set-ntp true",
    ),
    "node_clock_off": Cause(
        ("clock",),
        "The clock of a node differs: certificates may seem not valid, and what it logs fits nothing else.",
        "set the clock of the node by network time: timedatectl set-ntp true",
    ),
    "target_without_request": Cause(
        ("requests",),
        "An autoscaler aims at a percentage of what containers request, and they request nothing.",
        "set resources.requests of the containers named",
    ),
}
