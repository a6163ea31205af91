"""A page with one button. Its clicks are the metric that an autoscaler watches.

``DEMO_APP_PEERS`` may name a headless service of the app's pods; the page then knows how many replicas there are.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, Response, send_from_directory
from prometheus_client import Counter
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

PAGE = Path(__file__).parent / "ui" / "dist"
# Seconds an answer of the name service is used for: many open pages ask once a second.
PEERS_MAX_AGE = 2.0
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics(GunicornInternalPrometheusMetrics):
    """The exporter's request counter and latency histogram, all workers summed up."""

    def info(self, *args: object, **labels: object) -> None:
        """Leave out the exporter's version: in several processes it is a series per worker ever started."""


class KnownMethods:
    """Answers requests with made-up methods itself, as each would be a new label value in the metrics."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in METHODS:
            return self.application(environ, start_response)
        return Response("Unknown method\n", 501, mimetype="text/plain")(environ, start_response)


class Peers:
    """How many replicas stand behind a headless service, by its addresses."""

    def __init__(self, service: str | None) -> None:
        self.service = service
        self.count: int | None = None
        self.asked = float("-inf")

    def replicas(self) -> int | None:
        """Ready replicas; ``None`` without a service, or while its name has no address."""
        if self.service and time.monotonic() - self.asked > PEERS_MAX_AGE:
            # A service of two address families has each pod twice.
            families = [self._addresses(family) for family in (socket.AF_INET, socket.AF_INET6)]
            self.count = max(families) or None
            self.asked = time.monotonic()
        return self.count

    def _addresses(self, family: socket.AddressFamily) -> int:
        try:
            found = socket.getaddrinfo(self.service, None, family, socket.SOCK_STREAM)
        except socket.gaierror:
            return 0
        return len({address[4][0] for address in found})


app = Flask(__name__, static_folder=PAGE / "assets", static_url_path="/assets")
app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 24 * 3600  # The names of the page's parts change with their content.
app.wsgi_app = KnownMethods(app.wsgi_app)  # type: ignore[method-assign]

# By endpoint, never by path: paths that do not exist share one value.
metrics = RequestMetrics(app, group_by="endpoint", buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5))
# No registry: it is read from the files that the workers share, and made here it is 0 before the first click.
clicks = Counter("demo_app_button_clicks", "Clicks on the button", registry=None)
peers = Peers(os.environ.get("DEMO_APP_PEERS"))


def clicks_of_all_workers() -> int:
    """Clicks on this pod since it started."""
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    # A worker's file is empty for a moment before its first count: nothing that could be read, and nothing to add.
    files = [str(file) for file in folder.glob("counter_*.db") if file.stat().st_size]
    families = MultiProcessCollector.merge(files)
    samples = (sample for family in families for sample in family.samples)
    return int(sum(sample.value for sample in samples if sample.name == "demo_app_button_clicks_total"))


@app.after_request
def restrict(response: Response) -> Response:
    """Let the page load nothing but its own parts."""
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@app.get("/")
def page() -> Response:
    if not (PAGE / "index.html").exists():
        return Response("The page is not built: run npm ci && npm run build in ui/\n", 503, mimetype="text/plain")
    return send_from_directory(PAGE, "index.html", max_age=0)


@app.post("/click-button")
def click_button() -> dict[str, Any]:
    clicks.inc()
    return state()


@app.get("/api/state")
def state() -> dict[str, Any]:
    """Clicks of this pod since it started, the pod's name, and the number of ready replicas (null: unknown)."""
    return {"clicks": clicks_of_all_workers(), "pod": socket.gethostname(), "replicas": peers.replicas()}


@app.get("/healthz")
@metrics.do_not_track()
def healthz() -> Response:
    return Response("ok\n", mimetype="text/plain")
