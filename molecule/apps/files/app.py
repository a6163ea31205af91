"""An app whose metrics, processor time and memory are what it is told: PUT /values, GET /metrics.

{"gauges": {"open_orders": 7}, "counters": {"jobs_total": 35}, "histograms": {"reply_seconds": [10, 0.4]},
"millicores": 150, "mebibytes": 100}: gauges have values, counters grow by so much each second, histograms count so many
observations each second, all of one value. A name may have labels. What a later call does not name stays. Every other
request is counted, at its end, in http_requests_total.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BOUNDS = ("0.1", "0.25", "0.5", "1", "2.5", "+Inf")
# Processor time is used in slices of so many seconds.
SLICE = 0.05


class Growing:
    """A number that grows by so much each second, from 0."""

    def __init__(self) -> None:
        self.reached, self.rate, self.since = 0.0, 0.0, time.monotonic()

    def set_rate(self, rate: float, now: float) -> None:
        """Grow by another rate from a moment on."""
        self.reached, self.rate, self.since = self.value(now), rate, now

    def value(self, now: float) -> float:
        """Return the number at a moment."""
        return self.reached + self.rate * (now - self.since)


class Values:
    """All that can be set."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = 0
        self.gauges: dict[str, float] = {}
        self.growing: dict[str, Growing] = {}
        self.millicores = 0.0
        self.memory = b""

    def set(self, given: dict[str, Any]) -> None:
        """Take over what is named."""
        with self.lock:
            now = time.monotonic()
            self.gauges.update(given.get("gauges", {}))
            for name, rate in given.get("counters", {}).items():
                self.growing.setdefault(name, Growing()).set_rate(rate, now)
            for name, (rate, observed) in given.get("histograms", {}).items():
                for bound in BOUNDS:
                    bucket = self.growing.setdefault(f'{name}_bucket{{le="{bound}"}}', Growing())
                    bucket.set_rate(rate if observed <= float(bound) else 0, now)
                self.growing.setdefault(f"{name}_count", Growing()).set_rate(rate, now)
                self.growing.setdefault(f"{name}_sum", Growing()).set_rate(rate * observed, now)
            self.millicores = given.get("millicores", self.millicores)
            if "mebibytes" in given:
                # Random bytes: no two pages are the same, and none is only promised.
                self.memory = os.urandom(given["mebibytes"] << 20)

    def exposition(self) -> str:
        """Return all series as Prometheus reads them."""
        with self.lock:
            now = time.monotonic()
            samples = {"http_requests_total": float(self.requests), **self.gauges}
            samples |= {name: growing.value(now) for name, growing in self.growing.items()}
        return "".join(f"{name} {value!r}\n" for name, value in samples.items())

    def count(self) -> None:
        """Count a request."""
        with self.lock:
            self.requests += 1


VALUES = Values()


def use_processor() -> None:
    """Use as much processor time as is asked for."""
    while True:
        until = time.thread_time() + SLICE * VALUES.millicores / 1000
        ends = time.monotonic() + SLICE
        while time.thread_time() < until:
            pass
        time.sleep(max(0.0, ends - time.monotonic()))


class Handler(BaseHTTPRequestHandler):
    """The app's pages."""

    def answer(self, text: str, kind: str = "text/plain; version=0.0.4") -> None:
        """Send a page."""
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Show metrics, or count a request."""
        if self.path == "/metrics":
            self.answer(VALUES.exposition())
        elif self.path == "/healthz":
            self.answer("ok\n")
        else:
            self.answer("hello\n")
            VALUES.count()

    def do_PUT(self) -> None:
        """Set values."""
        VALUES.set(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer("{}", "application/json")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing about requests."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_unused: os._exit(0))
    VALUES.set(json.loads(os.environ.get("VALUES", "{}")))
    threading.Thread(target=use_processor, daemon=True).start()
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()


if __name__ == "__main__":
    main()
