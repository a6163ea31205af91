"""Writes the dashboards as the JSON that Grafana is provisioned with: ``python -m files.dashboards.generate``.

With ``--check`` nothing is written; the exit status is 1 if a file is not what the code makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import cluster, demo_app, hpa, node, pod

TARGET = Path(__file__).parent.parent.parent / "roles" / "grafana" / "files" / "dashboards"
DASHBOARDS = {"cluster.json": cluster, "demo-app.json": demo_app, "hpa.json": hpa, "node.json": node, "pod.json": pod}


def main(arguments: list[str]) -> int:
    """Write or check every file; returns the exit status."""
    outdated = []
    for name, module in DASHBOARDS.items():
        page = module.build().build()
        for number, panel in enumerate(page.panels or [], start=1):
            panel.id_val = number
        text = json.dumps(page, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        file = TARGET / name
        if not file.exists() or file.read_text() != text:
            outdated.append(name)
            if "--check" not in arguments:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
    if outdated and "--check" in arguments:
        print(f"Not what files/dashboards makes: {', '.join(outdated)}. Run: python -m files.dashboards.generate")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
