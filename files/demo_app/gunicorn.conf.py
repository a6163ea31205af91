"""How gunicorn serves the demo app, in a pod and on a laptop alike."""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

bind = "0.0.0.0:8000"
workers = 4
# Threads, so that a connection a browser opens ahead of need does not keep a whole worker waiting.
threads = 4
# Every request on a connection of its own: a Service spreads connections, not requests, over the pods.
keepalive = 0
# Seconds. Answers take milliseconds, and a worker told to stop in the moment it is forked does not hear it: don't wait.
graceful_timeout = 2
# The socket for gunicorn's control program would need a writable home.
control_socket_disable = True

# Where the workers leave their numbers for each other. The Prometheus client reads it once, when it is first imported:
# nothing in this file may import it before.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(Path(tempfile.gettempdir(), "demo-app-metrics")))


def on_starting(server: Arbiter) -> None:
    """Forget the numbers of an earlier start in this folder, then load the app once for all workers.

    ``preload_app`` would load it before this hook, and the files of the app's own process would be removed under it.
    """
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    for numbers in folder.glob("*.db"):
        numbers.unlink()
    app = importlib.import_module("demo_app").app
    # The first request is slow and makes the request metrics: pay for it once, before the workers are forked.
    app.test_client().get("/")


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Drop what only a living worker may report; its counts stay part of the sums."""
    exporter = importlib.import_module("prometheus_flask_exporter.multiprocess")
    exporter.GunicornInternalPrometheusMetrics.mark_process_dead_on_child_exit(worker.pid)
