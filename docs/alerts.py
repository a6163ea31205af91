#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/alerts.md from the rules that role prometheus installs, and from those of an autoscaled app.

docs/alerts.py           write the page if it is out of date
docs/alerts.py --check   write nothing; fail if it is
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import yaml
from pages import REPOSITORY, keep

PAGE = REPOSITORY / "docs" / "alerts.md"
RULES = sorted((REPOSITORY / "roles/prometheus/files/rules").glob("*.yaml"))
sys.path.insert(0, str(REPOSITORY / "collections"))

from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.alerts import app_rules  # noqa: E402
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps  # noqa: E402

APP = {
    "name": "shop",
    "namespace": "shop",
    "workload": "deployment/shop",
    "scrape": {"port": "web"},
    "scale_on": {"metric": "http_requests_total", "target": 10},
    "replicas": {"max": 20},
}

HEADER = """\
<!-- Made from roles/prometheus/files/rules and plugins/plugin_utils/apps/alerts.py by `make docs`; edit those. -->

# Alerts

What Prometheus looks for, and what to do about it. On a healthy cluster only `Watchdog` fires. `critical` means that
something does not work now, `warning` that it soon will not, or not as well as it should. The rules about a component
that is absent are left out.

## Who is told

By default alerts are shown, in Alertmanager, Prometheus and Grafana, and sent nowhere. Name a receiver, as
[Alertmanager writes it](https://prometheus.io/docs/alerting/latest/configuration/), in the variables of a cluster:

```yaml
alertmanager_receiver:
  webhook_configs:
    - url: https://hooks.example/alerts
```

and run `ansible-playbook site.yml --tags alertmanager`. It may hold several, of several kinds; a password or a token in
it is best [encrypted](https://docs.ansible.com/ansible/latest/vault_guide/index.html). It is kept in a Secret and shown
in no output. Alerts of one cluster, namespace and name come as one notification, 10 seconds after the first of them. An
alert whose cause is the subject of another one is held back: autoscalers that stand still while their metrics API is
away, a kubelet on a node that is away. For routes of your own, set the whole file, `alertmanager_config`, instead.

## Certificates

The API server counts requests by the time that the caller's certificate is still valid, and kubelets say when their own
serving certificates end. Nobody says so of the serving certificates of metrics-server and prometheus-adapter, nor of
the API server's own: Prometheus sees such a certificate only when it is refused. The roles that make the first two
therefore record when they end, as the series `kubescale_serving_certificate_not_after_seconds`; it is what was
installed, not what is served. The API server's own is shown by `kubeadm certs check-expiration` on a control plane.
"""


def alerts(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The alerts of a rule file's groups."""
    return (rule for group in groups for rule in group["rules"] if "alert" in rule)


def plain(text: str) -> str:
    """An annotation without its template language: labels and values by their names."""
    text = re.sub(r"{{ with [^}]*}}.*?{{ end }}", "", text)
    text = re.sub(r"{{ \$value[^}]*}}", "*N*", text)
    return re.sub(r"{{ \$labels\.(\w+) }}", r"*\1*", text)


def section(rule: dict[str, Any]) -> str:
    """One alert as a section of the page."""
    annotations = rule["annotations"]
    lasting = f", after {rule['for']}" if "for" in rule else ""
    return (
        f"\n### {rule['alert']}\n\n**{annotations['summary']}** ({rule['labels']['severity']}{lasting}).\n"
        f"{plain(annotations['description'])}\n\nWhat to do: {plain(annotations['next'])}\n\n"
        f"```text\n{rule['expr'].strip()}\n```\n"
    )


def page() -> str:
    """Make the text of the page."""
    text = HEADER
    for file in RULES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            text += f"\n## {group['name'].replace('-', ' ').capitalize()}\n" + "".join(map(section, alerts([group])))
    text += "\n## Each autoscaled app\n\nHere for an app `shop` with a target of 10 `http_requests_per_second`.\n"
    return text + "".join(map(section, alerts(app_rules(*parse_apps([APP])))))


if __name__ == "__main__":
    sys.exit(keep({PAGE: page()}, sys.argv[1:]))
