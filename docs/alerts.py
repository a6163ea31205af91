#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write docs/alerts.md from the rules that role prometheus installs, and from those of an autoscaled app.

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

Find the alert that you received, and its remedy. On a healthy cluster only `Watchdog` fires. `critical` means that
something does not work now. `warning` means that something will stop working, or works badly. Alerts on a component
that is absent are not installed.

## Receive alerts

By default Alertmanager, Prometheus and Grafana show the alerts, and nobody receives them. Set a receiver in the
variables of a cluster, in [Alertmanager's format](https://prometheus.io/docs/alerting/latest/configuration/):

```yaml
alertmanager_receiver:
  webhook_configs:
    - url: https://hooks.example/alerts
```

Then run `ansible-playbook site.yml --tags alertmanager`. The variable may contain several receivers of several kinds.
[Encrypt](https://docs.ansible.com/ansible/latest/vault_guide/index.html) a password or a token in it. The cluster keeps
the receiver in a Secret, and no output shows it.

Alerts of one cluster, namespace and name arrive as one notification, 10 seconds after the first of them. Alertmanager
suppresses an alert if another alert names its cause: autoscalers that do not scale while their metrics API is down, or
a kubelet on a node that is down. For your own routes, set the whole file in `alertmanager_config` instead.

## Certificates

The API server counts requests by the remaining time of the caller's certificate. Kubelets report when their own serving
certificates end. No component reports this for the serving certificates of metrics-server, prometheus-adapter and the
API server: Prometheus notices such a certificate only when it fails. So the roles of metrics-server and
prometheus-adapter record the end of their certificates as the series `kubescale_serving_certificate_not_after_seconds`.
The series describes the installed certificate, not the served one. For the API server, run
`kubeadm certs check-expiration` on a control plane.
"""


def alerts(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the alerts of a rule file's groups."""
    return (rule for group in groups for rule in group["rules"] if "alert" in rule)


def plain(text: str) -> str:
    """Return an annotation with the names of labels and values instead of templates."""
    text = re.sub(r"{{ with [^}]*}}.*?{{ end }}", "", text)
    text = re.sub(r"{{ \$value[^}]*}}", "*N*", text)
    return re.sub(r"{{ \$labels\.(\w+) }}", r"*\1*", text)


def section(rule: dict[str, Any]) -> str:
    """Return the section of one alert."""
    annotations = rule["annotations"]
    lasting = f", after {rule['for']}" if "for" in rule else ""
    return (
        f"\n### {rule['alert']}\n\n**{annotations['summary']}** ({rule['labels']['severity']}{lasting}).\n"
        f"{plain(annotations['description'])}\n\nRemedy: {plain(annotations['next'])}\n\n"
        f"```text\n{rule['expr'].strip()}\n```\n"
    )


def page() -> str:
    """Return the text of the page."""
    text = HEADER
    for file in RULES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            text += f"\n## {group['name'].replace('-', ' ').capitalize()}\n" + "".join(map(section, alerts([group])))
    text += "\n## Each autoscaled app\n\nAlerts of an app `shop` with a target of 10 `http_requests_per_second`:\n"
    return text + "".join(map(section, alerts(app_rules(*parse_apps([APP])))))


if __name__ == "__main__":
    sys.exit(keep({PAGE: page()}, sys.argv[1:]))
