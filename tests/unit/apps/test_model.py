"""Entries of autoscaled_apps: what is made of them, and what is said about those that are wrong."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.kubescale.fleet.plugins.filter.adapter_config import adapter_config as adapter_config_filter
from ansible_collections.kubescale.fleet.plugins.filter.app_objects import app_objects as app_objects_filter
from ansible_collections.kubescale.fleet.plugins.filter.namespaces_of import namespaces_of
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps import model as apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps import promql
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import AppError, Source

SIX_LINES = """
- name: shop
  namespace: shop
  workload: deployment/shop
  scrape: {port: web}
  scale_on: {metric: http_requests_total, target: 10}
  replicas: {min: 1, max: 20}
"""
BY_POD = {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}


def entry(**changes: Any) -> dict[str, Any]:
    """The entry of six lines with other values; a path such as scrape__port goes into it, None takes a key out."""
    (made,) = yaml.safe_load(SIX_LINES)
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(key)
        else:
            place[key] = value
    return made


def scaled_on(**item: Any) -> dict[str, Any]:
    return entry(scale_on={"target": "500m", **item})


def metric(**item: Any) -> apps.Metric:
    (app,) = apps.parse_apps([scaled_on(**item)])
    return app.metrics[0]


def errors(*entries: Any, rules: Any = ()) -> list[str]:
    return apps.examine_apps(entries, additional=rules).errors


def warnings(*entries: Any) -> list[str]:
    findings = apps.examine_apps(entries)
    assert findings.errors == []
    return findings.warnings


# -- what is made of an entry --


def test_six_lines_become_a_monitor_a_rule_and_an_autoscaler() -> None:
    parsed = apps.parse_apps(yaml.safe_load(SIX_LINES))
    monitor, autoscaler, alerts = apps.app_objects(parsed)
    assert alerts["kind"] == "PrometheusRule"
    assert monitor["kind"] == "PodMonitor"
    assert monitor["metadata"] == {
        "name": "shop",
        "namespace": "shop",
        "labels": {"app.kubernetes.io/name": "shop"},
    }
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert {key: endpoint[key] for key in ("port", "path", "scheme", "interval")} == {
        "port": "web",
        "path": "/metrics",
        "scheme": "http",
        "interval": "5s",
    }
    assert monitor["spec"]["selector"] == {}
    assert endpoint["relabelings"][1] == {"targetLabel": "job", "replacement": "shop"}
    assert autoscaler["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
        "minReplicas": 1,
        "maxReplicas": 20,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "http_requests_per_second"},
                    "target": {"type": "AverageValue", "averageValue": "10"},
                },
            }
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 20, "periodSeconds": 15}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
        },
    }
    assert apps.adapter_config(parsed) == {
        "rules": [
            {
                "seriesQuery": 'http_requests_total{namespace!="",pod!=""}',
                "resources": {"overrides": BY_POD},
                "name": {"matches": "^http_requests_total$", "as": "http_requests_per_second"},
                "metricsQuery": "sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s])) by (<<.GroupBy>>)",
            }
        ],
        "externalRules": [],
    }


def test_the_least_that_an_entry_needs() -> None:
    (app,) = apps.parse_apps([entry(scrape=None, replicas=None)])
    assert (app.scrape, app.min_replicas, app.max_replicas, app.alerts) == (None, 1, 10, True)
    assert [item["kind"] for item in apps.app_objects([app])] == ["HorizontalPodAutoscaler", "PrometheusRule"]
    (app,) = apps.parse_apps([entry(scrape=None, alerts=False)])
    assert [item["kind"] for item in apps.app_objects([app])] == ["HorizontalPodAutoscaler"]


def test_filters_read_entries() -> None:
    entries = yaml.safe_load(SIX_LINES)
    assert app_objects_filter(entries) == apps.app_objects(apps.parse_apps(entries))
    assert adapter_config_filter(entries) == apps.adapter_config(apps.parse_apps(entries))
    assert namespaces_of(app_objects_filter(entries)) == [{"name": "shop"}]
    for read in (app_objects_filter, adapter_config_filter):
        with pytest.raises(AnsibleFilterError, match="name: is missing"):
            read([entry(name=None)])


def test_without_prometheus_nothing_says_how_to_scrape() -> None:
    assert [item["kind"] for item in apps.app_objects(apps.parse_apps([entry()]), flavor="")] == [
        "HorizontalPodAutoscaler"
    ]


@pytest.mark.parametrize(
    ("workload", "kept", "left"),
    [
        ("deployment/shop", ["ReplicaSet/shop-5d4f"], ["ReplicaSet/shop-cart-5d4f", "StatefulSet/shop"]),
        ("StatefulSet/shop", ["StatefulSet/shop"], ["StatefulSet/shop-db", "ReplicaSet/shop-5d4f"]),
        ("replicaset/shop", ["ReplicaSet/shop"], ["ReplicaSet/shop-5d4f"]),
    ],
)  # fmt: skip
def test_pods_of_the_workload_are_scraped_and_no_others(workload: str, kept: list[str], left: list[str]) -> None:
    (app,) = apps.parse_apps([entry(workload=workload)])
    pattern = apps.app_objects([app])[0]["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["regex"]
    assert all(re.fullmatch(pattern, controller) for controller in kept)
    assert not any(re.fullmatch(pattern, controller) for controller in left)


def test_ports_by_number_and_services() -> None:
    (app,) = apps.parse_apps([entry(scrape={"port": "8080", "path": "/m", "interval": 10, "scheme": "https"})])
    (endpoint,) = apps.app_objects([app])[0]["spec"]["podMetricsEndpoints"]
    assert (endpoint["portNumber"], endpoint["path"], endpoint["interval"]) == (8080, "/m", "10s")
    assert endpoint["scheme"] == "https"
    (app,) = apps.parse_apps([entry(scrape__service="shop-metrics")])
    monitor = apps.app_objects([app])[0]
    assert monitor["kind"] == "ServiceMonitor"
    assert monitor["spec"]["endpoints"][0]["relabelings"][0] == {
        "action": "keep",
        "sourceLabels": ["__meta_kubernetes_service_name"],
        "regex": "shop\\-metrics",
    }


@pytest.mark.parametrize(
    ("item", "name", "query"),
    [
        ({"metric": "a_total"}, "a_per_second", "sum(rate(a_total{M}[60s])) by (pod)"),
        ({"metric": "a_count", "window": 40}, "a_count_per_second", "sum(rate(a_count{M}[40s])) by (pod)"),
        ({"metric": "a_total", "function": "irate"}, "a_per_second", "sum(irate(a_total{M}[60s])) by (pod)"),
        ({"metric": "a"}, "a", "sum(a{M}) by (pod)"),
        ({"metric": "a", "function": "rate", "as": "b"}, "b", "sum(rate(a{M}[60s])) by (pod)"),
        (
            {"metric": "a_bucket"},
            "a_p95",
            "histogram_quantile(0.95, sum(rate(a_bucket{M}[60s])) by (le, pod)) >= 0"
            " or sum(rate(a_bucket{M}[60s])) by (pod) * 0",
        ),
        ({"metric": "a_bucket", "quantile": 0.999}, "a_p99_9", None),
        (
            {"metric": "a_sum", "over": "a_count"},
            "a_sum_over_a_count",
            "sum(rate(a_sum{M}[60s])) by (pod) / (sum(rate(a_count{M}[60s])) by (pod) > 0)"
            " or (sum(rate(a_sum{M}[60s])) by (pod) == 0)",
        ),
        (
            {"metric": "busy", "over": "workers"},
            "busy_over_workers",
            "sum(busy{M}) by (pod) / (sum(workers{M}) by (pod) > 0) or (sum(busy{M}) by (pod) == 0)",
        ),
        (
            {"metric": "a", "query": "max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)", "as": "b"},
            "b",
            "max(a{M}) by (pod)",
        ),
        ({"metric": "queue", "external": True}, "queue", "sum(queue{M})"),
        ({"metric": "sent_total", "external": True}, "sent_per_second", "sum(rate(sent_total{M}[60s]))"),
        (
            {"metric": "a_bucket", "external": True},
            "a_p95",
            "histogram_quantile(0.95, sum(rate(a_bucket{M}[60s])) by (le)) >= 0 or sum(rate(a_bucket{M}[60s])) * 0",
        ),
    ],
)
def test_kinds_of_series(item: dict[str, Any], name: str, query: str | None) -> None:
    made = metric(**item)
    assert made.name == name
    expanded = promql.expand(made.query, made.series, {}, "pod").replace("{}", "{M}")
    assert query in (None, expanded)
    assert (name in str(apps.adapter_config(apps.parse_apps([scaled_on(**item)])))) is True


@pytest.mark.parametrize(
    ("item", "spec"),
    [
        (
            {"metric": "q", "object": "ingress/shop", "labels": {"ingress": "exported_ingress"}},
            {
                "type": "Object",
                "object": {
                    "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "shop"},
                    "metric": {"name": "q"},
                    "target": {"type": "AverageValue", "averageValue": "500m"},
                },
            },
        ),
        (
            {"metric": "q", "object": "service/shop", "target_type": "value", "selector": {"code": 500}},
            {
                "type": "Object",
                "object": {
                    "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "shop"},
                    "metric": {"name": "q", "selector": {"matchLabels": {"code": "500"}}},
                    "target": {"type": "Value", "value": "500m"},
                },
            },
        ),
        (
            {"metric": "q", "external": True, "selector": {"queue": "orders"}, "target": 30},
            {
                "type": "External",
                "external": {
                    "metric": {"name": "q", "selector": {"matchLabels": {"queue": "orders"}}},
                    "target": {"type": "AverageValue", "averageValue": "30"},
                },
            },
        ),
        (
            {"resource": "cpu", "target": "60%"},
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            },
        ),
        (
            {"resource": "memory", "target": "50Mi", "container": "web"},
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": "memory",
                    "container": "web",
                    "target": {"type": "AverageValue", "averageValue": "50Mi"},
                },
            },
        ),
    ],
)  # fmt: skip
def test_kinds_of_metrics(item: dict[str, Any], spec: dict[str, Any]) -> None:
    assert apps.metric_spec(metric(**item)) == spec


def test_an_object_is_found_by_its_own_label() -> None:
    parsed = apps.parse_apps([scaled_on(metric="q", object="ingress/shop", labels={"ingress": "exported_ingress"})])
    (rule,) = apps.adapter_config(parsed)["rules"]
    assert rule["seriesQuery"] == 'q{exported_ingress!="",namespace!=""}'
    assert rule["resources"]["overrides"] == {
        "exported_ingress": {"group": "networking.k8s.io", "resource": "ingress"},
        "namespace": {"resource": "namespace"},
    }


def test_an_external_metric_belongs_to_no_namespace() -> None:
    config = apps.adapter_config(apps.parse_apps([scaled_on(metric="q", external=True)]))
    assert config["rules"] == []
    assert config["externalRules"][0]["resources"] == {"namespaced": False}
    assert config["externalRules"][0]["seriesQuery"] == "q"


def test_resources_need_no_rule() -> None:
    config = apps.adapter_config(apps.parse_apps([scaled_on(resource="cpu", target="60%")]))
    assert config == {"rules": [], "externalRules": []}


def test_several_metrics_in_one_entry() -> None:
    (app,) = apps.parse_apps([entry(scale_on=[{"resource": "cpu", "target": "30%"}, {"metric": "q", "target": 3}])])
    assert [item["type"] for item in apps.autoscaler(app)["spec"]["metrics"]] == ["Resource", "Pods"]
    assert [item.path for item in app.metrics] == ["scale_on[0]", "scale_on[1]"]


def test_behavior_is_laid_over_the_defaults() -> None:
    given = {
        "scaleDown": {"stabilizationWindowSeconds": 30, "tolerance": 0.05},
        "scaleUp": {"selectPolicy": "Disabled"},
    }
    (app,) = apps.parse_apps([entry(behavior=given)])
    assert app.behavior["scaleDown"] == {**apps.SCALE_DOWN, "stabilizationWindowSeconds": 30, "tolerance": "0.05"}
    assert app.behavior["scaleUp"]["selectPolicy"] == "Disabled"
    assert app.behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 20, "periodSeconds": 15}]


def test_apps_may_share_a_rule() -> None:
    other = entry(name="other", namespace="other")
    namespace = entry(name="third", workload="deployment/third", scale_on__object="namespace/shop")
    (rule,) = apps.adapter_config(apps.parse_apps([entry(), other, namespace]))["rules"]
    assert rule["resources"]["overrides"] == BY_POD
    # What the namespace is asked for counts series of no pod, too.
    assert rule["seriesQuery"] == 'http_requests_total{namespace!=""}'


def test_a_metric_may_have_the_same_name_inside_and_outside() -> None:
    config = apps.adapter_config(
        apps.parse_apps(
            [entry(scale_on=[{"metric": "q", "target": 1}, {"metric": "q", "external": True, "target": 1}])]
        )
    )
    assert [len(config[key]) for key in ("rules", "externalRules")] == [1, 1]


def test_nothing_to_zero_is_allowed_where_something_else_counts() -> None:
    (app,) = apps.parse_apps([entry(replicas__min=0, scale_on={"metric": "q", "external": True, "target": 3})])
    assert apps.autoscaler(app)["spec"]["minReplicas"] == 0


def test_entries_are_left_as_they_were() -> None:
    entries = [entry(behavior={"scaleDown": {"tolerance": 0}})]
    before = copy.deepcopy(entries)
    apps.app_objects(apps.parse_apps(entries))
    assert entries == before


# -- what is wrong --

WRONG: list[tuple[dict[str, Any], str]] = [
    (entry(name=None), "autoscaled_apps[0].name: is missing"),
    (entry(workload=None), "autoscaled_apps[0].workload: is missing"),
    (entry(scale_on=None), "autoscaled_apps[0].scale_on: is missing"),
    (entry(name="Shop"), "autoscaled_apps[0].name = 'Shop': must be lowercase letters, digits and '-'"),
    (entry(namespace="a" * 64), "must be lowercase letters, digits and '-', at most 63"),
    (entry(nmae="x"), "autoscaled_apps[0].nmae = 'x': there is no such key; did you mean name?"),
    (entry(scale_on__taget=3), "autoscaled_apps[0].scale_on.taget = 3: there is no such key; did you mean target?"),
    (entry(scrape__colour=1), "there is no such key; there are port, path, interval, scheme, service"),
    (entry(workload="shop"), "autoscaled_apps[0].workload = 'shop': must be one of deployment/NAME, statefulset/NAME"),
    (entry(workload="daemonset/shop"), "must be one of deployment/NAME"),
    (entry(scrape={}), "autoscaled_apps[0].scrape.port: is missing"),
    (entry(scrape="web"), "autoscaled_apps[0].scrape = 'web': must be a mapping with the keys port, path"),
    (entry(scrape__port=0), "autoscaled_apps[0].scrape.port = 0: must be the name of a port"),
    (entry(scrape__port="Web_1"), "must be the name of a port, at most 15 lowercase letters"),
    (entry(scrape__path="metrics"), "must be a path that begins with /"),
    (entry(scrape__interval=0), "autoscaled_apps[0].scrape.interval = 0: must be a whole number of seconds, 1 or more"),
    (entry(scrape__interval="5s"), "must be a whole number of seconds"),
    (entry(scrape__scheme="ftp"), "must be one of http, https"),
    (entry(scrape__interval=16), "scrape.interval = 16: must be 15 or less seconds, so that 4 scrapes fit"),
    (
        entry(scale_on__window=19),
        "scale_on.window = 19: must be 20 or more seconds, 4 times autoscaled_apps[0].scrape.interval = 5",
    ),
    (entry(replicas={"min": 5, "max": 4}), "replicas.min = 5: must not be above autoscaled_apps[0].replicas.max = 4"),
    (entry(replicas={"min": 11}), "min = 11: must not be above autoscaled_apps[0].replicas.max = 10 (default)"),
    (entry(replicas__min=0), "replicas.min = 0: may be 0 only if a metric of scale_on is of an object or external"),
    (entry(replicas__min=True), "replicas.min = True: must be a whole number, 0 or more"),
    (entry(replicas=3), "autoscaled_apps[0].replicas = 3: must be a mapping with the keys min, max"),
    (entry(scale_on__target=0), "autoscaled_apps[0].scale_on.target = 0: must be a quantity above 0"),
    (entry(scale_on__target="ten"), "must be a quantity above 0, such as 10m, 500m or 2"),
    (entry(scale_on__target="60%"), "scale_on.target = '60%': must be a quantity above 0"),
    (entry(scale_on__target=None), "autoscaled_apps[0].scale_on.target: is missing"),
    (entry(scale_on=[]), "autoscaled_apps[0].scale_on = []: must name a metric"),
    (scaled_on(), "must name a series (metric) or a resource (cpu or memory)"),
    (scaled_on(metric="rate(a[1m])"), "must be the name of a series: letters, digits, '_' and ':'; for an"),
    (scaled_on(metric="a", over="b-c"), "scale_on.over = 'b-c': must be the name of a series"),
    (scaled_on(metric="a", function="sum"), "scale_on.function = 'sum': must be one of rate, irate, gauge, quantile"),
    (scaled_on(metric="a", function="quantile"), "must be the buckets of a histogram, a series whose name"),
    (scaled_on(metric="a", quantile=0.9), "quantile = 0.9: goes only with a series whose name ends in _bucket"),
    (scaled_on(metric="a_bucket", quantile=95), "must be a number above 0 and below 1"),
    (scaled_on(metric="a_bucket", over="b"), "scale_on.over = 'b': does not go with a quantile"),
    (scaled_on(metric="a", window=60), "scale_on.window = 60: goes only with a rate or a quantile"),
    (scaled_on(metric="a", **{"as": "a b"}), "scale_on.as = 'a b': must be letters, digits"),
    (scaled_on(metric="a", object="pod/x"), "scale_on.object = 'pod/x': must be one of ingress/NAME, service/NAME"),
    (scaled_on(metric="a", object="namespace/x"), "must be the namespace of the app itself, namespace/shop"),
    (scaled_on(metric="a", object="service/x", external=True), "does not go with external: true"),
    (scaled_on(metric="a", external="yes"), "scale_on.external = 'yes': must be true or false"),
    (scaled_on(metric="a", labels={"pod": "a-b"}), "scale_on.labels.pod = 'a-b': must be the name of a label"),
    (scaled_on(metric="a", labels={"ingress": "a"}), "there is no such key; there are namespace, pod"),
    (scaled_on(metric="a", selector={"a-b": "c"}), "must be the name of a label and its value"),
    (scaled_on(metric="a", target_type="value"), "goes only with object or external; of pods the average is taken"),
    (scaled_on(metric="a", container="web"), "scale_on.container = 'web': goes only with resource"),
    (scaled_on(resource="disk"), "scale_on.resource = 'disk': must be one of cpu, memory"),
    (scaled_on(resource="cpu", metric="a"), "scale_on.metric = 'a': does not go with resource"),
    (scaled_on(resource="cpu", target="0%"), "must be a whole percentage above 0, such as 60%"),
    (scaled_on(resource="cpu", target="1.5%"), "must be a whole percentage above 0"),
    (scaled_on(metric="a", query="<<.Series>>{<<.LabelMatchers>>}"), "scale_on.as: must name the metric"),
    (scaled_on(metric="a", query="x", window=5, **{"as": "b"}), "scale_on.window = 5: does not go with query"),
    (entry(behavior={"scaleUP": {}}), "there is no such key; did you mean scaleUp?"),
    (entry(behavior={"scaleUp": {"stabilizationWindowSeconds": 3601}}), "must be a whole number of seconds, 0 to 3600"),
    (entry(behavior={"scaleUp": {"policies": [{"type": "Pod"}]}}), "must be one of Pods, Percent; did you mean Pods?"),
    (entry(behavior={"scaleUp": {"policies": [{"type": "Pods"}]}}), "behavior.scaleUp.policies[0].value: is missing"),
    (entry(behavior={"scaleDown": {"tolerance": -1}}), "must be a quantity of 0 or more"),
    (entry(alerts="no"), "autoscaled_apps[0].alerts = 'no': must be true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "text"), WRONG, ids=[text[:60] for _unused, text in WRONG])
def test_what_is_wrong_is_said_with_its_path_and_what_is_allowed(wrong: dict[str, Any], text: str) -> None:
    said = errors(wrong)
    assert len([line for line in said if text in line]) == 1, said
    with pytest.raises(AppError):
        apps.parse_apps([wrong])


def query(text: str) -> dict[str, Any]:
    return scaled_on(metric="a_total", query=text, **{"as": "b"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s]) by (<<.GroupBy>>)", "is no PromQL: "),
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>})) by (<<.GroupBy>>)", "expected type matrix in call to"),
        ("average(<<.Series>>{<<.LabelMatchers>>})", "is no PromQL: "),
        ("<<.Series>>{<<.LabelMatchers>>}[60s]", "must give a value for each object"),
        ("scalar(<<.Series>>{<<.LabelMatchers>>})", "must give a value for each object"),
        ("sum(rate(<<.Series>>[60s])) by (<<.GroupBy>>)", "must have <<.LabelMatchers>>"),
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s]))", "loses the label pod"),
        ("(sum(rate(<<.Series>>{<<.LabelMatchers>>}[60s])) by (container))", "loses the label pod"),
        ("sum(<<.Serie>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)", "holds <<.Serie>>; there are <<.Series>>"),
        ("sum(rate(<<.Series>>{<<.LabelMatchers>>}[15s])) by (<<.GroupBy>>)", "looks at 15 s, but must at 20"),
    ],
)  # fmt: skip
def test_queries_are_parsed(text: str, said: str) -> None:
    found = errors(query(text))
    assert len(found) == 1, found
    assert found[0].startswith("autoscaled_apps[0].scale_on.query = ")
    assert said in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "sum(rate(<<.Series>>{<<.LabelMatchers>>}[20s])) by (<<.GroupBy>>)",
        "max(<<.Series>>{<<- .LabelMatchers ->>}) without (container)",
        'avg_over_time(<<.Series>>{<<.LabelMatchers>>}[5m]) * sum(b{n="<<index .LabelValuesByName "namespace">>",'
        "<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        "topk(1, <<.Series>>{<<.LabelMatchers>>})",
    ],
)
def test_queries_that_are_well(text: str) -> None:
    assert errors(query(text)) == []


def test_every_query_made_here_is_promql() -> None:
    for function in apps.FUNCTIONS:
        for external in (True, False):
            item = {"metric": "a_bucket", "function": function, "external": external}
            assert errors(scaled_on(**item)) == []
            if function != "quantile":
                assert errors(scaled_on(over="b_bucket", **item)) == []


def test_names_and_workloads_are_of_one_app() -> None:
    said = errors(entry(), entry())
    assert "autoscaled_apps[1].name = 'shop': autoscaled_apps[0].name has it, too" in said[0]
    assert "autoscaled_apps[1].workload = 'deployment/shop': autoscaled_apps[0].workload scales it already" in said[1]
    assert errors(entry(), entry(name="other", namespace="other")) == []


def test_one_name_of_a_metric_means_one_thing() -> None:
    other = entry(name="other", workload="deployment/other", scale_on__window=120)
    (said,) = errors(entry(), other)
    assert said.startswith("autoscaled_apps[1].scale_on: makes metric http_requests_per_second otherwise than ")
    assert "autoscaled_apps[0].scale_on does; give one of them another name with `as`" in said
    assert errors(entry(), {**other, "scale_on": {**other["scale_on"], "as": "http_requests_2m"}}) == []


def test_additional_rules_may_not_contradict_apps() -> None:
    rule = {"series": "http_requests_total", "as": "http_requests_per_second", "window": 60, "function": "rate"}
    assert errors(entry(), rules=[rule]) == []
    (said,) = errors(entry(), rules=[rule | {"window": 120}])
    assert said.startswith("prometheus_adapter_rules[0]: makes metric http_requests_per_second otherwise than ")
    with pytest.raises(AppError, match="http_requests_per_second"):
        apps.adapter_config(apps.parse_apps([entry()]), [rule | {"window": 120}])


def test_everything_is_said_at_once_and_nothing_twice() -> None:
    said = errors(entry(scale_on=[{"metric": "a_total"}, {"metric": "b_total", "target": 0}], name=""), 7)
    assert [line.partition(":")[0] for line in said] == [
        "autoscaled_apps[0].name = ''",
        "autoscaled_apps[0].scale_on[0].target",
        "autoscaled_apps[0].scale_on[1].target = 0",
        "autoscaled_apps[1] = 7",
    ]
    assert len(errors(entry(scrape__interval=99, scale_on=[{"metric": "a_total", "target": 1}] * 2))) == 1


def test_places_are_those_of_who_wrote_it() -> None:
    source = Source("demo_app", {"replicas.min": "demo_app_min_replicas"}, lambda path: f"all.yml:{len(path)}")
    said = apps.examine_apps([entry(replicas={"min": 5, "max": 4})], [source]).errors
    assert said == ["demo_app_min_replicas = 5 (all.yml:12): must not be above demo_app.replicas.max = 4"]


def test_numbers_may_come_as_text_of_templates() -> None:
    given = entry(replicas={"min": "2", "max": "9"}, scrape__interval="10", scale_on__window="40")
    (app,) = apps.parse_apps([given])
    assert (app.min_replicas, app.max_replicas, app.metrics[0].window) == (2, 9, 40)


# -- what is surprising --


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scale_on__target": "10m"}, ""),  # the demo: 18m of one click ask for 2 replicas
        ({"scale_on__target": "10m", "scale_on__window": 20}, "window of 20 s reads up to 67m, which alone asks for 7"),
        ({"scale_on__target": "1m"}, "asks for 19 replicas (of at most 20); take 10m or more, or a longer window"),
        ({"scale_on__target": "1m", "replicas__max": 5}, "asks for 5 replicas (of at most 5)"),
        ({"scale_on__target": "1m", "replicas__max": 2}, ""),
        ({"scale_on__target": "50m", "scale_on__function": "irate"}, "reads up to 200m, which alone asks for 4"),
        ({"scale_on__target": "1m", "scale_on__metric": "cpu_seconds_total"}, ""),
        ({"scale_on__target": "1m", "scale_on__over": "b_total"}, ""),
        ({"scale_on__target": "1m", "scale_on__metric": "queue"}, ""),
        ({"scale_on__target": "5m", "scrape": None}, "reads up to 17m, which alone asks for 4 replicas"),
    ],
)  # fmt: skip
def test_a_target_that_one_event_exceeds_many_times_over(changes: dict[str, Any], text: str) -> None:
    said = warnings(entry(**changes))
    if not text:
        assert said == []
    else:
        assert len(said) == 1
        assert said[0].startswith("autoscaled_apps[0].scale_on.target = ")
        assert text in said[0]
