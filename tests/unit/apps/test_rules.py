"""Rules of prometheus-adapter for autoscaled apps."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps import promql
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import AppError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.rules import adapter_config

from tests.unit.apps.entries import entry, errors, metric, scaled_on

BY_POD = {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}


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
    assert (name in str(adapter_config(parse_apps([scaled_on(**item)])))) is True


def test_an_object_is_found_by_its_own_label() -> None:
    parsed = parse_apps([scaled_on(metric="q", object="ingress/shop", labels={"ingress": "exported_ingress"})])
    (rule,) = adapter_config(parsed)["rules"]
    assert rule["seriesQuery"] == 'q{exported_ingress!="",namespace!=""}'
    assert rule["resources"]["overrides"] == {
        "exported_ingress": {"group": "networking.k8s.io", "resource": "ingress"},
        "namespace": {"resource": "namespace"},
    }


def test_an_external_metric_belongs_to_no_namespace() -> None:
    config = adapter_config(parse_apps([scaled_on(metric="q", external=True)]))
    assert config["rules"] == []
    assert config["externalRules"][0]["resources"] == {"namespaced": False}
    assert config["externalRules"][0]["seriesQuery"] == "q"


def test_resources_need_no_rule() -> None:
    config = adapter_config(parse_apps([scaled_on(resource="cpu", target="60%")]))
    assert config == {"rules": [], "externalRules": []}


def test_apps_may_share_a_rule() -> None:
    other = entry(name="other", namespace="other")
    namespace = entry(name="third", workload="deployment/third", scale_on__object="namespace/shop")
    (rule,) = adapter_config(parse_apps([entry(), other, namespace]))["rules"]
    assert rule["resources"]["overrides"] == BY_POD
    # The query of a namespace also counts series without a pod.
    assert rule["seriesQuery"] == 'http_requests_total{namespace!=""}'


def test_a_metric_may_have_the_same_name_inside_and_outside() -> None:
    config = adapter_config(
        parse_apps([entry(scale_on=[{"metric": "q", "target": 1}, {"metric": "q", "external": True, "target": 1}])])
    )
    assert [len(config[key]) for key in ("rules", "externalRules")] == [1, 1]


def test_one_name_of_a_metric_means_one_thing() -> None:
    other = entry(name="other", workload="deployment/other", scale_on__window=120)
    (said,) = errors(entry(), other)
    assert said.startswith("autoscaled_apps[1].scale_on: defines metric http_requests_per_second differently from ")
    assert "autoscaled_apps[0].scale_on; give one of them another name with `as`" in said
    assert errors(entry(), {**other, "scale_on": {**other["scale_on"], "as": "http_requests_2m"}}) == []


def test_additional_rules_may_not_contradict_apps() -> None:
    rule = {"series": "http_requests_total", "as": "http_requests_per_second", "window": 60, "function": "rate"}
    assert errors(entry(), rules=[rule]) == []
    (said,) = errors(entry(), rules=[rule | {"window": 120}])
    assert said.startswith("prometheus_adapter_rules[0]: defines metric http_requests_per_second differently from ")
    with pytest.raises(AppError, match="http_requests_per_second"):
        adapter_config(parse_apps([entry()]), [rule | {"window": 120}])
