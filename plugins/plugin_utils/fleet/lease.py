# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""A Lease in the cluster admits one run at a time and identifies the cluster.

The Lease (coordination.k8s.io/v1, ``kube-system/kubescale-fleet``) records the cluster's name in the inventory and the
run that works on it. All times are the API server's, so the clocks of two controllers may differ.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ..common.errors import FleetError
from ..common.runs import BOOT, start_time, who
from ..kube.client import JSON, Api, ApiError
from ..kube.objects import parse_time

NAME = "kubescale-fleet"
NAMESPACE = "kube-system"
_KIND = ("coordination.k8s.io/v1", "Lease")
#: The cluster's name in the inventory, and the process that holds the lease.
CLUSTER_ANNOTATION = "fleet.kubescale.io/cluster"
PROCESS_ANNOTATION = "fleet.kubescale.io/process"
#: Seconds after which a lease without renewal is free, and seconds between two renewals.
DURATION = 60
RENEWAL = 15
#: Seconds after which the lease of a run without the callback `leases` is free.
UNATTENDED_DURATION = 3600
_PID_NAMESPACE = Path("/proc/self/ns/pid")


class LeaseError(FleetError):
    """The cluster has another name, or another run holds its lease; the message names it and the remedy."""


class LostError(LeaseError):
    """Another run has taken the lease, because it was not renewed in time."""


@dataclass(frozen=True)
class Holder:
    """A run that may hold leases: a name for people, and the mark of its process ("" if unknown)."""

    identity: str
    process: str = ""


@dataclass(frozen=True)
class Held:
    """A lease that a run holds: the cluster's name, the run, and the seconds that it lasts without renewal."""

    cluster: str
    holder: Holder
    duration: int
    #: Seconds by which the server's clock is ahead of ours.
    ahead: float


def this_run(pid: int) -> Holder:
    """Return the run whose main process is ``pid``."""
    return Holder(f"{who()} (process {pid})", process_mark(pid))


def process_mark(pid: int) -> str:
    """Return a text that is unique among processes since boot, or "" if /proc does not have it."""
    try:
        return f"{BOOT.read_text(encoding='utf-8').strip()}/{_PID_NAMESPACE.stat().st_ino}/{pid}/{start_time(pid)}"
    except OSError:
        return ""


def is_dead(mark: str) -> bool:
    """Return whether the process of a mark has ended. Return False for a process of another machine."""
    try:
        boot, space, pid, _started = mark.split("/")
        if boot != BOOT.read_text(encoding="utf-8").strip() or int(space) != _PID_NAMESPACE.stat().st_ino:
            return False
        # /proc may hide the processes of other users, so a process that it does not show is asked by a signal.
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    now = process_mark(int(pid))
    return bool(now) and now != mark


def check(api: Api, cluster: str, renamed_from: str = "") -> str:
    """Return the holder of the cluster's lease ("" if free). Raise LeaseError if the recorded name differs."""
    found = api.get(*_KIND, NAME, NAMESPACE)
    if found is None:
        return ""
    _check_identity(found, cluster, renamed_from)
    return "" if _is_free(found, Holder("nobody"), _server_time(api)) else _holder_of(found)


def take(api: Api, cluster: str, holder: Holder, duration: int = DURATION, renamed_from: str = "") -> Held:
    """Take the lease and record the cluster's name.

    ``renamed_from`` is a former name that is accepted, too. Raise LeaseError if the recorded name differs, or if
    another run holds the lease; ApiError if the server refuses to read or write it.
    """
    now = _server_time(api)
    ahead = (now - datetime.datetime.now(datetime.UTC)).total_seconds()
    found = api.get(*_KIND, NAME, NAMESPACE)
    body = _lease(cluster, holder, duration, now)
    if found is not None:
        _check_identity(found, cluster, renamed_from)
        if not _is_free(found, holder, now):
            raise LeaseError(_refusal(found, now))
        body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
    try:
        _write(api, body, new=found is None)
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise
        raise LeaseError("another run has just taken the lease of this cluster; run again when it is done") from error
    return Held(cluster, holder, duration, ahead)


