#!/usr/bin/env python3
# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Write docs/dashboards.md: every panel of every dashboard, from the files that Grafana is provisioned with.

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

# Dashboards

Find the panel that answers your question. Grafana is provisioned with these dashboards. Without Grafana, the report
shows the same panels, made from the same queries:

```shell
ansible-playbook playbooks/report.yml                       # last 15 minutes, in .state/<cluster>/report.html
ansible-playbook playbooks/report.yml -e report_minutes=60  # 1 to 90
```

`playbooks/load.yml` ends with this report. `site.yml` and `playbooks/verify.yml` draw no panels; the report keeps the
panels of the last time, with their time. The report shows the first 8 nodes, the first 8 autoscalers, and 10 lines per
panel. Its dashboard *Pod* shows the namespaces that have autoscalers.

A new entry of `autoscaled_apps` needs no new dashboard: *Autoscalers* has a row for every autoscaler that Prometheus
knows. The metrics come from kube-state-metrics (state of objects), node_exporter (machines), the kubelets and their
cAdvisor (pods), and from prometheus-adapter, metrics-server and Prometheus themselves. kube-controller-manager, which
decides about replicas, is not scraped, because it listens only on its own machine.

Dashboards are code in `files/dashboards/`. The tests send every query to a real Prometheus. A query may be empty only
if its panel gives the reason.
"""


def entry(panel: dict[str, Any]) -> str:
    """Return the item of one panel."""
    nothing = panel["fieldConfig"]["defaults"].get("noValue", "")
    empty = f"Empty: {nothing}" if nothing else ""
    said = " ".join(filter(None, [panel["description"], empty]))
    return f"- **{panel['title']}**{'. ' if said else ''}{said}\n"


def section(dashboard: dict[str, Any]) -> str:
    """Return the section of one dashboard, row by row."""
    variables = [variable["label"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    chosen = f" Variables: {', '.join(variables).lower()}." if variables else ""
    text = f"\n## {dashboard['title']}\n\n{dashboard['description']}{chosen}\n"
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            again = panel.get("repeat")
            text += f"\n### {f'Each {again}' if again else panel['title']}\n\n"
        else:
            text += entry(panel)
    return text


def page() -> str:
    """Return the text of the page."""
    files = sorted(FOLDER.glob("*.json"))
    return HEADER + "".join(section(json.loads(file.read_text(encoding="utf-8"))) for file in files)


if __name__ == "__main__":
    sys.exit(keep({PAGE: page()}, sys.argv[1:]))
