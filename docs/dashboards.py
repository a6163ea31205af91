#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/dashboards.md: every panel of every dashboard, from the files that Grafana is provisioned with.

docs/dashboards.py           write the page if it is out of date
docs/dashboards.py --check   write nothing; fail if it is
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pages import REPOSITORY, keep

PAGE = REPOSITORY / "docs" / "dashboards.md"
FOLDER = REPOSITORY / "roles" / "grafana" / "files" / "dashboards"

HEADER = """\
<!-- Made from roles/grafana/files/dashboards by `make docs`; edit files/dashboards/ instead. -->

# What the dashboards show

Grafana is provisioned with these dashboards. Who has no Grafana sees the same panels, made from the same queries, in
the report:

```shell
ansible-playbook playbooks/report.yml                       # the last 15 minutes, into .state/<cluster>/report.html
ansible-playbook playbooks/report.yml -e report_minutes=60  # 1 to 90
```

`playbooks/load.yml` ends with it. `site.yml` and `playbooks/verify.yml` do not draw: the drawings of the last time
stay, with their time. The report has rows for the first 8 nodes and the first 8 autoscalers, 10 lines per panel, and on
the dashboard *Pod* the namespaces that have autoscalers.

A new entry of `autoscaled_apps` needs no dashboard: *Autoscalers* has a row for every autoscaler that Prometheus knows.
The metrics come from kube-state-metrics (what objects say), node_exporter (machines), the kubelets and their cAdvisor
(pods), and from prometheus-adapter, metrics-server and Prometheus themselves. kube-controller-manager, which decides,
is not read: it listens on its own machine only.

Dashboards are code, in `files/dashboards/`. The tests ask every query of a real Prometheus, and none may be empty
unless its panel says why.
"""


def entry(panel: dict[str, Any]) -> str:
    """Describe one panel in a line of a list."""
    nothing = panel["fieldConfig"]["defaults"].get("noValue", "")
    empty = f"Empty: {nothing}" if nothing else ""
    said = " ".join(filter(None, [panel["description"], empty]))
    return f"- **{panel['title']}**{'. ' if said else ''}{said}\n"


def section(dashboard: dict[str, Any]) -> str:
    """Describe one dashboard, row by row."""
    variables = [variable["label"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    chosen = f" To choose: {', '.join(variables).lower()}." if variables else ""
    text = f"\n## {dashboard['title']}\n\n{dashboard['description']}{chosen}\n"
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            again = panel.get("repeat")
            text += f"\n### {f'Each {again}' if again else panel['title']}\n\n"
        else:
            text += entry(panel)
    return text


def page() -> str:
    """Make the text of the page."""
    files = sorted(FOLDER.glob("*.json"))
    return HEADER + "".join(section(json.loads(file.read_text(encoding="utf-8"))) for file in files)


if __name__ == "__main__":
    sys.exit(keep({PAGE: page()}, sys.argv[1:]))
