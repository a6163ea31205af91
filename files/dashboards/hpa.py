"""Every autoscaler: what it wants, what it gets, what limits it, and how old the figures are that it decides on."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import Query, choice, good_when, lines, new_dashboard, number, repeated, rows_of, truths

KEY = "namespace, horizontalpodautoscaler"
CHOSEN = 'namespace=~"$namespace", horizontalpodautoscaler=~"$autoscaler"'
# An app is scraped by a job of the autoscaler's name.
SCRAPED = 'namespace=~"$namespace", job=~"$autoscaler"'
NOT_SCRAPED = "No scrape job has this autoscaler's name: it scales on resources or on something outside of its pods."


def of(series: str, *labels: str) -> str:
    """One value per autoscaler, of a series of kube-state-metrics about it."""
    return f"max by ({KEY}) (kube_horizontalpodautoscaler_{series}{{{', '.join((CHOSEN, *labels))}}})"


def condition(name: str) -> str:
    return of("status_condition", f'condition="{name}"', 'status="true"')


WANTED = of("status_desired_replicas")
STARTED = of("status_current_replicas")
LEAST = of("spec_min_replicas")
MOST = of("spec_max_replicas")
METRIC = f"{KEY}, metric_name, metric_target_type"
# By its target, for each metric that it scales on: from 110 % on it adds pods, the metric that asks for most decides.
LOAD = (
    f"max by ({METRIC}) (kube_horizontalpodautoscaler_status_target_metric{{{CHOSEN}}})"
    f" / max by ({METRIC}) (kube_horizontalpodautoscaler_spec_target_metric{{{CHOSEN}}} > 0)"
)
ASKED = f"ceil(max by ({KEY}) ({LOAD}) * on ({KEY}) {STARTED})"


def ready_of(kind: str) -> str:
    """Ready replicas of the workloads of one kind that autoscalers scale."""
    ready = f'kube_{kind.lower()}_status_replicas_ready{{namespace=~"$namespace"}}'
    named = f'label_join(max by (namespace, {kind.lower()}) ({ready}), "scaletargetref_name", "", "{kind.lower()}")'
    scaled = f'kube_horizontalpodautoscaler_info{{{CHOSEN}, scaletargetref_kind="{kind}"}}'
    return (
        f"max by ({KEY}) (max by ({KEY}, scaletargetref_name) ({scaled})"
        f" * on (namespace, scaletargetref_name) group_left () {named})"
    )


READY = f"({ready_of('Deployment')} or {ready_of('StatefulSet')})"


def by_autoscaler(expr: str) -> str:
    """Something about scrape targets, under the name of the autoscaler that their job is named after."""
    named = f'label_join({expr}, "horizontalpodautoscaler", "", "job")'
    return f"max by ({KEY}) ({named}) and on ({KEY}) {WANTED}"


AGE = f"time() - timestamp(up{{{SCRAPED}}})"
BETWEEN = f"60 / count_over_time(up{{{SCRAPED}}}[1m])"
# The servers of the metrics APIs count and time their own answers.
METRIC_APIS = 'group=~"(custom[.]|external[.])?metrics[.]k8s[.]io", job=~"prometheus-adapter|metrics-server"'
UNKNOWN_CA = (
    "Neither adapter nor metrics-server is scraped, as on a cluster that existed before: no pod knows their CA."
)


def within(share: float, histogram: str, labels: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by}) (rate({histogram}_bucket{{{labels}}}[$window])))"


def add_all_of_them(page: dashboard.Dashboard) -> None:
    """Add the row "All of them"."""
    page.with_row(dashboard.Row("All of them"))
    page.with_panel(number("Autoscalers", f"count({WANTED})"))
    page.with_panel(
        good_when(
            number(
                "Cannot read a metric",
                f"count({condition('ScalingActive')} == 0) or vector(0)",
                why="ScalingActive is not true. An app at zero replicas counts as well.",
            ),
            1,
        )
    )
    page.with_panel(good_when(number("At the maximum", f"sum({WANTED} >= bool {MOST})"), 1))
    page.with_panel(
        number(
            "Limited", f"sum({condition('ScalingLimited')})", why="Would go beyond its bounds, or faster than allowed."
        )
    )
    page.with_panel(
        number("Pods wanted, not ready", f"sum(clamp_min({WANTED} - {READY}, 0))", why="Of all autoscaled workloads.")
    )
    page.with_panel(number("Most load", f"max({LOAD})", "percentunit", why="Against its target, of all metrics."))
    page.with_panel(
        rows_of(
            "Autoscalers now",
            {
                "namespace": "Namespace",
                "horizontalpodautoscaler": "Autoscaler",
                "Value #A": "Wants",
                "Value #B": "Ready",
                "Value #C": "Least",
                "Value #D": "Most",
                "Value #E": "Load (% of target)",
                "Value #F": "Reads its metrics",
                "Value #G": "Limited",
                "Value #H": "Targets up",
                "Value #I": "Age of samples (s)",
            },
            Query(WANTED),
            Query(READY),
            Query(LEAST),
            Query(MOST),
            Query(f"100 * max by ({KEY}) ({LOAD})"),
            Query(condition("ScalingActive")),
            Query(condition("ScalingLimited")),
            Query(by_autoscaler(f"sum by (namespace, job) (up{{{SCRAPED}}})")),
            Query(by_autoscaler(AGE)),
        )
    )


def add_autoscaler(page: dashboard.Dashboard) -> None:
    """Add the row "$autoscaler"."""
    page.with_row(repeated("$autoscaler", "autoscaler"))
    page.with_panel(
        lines(
            "What it wants, what it gets",
            Query(ASKED, "the load asks for"),
            Query(WANTED, "wanted"),
            Query(STARTED, "started"),
            Query(READY, "ready"),
            Query(LEAST, "least"),
            Query(MOST, "most"),
            stairs=True,
            why="What the load asks for is without tolerance, bounds and waiting: the difference is what they do.",
        )
    )
    page.with_panel(
        lines(
            "Load against target",
            Query(LOAD, "{{metric_name}} ({{metric_target_type}})"),
            Query(f"0 * {WANTED} + 1", "target"),
            unit="percentunit",
            why="As the autoscaler read it. Pods are added above 110 % and taken away below 90 %.",
        )
    )
    page.with_panel(
        truths(
            "Conditions",
            Query(
                f'max by (condition) (kube_horizontalpodautoscaler_status_condition{{{CHOSEN}, status="true"}})',
                "{{condition}}",
            ),
            why="AbleToScale and ScalingActive should be true. ScalingLimited says that a bound or a policy holds it.",
        )
    )
    page.with_panel(
        truths(
            "Why it stays where it is",
            Query(f"1 - {condition('ScalingActive')}", "cannot read a metric"),
            Query(f"1 - {condition('AbleToScale')}", "cannot scale its workload"),
            Query(f"{ASKED} > bool {MOST}", "would need more than its maximum"),
            Query(f"{WANTED} >= bool {MOST}", "is at its maximum"),
            Query(f"{WANTED} <= bool {LEAST}", "is at its minimum"),
            Query(f"{ASKED} < bool {WANTED}", "could do with fewer, waits or is at its minimum"),
            Query(f"{WANTED} > bool {READY}", "waits for pods to be ready"),
        )
    )


def add_metrics_of_autoscaler(page: dashboard.Dashboard) -> None:
    """Add the metrics and bounds to the row of an autoscaler."""
    page.with_panel(
        lines(
            "Metrics: read and target",
            Query(
                f"max by ({METRIC}) (kube_horizontalpodautoscaler_status_target_metric{{{CHOSEN}}})",
                "{{metric_name}} ({{metric_target_type}}) read",
            ),
            Query(
                f"max by ({METRIC}) (kube_horizontalpodautoscaler_spec_target_metric{{{CHOSEN}}})",
                "{{metric_name}} ({{metric_target_type}}) target",
            ),
        )
    )
    page.with_panel(
        lines(
            "Time at its bounds",
            Query(f"avg_over_time(({WANTED} >= bool {MOST})[15m:5s])", "at the maximum"),
            Query(f"avg_over_time(({WANTED} <= bool {LEAST})[15m:5s])", "at the minimum"),
            unit="percentunit",
            why="Share of the 15 minutes before. Always at the maximum: raise it, or the app's pods are too small.",
        )
    )


def add_scrapes_of_autoscaler(page: dashboard.Dashboard) -> None:
    """Add its scrapes to the row of an autoscaler."""
    page.with_panel(
        lines(
            "Age of its samples",
            Query(f"max by (namespace, job) ({AGE})", "oldest sample"),
            Query(f"max by (namespace, job) ({BETWEEN})", "between two scrapes"),
            unit="s",
            nothing=NOT_SCRAPED,
            why="The autoscaler, which looks every 15 s, cannot know anything newer.",
        )
    )
    page.with_panel(
        lines(
            "Duration of a scrape",
            Query(f"max by (namespace, job) (scrape_duration_seconds{{{SCRAPED}}})", "slowest pod"),
            Query(f"avg by (namespace, job) (scrape_duration_seconds{{{SCRAPED}}})", "on average"),
            unit="s",
            nothing=NOT_SCRAPED,
        )
    )
    page.with_panel(
        lines(
            "Targets",
            Query(f"sum by (namespace, job) (up{{{SCRAPED}}})", "up"),
            Query(f"count by (namespace, job) (up{{{SCRAPED}}})", "known"),
            nothing=NOT_SCRAPED,
            stairs=True,
        )
    )
    page.with_panel(
        lines(
            "Changes of mind in 15 minutes",
            Query(
                f"max by ({KEY}) (changes(kube_horizontalpodautoscaler_status_desired_replicas{{{CHOSEN}}}[15m]))",
                "changes",
            ),
            stairs=True,
            why="How often it wanted another number of replicas. Many, up and down: it flaps.",
        )
    )


def add_the_way_of_a_metric(page: dashboard.Dashboard) -> None:
    """Add the row "The way of a metric"."""
    page.with_row(dashboard.Row("The way of a metric"))
    page.with_panel(
        truths(
            "Metric APIs are available",
            Query('1 - max by (name) (aggregator_unavailable_apiservice{name=~".+[.]metrics[.]k8s[.]io"})', "{{name}}"),
            why="As the API server sees what it passes questions on to.",
        )
    )
    page.with_panel(
        lines(
            "Metric APIs: 95 of 100 answers within",
            Query(
                within(0.95, "apiserver_request_duration_seconds", METRIC_APIS, ", job, group"),
                "{{job}}: {{group}}",
            ),
            unit="s",
            nothing=UNKNOWN_CA,
            why="As the adapter and metrics-server measure them. The autoscaler asks each of them every 15 s.",
        )
    )
    page.with_panel(
        lines(
            "Metric APIs: answers by status",
            Query(
                f"sum by (job, code) (rate(apiserver_request_total{{{METRIC_APIS}}}[$window]))",
                "{{job}}: {{code}}",
            ),
            unit="reqps",
            nothing=UNKNOWN_CA,
            why="404: no value for this metric. 503: what is behind it does not answer.",
        )
    )
    page.with_panel(
        lines(
            "Prometheus: 95 of 100 answers within",
            Query(
                within(
                    0.95, "prometheus_http_request_duration_seconds", 'handler=~"/api/v1/(query|series)"', ", handler"
                ),
                "{{handler}}",
            ),
            unit="s",
            why="Query: a value for the autoscaler. Series: the adapter looks which metrics there are.",
        )
    )
    page.with_panel(
        lines(
            "Resource metrics: age",
            Query("time() - max by (node) (metrics_server_kubelet_last_request_time_seconds)", "{{node}}"),
            unit="s",
            nothing="metrics-server is not scraped, or somebody else serves metrics.k8s.io.",
            why="Since metrics-server asked a kubelet for CPU and memory of its pods.",
        )
    )


def build() -> dashboard.Dashboard:
    page = new_dashboard(
        "kubescale-hpa",
        "Autoscalers",
        "Desired and ready pods of each autoscaler, its limits, and the age of its samples.",
    )
    page.with_variable(choice("namespace", "Namespace", "kube_horizontalpodautoscaler_info", "namespace"))
    page.with_variable(
        choice(
            "autoscaler",
            "Autoscaler",
            'kube_horizontalpodautoscaler_info{namespace=~"$namespace"}',
            "horizontalpodautoscaler",
        )
    )
    add_all_of_them(page)
    add_autoscaler(page)
    add_metrics_of_autoscaler(page)
    add_scrapes_of_autoscaler(page)
    add_the_way_of_a_metric(page)
    return page
