# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Wait by watches until objects are ready, or gone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import FleetError
from .client import CONNECTIONS, JSON, Api, ApiError
from .explanation import Explainer
from .manifests import Ref, ref_of
from .objects import say_condition, status_of
from .readiness import READY, Verdict, readiness

#: Seconds before the first line of progress, and between two lines.
FIRST_LINE = 5.0
NEXT_LINE = 10.0


class NotReadyError(FleetError):
    """Objects were not ready in time. The message explains each object; `objects` are their identities."""

    def __init__(self, message: str, objects: list[Ref]) -> None:
        super().__init__(message)
        self.objects = objects


@dataclass
class _Pending:
    """Objects that are not ready yet, with their reasons. The threads that watch share it."""

    reasons: dict[Ref, str] = field(default_factory=dict)
    failed: dict[Ref, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, kind: tuple[str, str]) -> bool:
        with self.lock:
            return any((ref.api_version, ref.kind) == kind for ref in self.reasons)

    def judge(self, ref: Ref, verdict: Verdict) -> None:
        with self.lock:
            if ref not in self.reasons:
                return
            if verdict.ready:
                del self.reasons[ref]
                return
            self.reasons[ref] = verdict.reason
            if verdict.failed:
                self.failed[ref] = verdict.reason


Judge = Callable[[Mapping[str, Any] | None], Verdict]


def present(obj: Mapping[str, Any] | None) -> Verdict:
    """Return the verdict on an object that must be ready."""
    return Verdict(False, "is gone: somebody deleted it") if obj is None else readiness(obj)


def absent(obj: Mapping[str, Any] | None) -> Verdict:
    """Return the verdict on an object that must be deleted."""
    if obj is None:
        return READY
    finalizers = ", ".join(obj.get("metadata", {}).get("finalizers") or [])
    conditions = [
        say_condition(item) for item in status_of(obj).get("conditions") or [] if item.get("status") == "True"
    ]
    if obj["kind"] == "Namespace":
        return Verdict(False, "; ".join(["is still being emptied", *conditions]))
    return Verdict(False, f"is still there, finalizers: {finalizers or 'none'}")


def wait_for(
    api: Api,
    refs: list[Ref],
    judge: Judge,
    deadline: float,
    selector: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    explain: bool = True,
) -> None:
    """Watch until `judge` returns a ready verdict on each object. `deadline` is a time of time.monotonic().

    `selector` is a label selector that all objects match; it keeps the watches small. `say` gets lines of progress.
    Raise NotReadyError at the deadline, or as soon as a verdict is that an object failed.
    """
    pending = _Pending(dict.fromkeys(refs, "not seen yet"))
    kinds = {(ref.api_version, ref.kind) for ref in pending.reasons}
    news: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    stop = threading.Event()
    for kind in kinds:
        args = (api, kind, pending, judge, deadline, selector, news, stop)
        threading.Thread(target=_watch_kind, args=args, daemon=True).start()
    started = time.monotonic()
    next_line = started + FIRST_LINE
    try:
        while pending.reasons and not pending.failed:
            now = time.monotonic()
            if now >= deadline:
                break
            if now >= next_line:
                say(_progress(pending, now - started))
                next_line = now + NEXT_LINE
            try:
                problem = news.get(timeout=max(0.01, min(next_line, deadline) - now))
            except queue.Empty:
                continue
            if problem is not None:
                raise problem
    finally:
        stop.set()
    if not pending.reasons:
        return
    broken = pending.failed or pending.reasons
    seconds = time.monotonic() - started
    verb = "failed" if pending.failed else ("are not gone" if judge is absent else "are not ready")
    explainer = Explainer(api)
    lines = [f"{len(broken)} of {len(refs)} objects {verb} after {seconds:.0f} s:"]
    for ref, reason in sorted(broken.items()):
        lines.append(f"- {ref}: {reason}")
        try:
            lines += [f"    {line}" for line in explainer.explain(ref)] if explain else []
        except ApiError as error:
            lines.append(f"    (the cause is not known: {error})")
            explain = error.status != 0  # do not ask a server that does not answer about each object
    raise NotReadyError("\n".join(lines), sorted(broken))


def _progress(pending: _Pending, seconds: float) -> str:
    with pending.lock:
        items = sorted(pending.reasons.items())
    shown = "; ".join(f"{ref}: {reason}" for ref, reason in items[:3])
    more = f"; and {len(items) - 3} more" if len(items) > 3 else ""
    return f"waiting since {seconds:.0f} s for {shown}{more}"


def _watch_kind(
    api: Api,
    kind: tuple[str, str],
    pending: _Pending,
    judge: Judge,
    deadline: float,
    selector: str | None,
    news: queue.SimpleQueue[Exception | None],
    stop: threading.Event,
) -> None:
    """List one kind, then watch it until no object of it is pending. Put an entry into `news` after each change."""
    failures = 0
    while not stop.is_set() and pending.of(kind) and (seconds := deadline - time.monotonic()) > 0:
        try:
            listing = api.list(*kind, label_selector=selector)
            live = {ref_of(item): item for item in listing.items}
            with pending.lock:
                refs = [ref for ref in pending.reasons if (ref.api_version, ref.kind) == kind]
            for ref in refs:
                pending.judge(ref, judge(live.get(ref)))
            news.put(None)
            failures = 0
            if not pending.of(kind):
                return
            for event in api.watch(
                *kind, label_selector=selector, resource_version=listing.resource_version, timeout=min(seconds, 60.0)
            ):
                obj = {"apiVersion": kind[0], "kind": kind[1], **event.object}
                pending.judge(ref_of(obj), judge(None if event.type == "DELETED" else obj))
                news.put(None)
                if stop.is_set() or not pending.of(kind):
                    return
        except ApiError as error:
            if error.status == 404 and judge is absent:
                with pending.lock:  # the kind is gone, and so are its objects
                    for ref in [ref for ref in pending.reasons if (ref.api_version, ref.kind) == kind]:
                        del pending.reasons[ref]
                news.put(None)
                return
            failures += 1
            if error.status in (401, 403):
                news.put(error)
                return
            # An API server that restarts may answer again before the deadline.
            if stop.wait(min(2.0, 0.1 * 2**failures)):
                return
            with pending.lock:
                for ref in pending.reasons:
                    if (ref.api_version, ref.kind) == kind:
                        pending.reasons[ref] = str(error)
        except Exception as error:  # wait_for() raises it; an exception in a thread would be lost
            news.put(error)
            return


def unready(api: Api, objects: Iterable[JSON]) -> list[Ref]:
    """Return the identities of objects that are not ready and for which a caller must wait."""
    return [ref_of(obj) for obj in objects if not readiness(obj).ready and not _waits_for_consumer(api, obj)]


def _waits_for_consumer(api: Api, obj: Mapping[str, Any]) -> bool:
    """Return whether a volume claim is bound only when a pod uses it. A caller then waits for the pod only."""
    if obj["kind"] != "PersistentVolumeClaim" or status_of(obj).get("phase", "Pending") != "Pending":
        return False
    name = obj["spec"].get("storageClassName")
    storage_class = api.get("storage.k8s.io/v1", "StorageClass", name) if name else None
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def in_parallel(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Return the results of `function` for the items, in their order. Threads call it. Raise the first exception."""
    todo = list(items)
    if len(todo) < 2:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(min(CONNECTIONS, len(todo))) as pool:
        return list(pool.map(function, todo))
