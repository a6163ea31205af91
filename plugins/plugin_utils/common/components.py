# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The components that playbooks apply to a cluster, in their order, and which of them a cluster has.

`make docs` writes the files of playbooks/tasks/ and docs/components.md from this list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ansible.module_utils.common.validation import check_type_list
from ansible.module_utils.parsing.convert_bool import boolean

OPERATOR, STANDALONE = "operator", "standalone"
#: Name of Prometheus' service by flavour.
PROMETHEUS_SERVICES = {OPERATOR: "prometheus-k8s", STANDALONE: "prometheus"}


@dataclass(frozen=True)
class Component:
    """One component. Its role's name is also its tag, and its state is the variable `<role>_state`."""

    role: str
    #: The name that people know it by.
    title: str
    #: The playbook that applies it alone. `last` means the end of metrics.yml, and in site.yml the end of all.
    part: str
    #: Namespace of its pods; empty if the cluster's variables decide, or if it has none.
    namespace: str = ""
    #: Pod Security level of that namespace, which objects of other components may share.
    level: str = "restricted"
    #: Tags that run it, besides its own.
    more_tags: tuple[str, ...] = ()
    #: API groups that it may serve.
    serves: tuple[str, ...] = ()
    #: A Prometheus without operator has a job for it; others carry an annotation, or have nothing to scrape.
    has_job: bool = False
    #: Flavour of Prometheus for which it has this place in the order; empty means all.
    flavor: str = ""

    @property
    def tags(self) -> list[str]:
        """The tags that run it."""
        return [self.role, *self.more_tags]


COMPONENTS = (
    Component("cni", "the pod network", "cluster", "kube-system"),
    # The operator comes before all components that bring objects of its kinds.
    Component("prometheus", "Prometheus", "metrics", "monitoring", flavor=OPERATOR, serves=("monitoring.coreos.com",)),
    Component("metrics_server", "metrics-server", "metrics", "kube-system", serves=("metrics.k8s.io",), has_job=True),
    Component("node_exporter", "node_exporter", "metrics", "node-exporter", "privileged", has_job=True),
    Component("kube_state_metrics", "kube-state-metrics", "metrics", "monitoring", has_job=True),
    Component("alertmanager", "Alertmanager", "metrics", "monitoring"),
    # The metrics of autoscalers are the adapter's rules, so the tag hpa runs it, too.
    Component(
        "prometheus_adapter",
        "prometheus-adapter",
        "metrics",
        "custom-metrics",
        more_tags=("hpa",),
        serves=("metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"),
        has_job=True,
    ),
    Component("grafana", "Grafana", "metrics", "monitoring"),
    Component("demo_app", "the demo app", "apps", "demo"),
    Component("sample_apps", "sample apps", "apps"),
    Component("hpa", "autoscalers", "apps"),
    # This flavour removes the operator with its kinds, so all components that used them come before it.
    Component("prometheus", "Prometheus without operator", "last", "prom", flavor=STANDALONE),
)

#: The roles, in the order of the first place of each.
ROLES = tuple(dict.fromkeys(component.role for component in COMPONENTS))
#: Roles that run on machines, with their group of machines. All other roles talk to the API only.
MACHINE_ROLES = {"node_prep": "nodes", "control_plane": "control_plane", "worker": "workers"}
#: Namespace of each role's pods, and that of Prometheus by its flavour.
NAMESPACES = {component.flavor or component.role: component.namespace for component in COMPONENTS}


class Cluster(NamedTuple):
    """The decisions of a cluster's variables, with the defaults of all roles."""

    #: How Prometheus is run: `operator` or `standalone`.
    flavor: str
    #: The flavour, or an empty text if the collection runs no Prometheus.
    prometheus: str
    #: Host name of Prometheus inside the cluster, whether it is there or not.
    prometheus_host: str
    #: Seconds between two scrapes of a target whose monitor names no interval.
    scrape_interval: int
    high_availability: bool
    #: Role that serves metrics.k8s.io.
    resource_metrics: str
    #: Whether prometheus-adapter serves external.metrics.k8s.io.
    external_metrics: bool
    #: Roles that take over objects of other owners.
    adopt: list[str]
    #: Roles of the components that the cluster has.
    present: list[str]
    #: Those of them for which a Prometheus without operator has a job.
    jobs: list[str]
    #: Those of them that have a monitor of the Prometheus operator.
    monitors: list[str]
    #: Namespace of each role's pods, as `shared_namespaces` of `apply_set` takes it.
    namespaces: dict[str, dict[str, Any]]


def describe_cluster(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Cluster:
    """Return what the variables of a cluster decide; ``template`` resolves a value."""

    def value(name: str, default: object) -> Any:  # noqa: ANN401
        return template(variables[name]) if name in variables else default

    flavor = str(value("prometheus_flavor", OPERATOR))
    mine = [component for component in COMPONENTS if component.flavor in ("", flavor)]
    present = [component.role for component in mine if value(f"{component.role}_state", "present") == "present"]
    by_adapter = value("resource_metrics_owner", "metrics_server") == "adapter"
    if by_adapter and "metrics_server" in present:
        present.remove("metrics_server")
    # On a cluster that existed before, certificates of aggregated APIs have a CA that no pod knows.
    existing = value("cluster_existing", False)
    jobs = [one.role for one in mine if one.role in present and one.has_job and not (existing and one.serves)]
    prometheus = flavor if "prometheus" in present else ""
    return Cluster(
        flavor=flavor,
        prometheus=prometheus,
        prometheus_host=f"{PROMETHEUS_SERVICES[flavor]}.{NAMESPACES[flavor]}.svc",
        scrape_interval=int(value("prometheus_scrape_interval", 15)),
        high_availability=boolean(value("high_availability", False), strict=False),
        resource_metrics="prometheus_adapter" if by_adapter else "metrics_server",
        external_metrics=value("external_metrics_owner", "adapter") == "adapter",
        adopt=check_type_list(value("adopt", [])),
        present=present,
        jobs=jobs,
        monitors=jobs if prometheus == OPERATOR else [],
        namespaces={
            component.role: {
                "name": component.namespace,
                "labels": {"pod-security.kubernetes.io/enforce": component.level},
            }
            for component in mine
            if component.namespace
        },
    )
