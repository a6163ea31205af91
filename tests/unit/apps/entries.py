"""Entries of autoscaled_apps for tests."""

from __future__ import annotations

from typing import Any

import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.model import Metric
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import examine_apps, parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.entry import Findings, Source

SIX_LINES = """
- name: shop
  namespace: shop
  workload: deployment/shop
  scrape: {port: web}
  scale_on: {metric: http_requests_total, target: 10}
  replicas: {min: 1, max: 20}
"""


def entry(**changes: Any) -> dict[str, Any]:
    """Return the entry of six lines with changed values. A key such as scrape__port is a path, None removes a key."""
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


def metric(**item: Any) -> Metric:
    (app,) = parse_apps([scaled_on(**item)])
    return app.metrics[0]


def examine(*entries: Any, rules: Any = ()) -> Findings:
    pairs = [(item, Source(f"autoscaled_apps[{number}]")) for number, item in enumerate(entries)]
    return examine_apps(pairs, rules)[1]


def errors(*entries: Any, rules: Any = ()) -> list[str]:
    return examine(*entries, rules=rules).errors


def warnings(*entries: Any) -> list[str]:
    findings = examine(*entries)
    assert findings.errors == []
    return findings.warnings
