# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Show the addresses and files of a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..plugin_utils.common.action import display
from ..plugin_utils.kube.action import ClusterAction
from ..plugin_utils.kube.client import JSON
from ..plugin_utils.report.report import verdict

# Services of the ApplySets of this collection.
SERVICES = "/api/v1/services?labelSelector=applyset.kubernetes.io/part-of"


class ActionModule(ClusterAction):
    """The action of the module `where`."""

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Read services and nodes, and show one block of lines."""
        api = self.connect()
        places = addresses(api.raw(SERVICES)["items"], api.raw("/api/v1/nodes")["items"], args["published"])
        headline = ""
        report = Path(args["state_dir"]) / "report.json"
        if report.exists():
            content = json.loads(report.read_text(encoding="utf-8"))
            result = verdict(content)
            headline = f"{result['word']}. {result['text']}"
            # The report has the full text.
            for text in content["not_real"]:
                places["note"] = text.partition(":")[0]
            places["report"] = shorten(report.with_suffix(".html"))
        places["kubectl"] = f"export KUBECONFIG={shorten(Path(args['kubeconfig']))}"
        display.display("\n".join(block(self.cluster, headline, places | args["notes"])))
        return {"places": places}


def addresses(services: Sequence[JSON], nodes: Sequence[JSON], published: Sequence[int]) -> dict[str, str]:
    """Return the URLs of services with a port on the nodes: on 127.0.0.1 if published, else on the first node."""
    internal = [
        entry["address"] for node in nodes for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"
    ]
    urls: dict[str, str] = {}
    for service in sorted(services, key=lambda item: item["metadata"]["name"]):
        for port in service["spec"].get("ports") or []:
            number = port.get("nodePort")
            if number and (number in published or internal):
                host = "127.0.0.1" if number in published else internal[0]
                urls.setdefault(service["metadata"]["name"], f"http://{host}:{number}")
    return urls


def shorten(path: Path) -> str:
    """Return a path as a person in the current folder would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def block(cluster: str, headline: str, places: Mapping[str, str]) -> list[str]:
    """Return the lines to show: the cluster with its verdict, and the places."""
    width = max(len(name) for name in places)
    return [
        "",
        f"{cluster}: {headline}".rstrip(": "),
        *(f"  {name:{width}}  {place}" for name, place in places.items()),
        "",
    ]
