"""A stand-in for Grafana where its image cannot be had: not Grafana, and it says so wherever it is asked.

It takes Grafana's place in a pod: same port, same provisioning files, the same answers about its health and about what
was provisioned. So the pod, its mounts, its probes and the way to it are real; only the drawing is missing.
"""

from __future__ import annotations

import html
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

VERSION = "stand-in-0.1.0"
HEADLINE = "This is a stand-in, not Grafana"


class ProvisioningError(Exception):
    """A provisioning file cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Dashboard:
    """A provisioned dashboard: Grafana's JSON model, and the folder its provider puts it in."""

    folder: str
    model: dict[str, Any]

    @property
    def uid(self) -> str:
        return self.model["uid"]

    @property
    def title(self) -> str:
        return self.model["title"]

    @property
    def url(self) -> str:
        return f"/d/{self.uid}"

    @property
    def drawn(self) -> int:
        """Panels that Grafana would draw; a row is a panel to it as well."""
        return sum(1 for panel in self.model.get("panels", []) if "targets" in panel)


@dataclass(frozen=True)
class Provisioning:
    """The files Grafana would read when it starts. They are read at every question, so changes show at once."""

    folder: Path

    def data_sources(self) -> list[dict[str, Any]]:
        """Every data source; without what Grafana would keep secret. Raises ``ProvisioningError``."""
        return [
            {key: value for key, value in source.items() if key != "secureJsonData"}
            for source in self._entries("datasources", ["name", "type", "url"])
        ]

    def dashboards(self) -> list[Dashboard]:
        """Every dashboard of every provider, by title. Raises ``ProvisioningError``."""
        found: dict[str, Dashboard] = {}
        for provider in self._entries("dashboards", ["name", "options"], "providers"):
            folder = Path(provider["options"].get("path", ""))
            if not folder.is_dir():
                raise ProvisioningError(f"provider {provider['name']!r} reads dashboards from {folder}: no such folder")
            for file in sorted(folder.rglob("*.json")):
                # A mounted ConfigMap keeps its files in hidden folders, with links to them beside.
                if any(part.startswith("..") for part in file.relative_to(folder).parts):
                    continue
                dashboard = Dashboard(provider.get("folder", ""), self._model(file))
                if dashboard.uid in found:
                    raise ProvisioningError(f"{file}: another dashboard has the uid {dashboard.uid!r} already")
                found[dashboard.uid] = dashboard
        return sorted(found.values(), key=lambda dashboard: dashboard.title)

    def _entries(self, kind: str, needed: list[str], key: str | None = None) -> Iterator[dict[str, Any]]:
        """Entries of the YAML files in the folder of one kind, each with the keys it cannot do without."""
        for file in sorted((self.folder / kind).glob("*.y*ml")):
            try:
                content = yaml.safe_load(file.read_text()) or {}
            except (OSError, yaml.YAMLError) as error:
                raise ProvisioningError(f"{file}: {error}") from error
            for entry in content.get(key or kind) or []:
                missing = [name for name in needed if name not in entry]
                if missing:
                    raise ProvisioningError(f"{file}: an entry of {key or kind} has no {', '.join(missing)}: {entry}")
                yield entry

    @staticmethod
    def _model(file: Path) -> dict[str, Any]:
        try:
            model = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ProvisioningError(f"{file}: {error}") from error
        if not isinstance(model, dict) or not model.get("title"):
            raise ProvisioningError(f"{file}: not a dashboard: it has no title")
        return {"uid": file.stem, **model}


def health() -> dict[str, str]:
    """Same shape as Grafana's."""
    return {"commit": "none", "database": "ok", "version": VERSION}


def search(provisioning: Provisioning, query: str) -> list[dict[str, Any]]:
    """Dashboards whose title contains the query."""
    return [
        {
            "uid": dashboard.uid,
            "title": dashboard.title,
            "type": "dash-db",
            "url": dashboard.url,
            "tags": dashboard.model.get("tags", []),
            "folderTitle": dashboard.folder,
        }
        for dashboard in provisioning.dashboards()
        if query.lower() in dashboard.title.lower()
    ]


def metrics(provisioning: Provisioning) -> str:
    """For the monitor that would read Grafana's; under names of our own."""
    return (
        "# HELP grafana_stand_in_info 1 where a stand-in runs instead of Grafana.\n"
        "# TYPE grafana_stand_in_info gauge\n"
        f'grafana_stand_in_info{{version="{VERSION}"}} 1\n'
        "# HELP grafana_stand_in_dashboards Dashboards provisioned.\n"
        "# TYPE grafana_stand_in_dashboards gauge\n"
        f"grafana_stand_in_dashboards {len(provisioning.dashboards())}\n"
    )