def renew(api: Api, held: Held) -> None:
    """Renew the lease. Raise LostError if another run has taken it."""
    _update(api, held, held.holder)


def release(api: Api, held: Held) -> None:
    """End the lease, so that the next run starts at once. The cluster's name stays recorded."""
    _update(api, held, None)


def _update(api: Api, held: Held, holder: Holder | None) -> None:
    found = api.get(*_KIND, NAME, NAMESPACE)
    if found is None or not _is_held_by(found, held.holder):
        raise LostError(
            f"the lease of cluster {held.cluster} is lost: {_holder_of(found or {}) or 'nobody'} has it now"
        )
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=held.ahead)
    body = _lease(held.cluster, holder, held.duration, now)
    body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
    if holder is not None:
        body["spec"]["acquireTime"] = found["spec"].get("acquireTime")
    _write(api, body, new=False)


def _lease(cluster: str, holder: Holder | None, duration: int, now: datetime.datetime) -> JSON:
    annotations = {CLUSTER_ANNOTATION: cluster}
    spec: JSON = {}
    if holder is not None:
        time = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": holder.identity,
            "leaseDurationSeconds": duration,
            "acquireTime": time,
            "renewTime": time,
        }
        annotations[PROCESS_ANNOTATION] = holder.process
    return {
        "apiVersion": _KIND[0],
        "kind": _KIND[1],
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": annotations},
        "spec": spec,
    }


def _write(api: Api, body: JSON, new: bool) -> None:
    resource = api.resource(*_KIND)
    path = resource.path(NAMESPACE, None if new else NAME)
    api.request("POST" if new else "PUT", path, {"fieldManager": "kubescale.fleet"}, body)


def _check_identity(found: JSON, cluster: str, renamed_from: str) -> None:
    known = _annotations(found).get(CLUSTER_ANNOTATION, cluster)
    if known not in (cluster, renamed_from):
        raise LeaseError(
            f"this kubeconfig leads to cluster {known}, not to {cluster}: nothing was changed. Correct the kubeconfig; "
            f"if the cluster was given a new name, set cluster_renamed_from to {known}"
        )


def _is_free(found: JSON, holder: Holder, now: datetime.datetime) -> bool:
    if not _holder_of(found) or _is_held_by(found, holder):
        return True
    return _expires(found) <= now or is_dead(_annotations(found).get(PROCESS_ANNOTATION, ""))


def _is_held_by(found: JSON, holder: Holder) -> bool:
    # Two containers may share a host name and process numbers, so the identity alone is not enough.
    return (_holder_of(found), _annotations(found).get(PROCESS_ANNOTATION, "")) == (holder.identity, holder.process)


def _expires(found: JSON) -> datetime.datetime:
    spec = found["spec"]
    renewed = parse_time(spec.get("renewTime") or "1970-01-01T00:00:00+00:00")
    return renewed + datetime.timedelta(seconds=spec.get("leaseDurationSeconds") or 0)


def _refusal(found: JSON, now: datetime.datetime) -> str:
    left = max(1, round((_expires(found) - now).total_seconds()))
    since = found["spec"].get("acquireTime", "")[:19].replace("T", " ")
    return (
        f"{_holder_of(found)} works on this cluster since {since} UTC: nothing was changed. Run again when that is "
        f"done. If that run is dead, its lease ends by itself in {left} s"
    )


def _holder_of(found: JSON) -> str:
    return str((found.get("spec") or {}).get("holderIdentity") or "")


def _annotations(found: JSON) -> dict[str, Any]:
    return found["metadata"].get("annotations") or {}


def _server_time(api: Api) -> datetime.datetime:
    return api.clock() or datetime.datetime.now(datetime.UTC)
