# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Tells a person where the things of a cluster are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.kube.client import JSON, ApiError, KubeconfigError, connect
from ..plugin_utils.report.report import verdict

# Services that a set of ours made.
SERVICES = "/api/v1/services?labelSelector=applyset.kubernetes.io/part-of"


class ActionModule(ActionBase):
    """See the module of the same name for options and results."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read services and nodes, and show one block of lines."""
        super().run(tmp, task_vars)
        _unused, arguments = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "required": True},
                "state_dir": {"type": "path", "required": True},
                "published": {"type": "list", "elements": "int", "default": []},
                "notes": {"type": "dict", "default": {}},
            }
        )
        variables = task_vars or {}
        cluster = variables.get("cluster_name", variables.get("inventory_hostname", ""))
        try:
            api = connect(arguments["kubeconfig"])
            places = addresses(api.raw(SERVICES)["items"], api.raw("/api/v1/nodes")["items"], arguments["published"])
        except (ApiError, KubeconfigError) as error:
            raise AnsibleActionFail(f"{cluster}: {error}") from None
        headline = ""
        report = Path(arguments["state_dir"]) / "report.json"
        if report.exists():
            content = json.loads(report.read_text(encoding="utf-8"))
            said = verdict(content)
            headline = f"{said['word']}. {said['text']}"
            # The first clause is enough here; the report has the rest.
            for text in content["not_real"]:
                places["note"] = text.partition(":")[0]
            places["report"] = shorten(report.with_suffix(".html"))
        places["kubectl"] = f"export KUBECONFIG={shorten(Path(arguments['kubeconfig']))}"
        Display().display("\n".join(block(cluster, headline, places | arguments["notes"])))
        return {"changed": False, "places": places}


def addresses(services: Sequence[JSON], nodes: Sequence[JSON], published: Sequence[int]) -> dict[str, str]:
    """URL of every service with a port on the nodes: on 127.0.0.1 where it is published, else on the first node."""
    internal = [
        entry["address"] for node in nodes for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"
    ]
    found: dict[str, str] = {}
    for service in sorted(services, key=lambda item: item["metadata"]["name"]):
        for port in service["spec"].get("ports") or []:
            number = port.get("nodePort")
            if number and (number in published or internal):
                host = "127.0.0.1" if number in published else internal[0]
                found.setdefault(service["metadata"]["name"], f"http://{host}:{number}")
    return found


def shorten(path: Path) -> str:
    """A path as a person in the current folder would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def block(cluster: str, headline: str, places: Mapping[str, str]) -> list[str]:
    """Lines to show: the cluster, how it is, and what lies where."""
    width = max(len(name) for name in places)
    return [
        "",
        f"{cluster}: {headline}".rstrip(": "),
        *(f"  {name:{width}}  {place}" for name, place in places.items()),
        "",
    ]
