# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Waiting by watch until objects are ready, or gone."""

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

#: Seconds of waiting before the first word about it, and between words.
FIRST_WORD = 5.0
NEXT_WORD = 10.0


class NotReadyError(FleetError):
    """Objects were not ready in time. The message explains each; `objects` are their identities."""

    def __init__(self, message: str, objects: list[Ref]) -> None:
        super().__init__(message)
        self.objects = objects


@dataclass
class _Pending:
    """What is still waited for, shared by the watching threads."""

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
    """Rule of `wait_for` for objects that must be ready."""
    return Verdict(False, "is gone: somebody deleted it") if obj is None else readiness(obj)


def absent(obj: Mapping[str, Any] | None) -> Verdict:
    """Rule of `wait_for` for objects that must go away."""
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
    """Watch until `judge` is content with all objects; `deadline` is a time.monotonic() value.

    `selector` is a label selector that all of them match: it keeps the watches small. `say` gets a line of progress
    now and then. Raises NotReadyError at the deadline, or as soon as something failed for good.
    """
    pending = _Pending(dict.fromkeys(refs, "not seen yet"))
    kinds = {(ref.api_version, ref.kind) for ref in pending.reasons}
    news: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    stop = threading.Event()
    for kind in kinds:
        args = (api, kind, pending, judge, deadline, selector, news, stop)
        threading.Thread(target=_watch_kind, args=args, daemon=True).start()
    started = time.monotonic()
    next_word = started + FIRST_WORD
    try:
        while pending.reasons and not pending.failed:
            now = time.monotonic()
            if now >= deadline:
                break
            if now >= next_word:
                say(_progress(pending, now - started))
                next_word = now + NEXT_WORD
            try:
                problem = news.get(timeout=max(0.01, min(next_word, deadline) - now))
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
            lines.append(f"    (no more is known: {error})")
            explain = error.status != 0  # a server that does not answer is not asked about every object
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
    """List, then watch, one kind until nothing of it is pending; ends with a word to `news`."""
    failures = 0
    while not stop.is_set() and pending.of(kind) and (left := deadline - time.monotonic()) > 0:
        try:
            listing = api.list(*kind, label_selector=selector)
            live = {ref_of(item): item for item in listing.items}
            with pending.lock:
                wanted = [ref for ref in pending.reasons if (ref.api_version, ref.kind) == kind]
            for ref in wanted:
                pending.judge(ref, judge(live.get(ref)))
            news.put(None)
            failures = 0
            if not pending.of(kind):
                return
            for event in api.watch(
                *kind, label_selector=selector, resource_version=listing.resource_version, timeout=min(left, 60.0)
            ):
                obj = {"apiVersion": kind[0], "kind": kind[1], **event.object}
                pending.judge(ref_of(obj), judge(None if event.type == "DELETED" else obj))
                news.put(None)
                if stop.is_set() or not pending.of(kind):
                    return
        except ApiError as error:
            if error.status == 404 and judge is absent:
                with pending.lock:  # the kind itself is gone, and its objects with it
                    for ref in [ref for ref in pending.reasons if (ref.api_version, ref.kind) == kind]:
                        del pending.reasons[ref]
                news.put(None)
                return
            failures += 1
            if error.status in (401, 403):
                news.put(error)
                return
            # A server that is away for a moment (restart of a control plane) may come back before the deadline.
            if stop.wait(min(2.0, 0.1 * 2**failures)):
                return
            with pending.lock:
                for ref in pending.reasons:
                    if (ref.api_version, ref.kind) == kind:
                        pending.reasons[ref] = str(error)
        except Exception as error:  # a thread must not die unheard
            news.put(error)
            return


def unready(api: Api, objects: Iterable[JSON]) -> list[Ref]:
    """Those of the objects that are not ready as they stand and have to be waited for."""
    return [ref_of(obj) for obj in objects if not readiness(obj).ready and not _waits_for_consumer(api, obj)]


def _waits_for_consumer(api: Api, obj: Mapping[str, Any]) -> bool:
    """Whether a volume claim is bound only when a pod uses it: then the pod is what there is to wait for."""
    if obj["kind"] != "PersistentVolumeClaim" or status_of(obj).get("phase", "Pending") != "Pending":
        return False
    name = obj["spec"].get("storageClassName")
    storage_class = api.get("storage.k8s.io/v1", "StorageClass", name) if name else None
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def in_parallel(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Results of `function` for each item in order, made by a few threads; the first exception is raised."""
    todo = list(items)
    if len(todo) < 2:
        return [function(item) for item in todo]
    with ThreadPoolExecutor(min(CONNECTIONS, len(todo))) as pool:
        return list(pool.map(function, todo))
