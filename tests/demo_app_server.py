"""Runs the demo app under its real gunicorn configuration on a free loopback port."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

SOURCE = Path(__file__).parent.parent / "files" / "demo_app"
CLICKS = "demo_app_button_clicks_total"


class DemoApp:
    """A running demo app: its address, its process, and the folder its workers share."""

    def __init__(self, url: str, process: subprocess.Popen[str], folder: Path) -> None:
        self.url = url
        self.process = process
        self.folder = folder

    def request(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Status and body; error statuses are answers as well."""
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def json(self, path: str, method: str = "GET") -> Any:
        return json.loads(self.request(path, method)[1])

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        families = text_string_to_metric_families(self.request("/metrics")[1])
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]

    def clicks(self) -> list[tuple[dict[str, str], float]]:
        return [(labels, value) for name, labels, value in self.samples() if name == CLICKS]

    def clicks_by_process(self) -> dict[int, float]:
        """What each process counted on its own, by process id."""
        counted = {}
        for file in self.folder.glob("counter_*.db"):
            families = MultiProcessCollector.merge([str(file)])
            values = [sample.value for family in families for sample in family.samples if sample.name == CLICKS]
            counted[int(file.stem.removeprefix("counter_"))] = sum(values)
        return counted


@contextmanager
def demo_app(folder: Path, **environment: str) -> Iterator[DemoApp]:
    """The app with its metrics in ``folder`` (made by the app), until the block ends."""
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "-b", "127.0.0.1:0", "demo_app:app"]
    variables = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    with subprocess.Popen(command, cwd=SOURCE, env=variables, stderr=subprocess.PIPE, text=True) as process:
        log = []
        for line in process.stderr or ():
            log.append(line)
            if match := re.search(r"Listening at: (http://[\d.:]+)", line):
                break
        else:
            raise AssertionError(f"gunicorn did not start:\n{''.join(log)}")
        try:
            yield DemoApp(match[1], process, folder)
        finally:
            process.terminate()
            process.communicate(timeout=20)
