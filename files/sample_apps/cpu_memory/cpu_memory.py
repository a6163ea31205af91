# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""An app that takes as much CPU and memory as its callers say, to scale on both.

    GET /cpu?milliseconds=25            burns that much CPU time, then answers
    GET /memory?mebibytes=2&seconds=30  answers, and holds that much memory for so long

A constant rate of requests is a constant demand: rate * milliseconds of CPU, and rate * mebibytes * seconds of memory.
It has no metrics of its own: what scales it comes from the kubelet.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

# The most that one request may ask for, by the name of what it asks for.
MOST = {"milliseconds": 10_000, "mebibytes": 64, "seconds": 600}
MEBIBYTE = 1024 * 1024


def burn(milliseconds: int) -> None:
    """Use CPU time of this thread: on a busy machine it takes longer, but is no less."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass


def hold(mebibytes: int, seconds: int) -> None:
    """Hold memory for a while."""
    # A mapping of its own goes back to the system when it is closed; what malloc gets may stay with the process.
    memory = mmap.mmap(-1, mebibytes * MEBIBYTE)
    for page in range(0, len(memory), mmap.PAGESIZE):
        # A page takes memory only once something is written to it.
        memory[page] = 1
    end = threading.Timer(seconds, memory.close)
    end.daemon = True
    end.start()


# What can be asked for: what does it, and its numbers.
ACTIONS = {"/cpu": (burn, ("milliseconds",)), "/memory": (hold, ("mebibytes", "seconds"))}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        """Do what is asked and say so."""
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer(HTTPStatus.OK, "ok")
            return
        if url.path not in ACTIONS:
            self.answer(HTTPStatus.NOT_FOUND, f"there is {' and '.join(ACTIONS)}")
            return
        action, names = ACTIONS[url.path]
        given = dict(parse_qsl(url.query))
        for name in names:
            if not re.fullmatch("[0-9]{1,9}", given.get(name, "")) or int(given[name]) > MOST[name]:
                self.answer(HTTPStatus.BAD_REQUEST, f"{name} must be a number up to {MOST[name]}")
                return
        action(*(int(given[name]) for name in names))
        self.answer(HTTPStatus.OK, "done")

    def answer(self, status: HTTPStatus, text: str) -> None:
        """Send a line of text."""
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Write no line per request."""


class Server(ThreadingHTTPServer):
    """Ends only after the requests that are under way."""

    daemon_threads = False
    # What may wait for its turn when requests come in bursts.
    request_queue_size = 128


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown waits for the loop that this handler interrupts.
        signal.signal(number, lambda *_unused: threading.Thread(target=server.shutdown).start())
    sys.stdout.write(f"listening on port {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
