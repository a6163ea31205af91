"""A constant load from outside the cluster, and what an autoscaler makes of it, timed by one clock."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube

SYNC = 15.0


class Clicks:
    """So many clicks per second on the demo app, whether they succeed or not; a context manager.

    They come at random, as those of people do: a rate that stays the same shows in no status that it was read again.
    """

    def __init__(self, address: str, port: int, rate: float) -> None:
        self.address, self.port, self.rate = address, port, rate
        self.lost = 0
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(100)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Clicks:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._click)
            due += random.expovariate(self.rate)

    def _click(self) -> None:
        # A new connection each time: every click may go to another pod.
        connection = http.client.HTTPConnection(self.address, self.port, timeout=2)
        try:
            connection.request("POST", "/click-button")
            connection.getresponse().read()
        except OSError:
            self.lost += 1
        finally:
            connection.close()


def follow(
    api: kube.Api, kind: tuple[str, str, str | None], receive: Callable[[kube.Event], None], name: str = ""
) -> threading.Event:
    """Pass on the events of one kind (apiVersion, kind, namespace), or of one object of it, until the result is set."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with contextlib.suppress(kube.ApiError):
                for event in api.watch(*kind, None, f"metadata.name={name}" if name else None, timeout=60):
                    receive(event)
                    if stop.is_set():
                        return

    threading.Thread(target=run, daemon=True).start()
    return stop


@dataclass
class Conditions:
    """When one condition of objects changed, as the API's watches bring it; a context manager.

    `kinds` are (apiVersion, kind, namespace), each with the type of its condition.
    """

    api: kube.Api
    kinds: dict[tuple[str, str, str | None], str]
    changes: list[tuple[float, str, str]] = field(default_factory=list)

    def __enter__(self) -> Conditions:
        self._stops = [follow(self.api, kind, self._note(kind[1], of)) for kind, of in self.kinds.items()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stop in self._stops:
            stop.set()

    def _note(self, kind: str, condition: str) -> Callable[[kube.Event], None]:
        known: dict[str, str] = {}

        def note(event: kube.Event) -> None:
            name = f"{kind} {event.object['metadata']['name']}"
            found = event.object.get("status", {}).get("conditions") or []
            said = next((entry for entry in found if entry["type"] == condition), {"status": "none"})
            now = f"{condition} {said['status']} {said.get('reason', '')}" if event.type != "DELETED" else "gone"
            if known.setdefault(name, now) != now:
                known[name] = now
                self.changes.append((time.monotonic(), name, now))

        return note

    def trail(self, since: float) -> str:
        """What changed since a time, a line for each change."""
        changes = sorted(change for change in list(self.changes) if change[0] >= since)
        return "\n".join(f"{at - since:6.1f} s: {name}: {now}" for at, name, now in changes)


@dataclass(frozen=True)
class Reading:
    """What an autoscaler's status said at a time (monotonic); ``why`` it could not scale, if so."""

    at: float
    values: str
    active: bool
    wanted: int
    why: str = ""


@dataclass
class Watched:
    """Every change of one autoscaler's status, as the API's watch brings it; a context manager."""

    api: kube.Api
    namespace: str
    name: str
    readings: list[Reading] = field(default_factory=list)

    def __enter__(self) -> Watched:
        kind = ("autoscaling/v2", "HorizontalPodAutoscaler", self.namespace)
        self._stop = follow(self.api, kind, self._note, self.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def _note(self, event: kube.Event) -> None:
        if event.type != "DELETED":
            self.readings.append(self._read(event.object))

    @staticmethod
    def _read(item: dict[str, Any]) -> Reading:
        status = item.get("status", {})
        told = {entry["type"]: entry for entry in status.get("conditions") or []}
        scaling = told.get("ScalingActive", {})
        active = scaling.get("status") == "True"
        why = "" if active else scaling.get("message", "no word of it")
        return Reading(
            time.monotonic(), str(status.get("currentMetrics")), active, status.get("desiredReplicas", 0), why
        )

    def trail(self, since: float) -> str:
        """What was read since a time, a line for each."""
        return "\n".join(
            f"{reading.at - since:6.1f} s: {reading.wanted} wanted, {reading.why or reading.values}"
            for reading in list(self.readings)
            if reading.at >= since
        )

    def fresh(self, since: float) -> list[float]:
        """Times since which the autoscaler had a new value of its metric, the last one before `since` first."""
        times: list[float] = []
        values = ""
        for reading in list(self.readings):
            if reading.active and reading.values != values:
                if reading.at < since:
                    times = []
                times.append(reading.at)
            values = reading.values
        return times

    def count(self, since: float) -> int:
        """How many new values the metric had since a time."""
        return len([at for at in self.fresh(since) if at >= since])

    def gap(self, since: float) -> float:
        """Longest time without a new value of the metric, from the last one before `since` until now."""
        times = [*self.fresh(since), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def inactive(self, since: float) -> float:
        """Seconds since a time in which the autoscaler said that it could not scale."""
        readings = [reading for reading in list(self.readings) if reading.at >= since]
        ends = [*(reading.at for reading in readings[1:]), time.monotonic()]
        return sum(end - reading.at for reading, end in zip(readings, ends, strict=True) if not reading.active)

    def wait_for(self, count: int, since: float, longest: float) -> None:
        """Wait until the metric had `count` new values since a time."""
        deadline = time.monotonic() + longest
        while self.count(since) < count:
            assert time.monotonic() < deadline, f"not {count} new values within {longest:g} s: {self.readings[-3:]}"
            time.sleep(0.2)
