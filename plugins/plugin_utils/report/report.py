"""What a run found out about a cluster, for a person (report.html) and for programs (report.json).

Both lie in the cluster's state folder. The JSON is kept from run to run and gets a new section from whoever has one:
``verify`` its checks, ``load`` its timeline, ``panels`` what the dashboards show. When the cluster is another one than
before (it was removed and made again), old sections are dropped.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.files import replace_file
from ..health.facts import NODES, PODS
from ..kube.client import Api
from ..kube.objects import holds
from .chart import STEP_LETTERS, STEPS, time_label, timeline
from .pages import environment
from .panel_views import view

# Widths of the two drawings of a timeline, in pixels: one for screens, one for phones.
WIDE, NARROW = 960, 360
# Images that stand in for something that could not be built: what a reader must know about them.
STAND_INS = {
    "grafana-stand-in": (
        "Grafana here is a stand-in of this project: it serves /api/health and the dashboards and data sources that "
        "are provisioned to it, and draws nothing, because Grafana itself cannot be built from what is reachable here. "
        "Give grafana_image_archive to run the real one."
    )
}


def cluster_facts(api: Api) -> dict[str, Any]:
    """Identity of a cluster, its nodes, and what runs on it in which version and image."""
    nodes = api.raw(NODES)["items"]
    pods = api.raw(PODS)["items"]
    return {
        "identity": api.raw("/api/v1/namespaces/kube-system")["metadata"]["uid"],
        "nodes": [describe_node(node) for node in nodes],
        "components": components(pods),
    }


def describe_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """What the report says about a node."""
    info, prefix = node["status"]["nodeInfo"], "node-role.kubernetes.io/"
    return {
        "name": node["metadata"]["name"],
        "roles": sorted(
            label.removeprefix(prefix) for label in node["metadata"].get("labels", {}) if label.startswith(prefix)
        )
        or ["worker"],
        "ready": holds(node, "Ready"),
        "kubelet": info["kubeletVersion"].removeprefix("v"),
        "runtime": info["containerRuntimeVersion"],
        "system": info["osImage"],
        "kernel": info["kernelVersion"],
    }


def components(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Images that run, each once: component, version, repository, namespaces and number of pods."""
    found: dict[str, dict[str, Any]] = {}
    for pod in pods:
        for container in pod["spec"]["containers"]:
            name = container["image"].partition("@")[0]
            repository, _unused, tag = name.rpartition(":")
            if not repository or "/" in tag:  # the colon was a registry's port
                repository, tag = name, ""
            entry = found.setdefault(
                container["image"],
                {
                    "component": repository.rpartition("/")[2],
                    "version": tag.removeprefix("v"),
                    "image": container["image"],
                    "namespaces": [],
                    "pods": 0,
                },
            )
            entry["pods"] += 1
            if pod["metadata"]["namespace"] not in entry["namespaces"]:
                entry["namespaces"].append(pod["metadata"]["namespace"])
    return sorted(found.values(), key=lambda entry: (entry["namespaces"][0], entry["component"]))


def read_phases(folder: Path, cluster: str) -> dict[str, Any]:
    """Seconds per phase of a cluster, where the phases callback left them, with playbook and start; else nothing."""
    path = Path(os.environ.get("KUBESCALE_PHASES_FILE") or folder.parent / "phases.json")
    summed: dict[str, float] = {}
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        for phase in run["phases"]:
            if phase["cluster"] == cluster:
                summed[phase["phase"]] = summed.get(phase["phase"], 0.0) + phase["ended"] - phase["started"]
        return {
            "playbook": Path(run["playbook"]).name,
            "started": run["started"],
            "phases": [{"phase": name, "seconds": round(seconds, 1)} for name, seconds in summed.items()],
        }
    except (OSError, ValueError, KeyError, TypeError):
        # Nobody asked for that file, or it is being written: the report is whole without it.
        return {}


def update_report(folder: Path, cluster: str, facts: Mapping[str, Any], **sections: Mapping[str, Any]) -> Path:
    """Bring ``report.json`` and ``report.html`` in ``folder`` up to date with new sections; path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "report.json"
    try:
        report = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    if report.get("identity") != facts["identity"]:
        report = {}
    report |= {
        "cluster": cluster,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **facts,
        "not_real": [
            text for name, text in STAND_INS.items() if any(name in entry["image"] for entry in facts["components"])
        ],
        **sections,
    }
    phases = read_phases(folder, cluster)
    if phases:
        report["run"] = phases
    replace_file(store, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    page = folder / "report.html"
    replace_file(page, render(report))
    return page


def verdict(report: Mapping[str, Any]) -> dict[str, Any]:
    """The first thing a reader wants to know: whether it works, in one word and one sentence."""
    checks = (report.get("verify") or {}).get("checks") or []
    failed = [check for check in checks if not check["ok"]]
    load = report.get("load")
    said = []
    if load:
        steps = load["steps"]
        start = load["samples"][0]["ready"] if load["samples"] else 0
        if load["ok"]:
            most = max(sample["ready"] for sample in load["samples"])
            said.append(
                f"Under {load['rate']:g} requests per second the app went from {start} to {most} ready replicas within "
                f"{steps['demanded_ready']:.0f} s, and began to scale in "
                f"{steps['scale_in'] - steps['load_end']:.0f} s after the load ended."
            )
        else:
            said.append(load["failure"])
    if checks:
        said.append(
            f"{len(failed)} of {len(checks)} checks do not hold." if failed else f"All {len(checks)} checks hold."
        )
    good = not failed and (not load or load["ok"])
    if not good:
        word = "Did not scale" if load and not load["ok"] else "Not healthy"
    else:
        word = "It scales" if load else "Healthy"
    return {"ok": good, "word": word, "text": " ".join(said)}


def reaction(load: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of steps: when each was seen, and how long after the one before."""
    rows: list[dict[str, Any]] = []
    last: float | None = None
    for letter, (name, title) in zip(STEP_LETTERS, STEPS.items(), strict=True):
        t = load["steps"].get(name)
        took = round(t - last, 1) if t is not None and last is not None else None
        rows.append({"letter": letter, "title": title, "t": t, "took": took})
        last = t if t is not None else last
    return rows


def thinned(load: Mapping[str, Any], every: float = 5) -> list[Mapping[str, Any]]:
    """Samples about ``every`` seconds apart, and each at which replicas changed: the drawing as a table."""
    kept: list[Mapping[str, Any]] = []
    for sample in load["samples"]:
        last = kept[-1] if kept else None
        if (
            last is None
            or sample["t"] - last["t"] >= every
            or (sample["ready"], sample["desired"]) != (last["ready"], last["desired"])
        ):
            kept.append(sample)
    return kept


def render(report: Mapping[str, Any]) -> str:
    """The page of a report: one file that needs nothing else."""
    pages = environment()
    pages.filters["clock"] = time_label
    load, verify, run = report.get("load"), report.get("verify") or {}, report.get("run") or {}
    checks = verify.get("checks") or []
    return pages.get_template("report.html.j2").render(
        report=report,
        verdict=verdict(report),
        load=load,
        wide=timeline(load, WIDE, "wide") if load else "",
        narrow=timeline(load, NARROW, "narrow") if load else "",
        reaction=reaction(load) if load else [],
        samples=thinned(load) if load else [],
        verify=verify,
        checks=checks,
        failed=[check for check in checks if not check["ok"]],
        panels=view(report["panels"]) if report.get("panels") else None,
        run=run,
        longest=max((phase["seconds"] for phase in run.get("phases", [])), default=0) or 1,
    )
