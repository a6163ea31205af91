"""The report of a cluster, for people (report.html) and for programs (report.json).

Both are in the cluster's state folder. Each run keeps the JSON and updates one section: ``verify`` (checks), ``load``
(timeline) or ``panels`` (data of the dashboards). Old sections are deleted if the cluster was created again.
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

# Widths of the two drawings of a timeline in pixels, for screens and for phones.
WIDE, NARROW = 960, 360
# Images that replace a component that cannot be built, with a note for readers of the report.
STAND_INS = {
    "grafana-stand-in": (
        "Grafana here is a stand-in of this project: it serves /api/health and the provisioned dashboards and data "
        "sources, and draws nothing. Grafana itself cannot be built from the sources that are reachable here. "
        "Set grafana_image_archive to run the real Grafana."
    )
}


def cluster_facts(api: Api) -> dict[str, Any]:
    """Return the identity of a cluster, its nodes, and its components with version and image."""
    nodes = api.raw(NODES)["items"]
    pods = api.raw(PODS)["items"]
    return {
        "identity": api.raw("/api/v1/namespaces/kube-system")["metadata"]["uid"],
        "nodes": [describe_node(node) for node in nodes],
        "components": components(pods),
    }


def describe_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a node that the report shows."""
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
    """Return each running image: component, version, image, namespaces and number of pods."""
    images: dict[str, dict[str, Any]] = {}
    for pod in pods:
        for container in pod["spec"]["containers"]:
            name = container["image"].partition("@")[0]
            repository, _unused, tag = name.rpartition(":")
            if not repository or "/" in tag:  # the colon was a registry's port
                repository, tag = name, ""
            entry = images.setdefault(
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
    return sorted(images.values(), key=lambda entry: (entry["namespaces"][0], entry["component"]))


def read_phases(folder: Path, cluster: str) -> dict[str, Any]:
    """Return playbook, start and seconds per phase of a cluster from the file of callback phases; {} without it."""
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
        # The file is optional, and another process may be writing it. The report is valid without phases.
        return {}


def update_report(folder: Path, cluster: str, facts: Mapping[str, Any], **sections: Mapping[str, Any]) -> Path:
    """Update ``report.json`` and ``report.html`` in ``folder`` with new sections. Return the path of the page."""
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
    """Return whether the cluster works: a boolean, a headline and a sentence."""
    checks = (report.get("verify") or {}).get("checks") or []
    failed = [check for check in checks if not check["ok"]]
    load = report.get("load")
    texts = []
    if load:
        steps = load["steps"]
        start = load["samples"][0]["ready"] if load["samples"] else 0
        if load["ok"]:
            most = max(sample["ready"] for sample in load["samples"])
            texts.append(
                f"Under {load['rate']:g} requests per second the app went from {start} to {most} ready replicas within "
                f"{steps['demanded_ready']:.0f} s, and began to scale in "
                f"{steps['scale_in'] - steps['load_end']:.0f} s after the load ended."
            )
        else:
            texts.append(load["failure"])
    if checks:
        texts.append(
            f"{len(failed)} of {len(checks)} checks do not hold." if failed else f"All {len(checks)} checks hold."
        )
    good = not failed and (not load or load["ok"])
    if not good:
        word = "Did not scale" if load and not load["ok"] else "Not healthy"
    else:
        word = "It scales" if load else "Healthy"
    return {"ok": good, "word": word, "text": " ".join(texts)}


def reaction(load: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table of steps: time of each step, and seconds since the step before."""
    rows: list[dict[str, Any]] = []
    last: float | None = None
    for letter, (name, title) in zip(STEP_LETTERS, STEPS.items(), strict=True):
        t = load["steps"].get(name)
        took = round(t - last, 1) if t is not None and last is not None else None
        rows.append({"letter": letter, "title": title, "t": t, "took": took})
        last = t if t is not None else last
    return rows


def thinned(load: Mapping[str, Any], every: float = 5) -> list[Mapping[str, Any]]:
    """Return a sample about every ``every`` seconds, and each sample at which replicas changed."""
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
    """Return the page of a report: HTML without external files."""
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
