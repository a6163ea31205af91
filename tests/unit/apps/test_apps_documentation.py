"""docs/autoscaled-apps.md matches the code: keys, defaults, and the results of its examples."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import OBJECTS, Scrape
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.objects import autoscaler
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import ENTRY, parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.scale_on import FUNCTIONS, SCALE_ON

from tests.unit.apps.entries import examine

PAGE = (Path(__file__).resolve().parents[3] / "docs/autoscaled-apps.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(autoscaled_apps:.*?)```", PAGE, re.S)


def rows(heading: str) -> dict[str, str]:
    """Return key and default of each row of the table below a heading."""
    section = PAGE.partition(heading)[2]
    table = section[section.index("| key |") :].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    return {key.strip("`"): default.strip("`") for key, default in cells}


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_do_what_they_say(text: str) -> None:
    entries = yaml.safe_load(text)["autoscaled_apps"]
    findings = examine(*entries)
    assert (findings.errors, findings.warnings) == ([], [])
    made = []
    for app in parse_apps(entries):
        for metric in autoscaler(app)["spec"]["metrics"]:
            kind = metric["type"]
            body = metric[kind[0].lower() + kind[1:]]
            made.append(f"{kind} {body['metric']['name'] if 'metric' in body else body['name']}")
    assert made == re.findall(r"# -> (\w+ \w+)$", text, re.M)


def test_there_is_an_example_of_every_kind() -> None:
    shown = {kind for text in EXAMPLES for kind in re.findall(r"# -> (\w+) ", text)}
    assert shown == {"Pods", "Object", "External", "Resource", "ContainerResource"}
    metrics = [
        metric
        for text in EXAMPLES
        for app in parse_apps(yaml.safe_load(text)["autoscaled_apps"])
        for metric in app.metrics
    ]
    assert {metric.function for metric in metrics if metric.served} == {*FUNCTIONS, ""}
    assert any(metric.over for metric in metrics)
    assert {metric.object_kind for metric in metrics} == {*OBJECTS, ""}


def test_every_key_is_there_with_its_default() -> None:
    scrape = {f"scrape.{item.name}": item.default for item in fields(Scrape)}
    said = rows("## Keys of an entry")
    assert said.keys() == {*ENTRY, *scrape, "replicas.min", "replicas.max"} - {"replicas"}
    assert {name: said[name] for name, default in scrape.items() if name != "scrape.port" and default} == {
        name: str(default) for name, default in scrape.items() if name != "scrape.port" and default
    }
    least: dict[str, Any] = {
        "name": "a",
        "namespace": "a",
        "workload": "deployment/a",
        "scale_on": {"metric": "a_bucket", "target": 1},
    }
    (app,) = parse_apps([least])
    assert (said["replicas.min"], said["replicas.max"]) == (str(app.min_replicas), str(app.max_replicas))
    assert said["alerts"] == str(app.alerts).lower()
    assert {key for key, default in said.items() if default == "required"} == {*least, "scrape.port"}
    said = rows("## Keys of scale_on")
    assert said.keys() == set(SCALE_ON)
    (metric,) = app.metrics
    assert (said["window"], said["quantile"]) == (str(metric.window), str(metric.quantile))
    assert said["target_type"] == metric.target_type