def dashboard_by_uid(provisioning: Provisioning, uid: str) -> dict[str, Any] | None:
    """Same shape as Grafana's; ``None`` if there is no such dashboard."""
    for dashboard in provisioning.dashboards():
        if dashboard.uid == uid:
            meta = {"provisioned": True, "canEdit": False, "url": dashboard.url, "folderTitle": dashboard.folder}
            return {"meta": meta, "dashboard": dashboard.model}
    return None


def page(provisioning: Provisioning) -> str:
    """What was provisioned, for a person."""
    sources = "".join(
        f"<tr><td>{html.escape(source['name'])}<td>{html.escape(source['type'])}<td>{html.escape(source['url'])}"
        for source in provisioning.data_sources()
    )
    dashboards = "".join(
        f"<tr><td><a href='/api/dashboards/uid/{html.escape(dashboard.uid)}'>{html.escape(dashboard.title)}</a>"
        f"<td>{html.escape(dashboard.folder)}<td>{dashboard.drawn}"
        for dashboard in provisioning.dashboards()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{HEADLINE}</title>
<style>
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }}
body {{ max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }}
.note {{ border-left: .3rem solid #d97706; padding: .1rem 1rem; background: #d9770622; }}
table {{ width: 100%; border-collapse: collapse; }}
th, td {{ text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #8886; overflow-wrap: anywhere; }}
</style>
<h1>{HEADLINE}</h1>
<div class="note"><p>Grafana's image was out of reach, so nothing is drawn here. Below is what Grafana would have been
provisioned with. To get Grafana itself, run the role with its image: <code>grafana_stand_in: false</code>.</p></div>
<h2>Data sources</h2>
<table><tr><th>Name<th>Type<th>Address{sources}</table>
<h2>Dashboards</h2>
<table><tr><th>Title<th>Folder<th>Panels{dashboards}</table>
</html>
"""


class Handler(BaseHTTPRequestHandler):
    """Answers Grafana's questions about health and provisioning."""

    server_version = VERSION
    provisioning: Provisioning

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        try:
            self._answer(address.path, parse_qs(address.query))
        except ProvisioningError as error:
            print(error, file=sys.stderr, flush=True)
            self._json({"message": str(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _answer(self, path: str, arguments: dict[str, list[str]]) -> None:
        uid = path.removeprefix("/api/dashboards/uid/")
        if path == "/":
            self._send("text/html; charset=utf-8", page(self.provisioning))
        elif path == "/api/health":
            self._json(health())
        elif path == "/metrics":
            self._send("text/plain; version=0.0.4; charset=utf-8", metrics(self.provisioning))
        elif path == "/api/search":
            self._json(search(self.provisioning, arguments.get("query", [""])[0]))
        elif path == "/api/datasources":
            self._json(self.provisioning.data_sources())
        elif uid != path and (found := dashboard_by_uid(self.provisioning, uid)):
            self._json(found)
        else:
            self._json({"message": f"Not found. {HEADLINE}."}, HTTPStatus.NOT_FOUND)

    def _json(self, content: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send("application/json", json.dumps(content), status)

    def _send(self, content_type: str, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes ask every few seconds."""


def stop(number: int, frame: FrameType | None) -> None:
    """Process 1 of a container has to end itself: the kernel does nothing about SIGTERM there."""
    raise SystemExit(0)


def main() -> None:
    """Serve until SIGTERM, configured by the same variables as Grafana."""
    signal.signal(signal.SIGTERM, stop)
    Handler.provisioning = Provisioning(Path(os.environ.get("GF_PATHS_PROVISIONING", "/etc/grafana/provisioning")))
    try:
        sources, dashboards = Handler.provisioning.data_sources(), Handler.provisioning.dashboards()
    except ProvisioningError as error:
        raise SystemExit(f"Grafana stand-in: {error}") from error
    server = ThreadingHTTPServer(("", int(os.environ.get("GF_SERVER_HTTP_PORT", "3000"))), Handler)
    found = f"{len(sources)} data sources, {len(dashboards)} dashboards"
    print(f"{HEADLINE}. Port {server.server_port}, {found}.", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
