"""Entries of autoscaled_apps: their errors, with path, value and allowed values."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import AppError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import app_objects
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import SCALE_DOWN, examine_apps, parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.entry import Source

from tests.unit.apps.entries import entry, errors, scaled_on


def test_behavior_is_laid_over_the_defaults() -> None:
    given = {
        "scaleDown": {"stabilizationWindowSeconds": 30, "tolerance": 0.05},
        "scaleUp": {"selectPolicy": "Disabled"},
    }
    (app,) = parse_apps([entry(behavior=given)])
    assert app.behavior["scaleDown"] == {**SCALE_DOWN, "stabilizationWindowSeconds": 30, "tolerance": "0.05"}
    assert app.behavior["scaleUp"]["selectPolicy"] == "Disabled"
    assert app.behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 20, "periodSeconds": 15}]


def test_entries_are_left_as_they_were() -> None:
    entries = [entry(behavior={"scaleDown": {"tolerance": 0}})]
    before = copy.deepcopy(entries)
    app_objects(parse_apps(entries))
    assert entries == before


WRONG: list[tuple[dict[str, Any], str]] = [
    (entry(name=None), "autoscaled_apps[0].name: is missing"),
    (entry(workload=None), "autoscaled_apps[0].workload: is missing"),
    (entry(scale_on=None), "autoscaled_apps[0].scale_on: is missing"),
    (entry(name="Shop"), "autoscaled_apps[0].name = 'Shop': must be lowercase letters, digits and '-'"),
    (entry(namespace="a" * 64), "must be lowercase letters, digits and '-', at most 63"),
    (entry(nmae="x"), "autoscaled_apps[0].nmae: there is no such key; did you mean name?"),
    (entry(scale_on__taget=3), "autoscaled_apps[0].scale_on.taget: there is no such key; did you mean target?"),
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
    (scaled_on(metric="rate(a[1m])"), "must be the name of a series: letters, digits, '_' and ':'; use query"),
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
        parse_apps([wrong])


def test_names_and_workloads_are_of_one_app() -> None:
    said = errors(entry(), entry())
    assert "autoscaled_apps[1].name = 'shop': autoscaled_apps[0].name has it, too" in said[0]
    assert "autoscaled_apps[1].workload = 'deployment/shop': autoscaled_apps[0].workload scales it already" in said[1]
    assert errors(entry(), entry(name="other", namespace="other")) == []


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
    said = examine_apps([(entry(replicas={"min": 5, "max": 4}), source)])[1].errors
    assert said == ["demo_app_min_replicas = 5 (all.yml:12): must not be above demo_app.replicas.max = 4"]


def test_numbers_may_come_as_text_of_templates() -> None:
    given = entry(replicas={"min": "2", "max": "9"}, scrape__interval="10", scale_on__window="40")
    (app,) = parse_apps([given])
    assert (app.min_replicas, app.max_replicas, app.metrics[0].window) == (2, 9, 40)
