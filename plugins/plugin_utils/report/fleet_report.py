# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Records of runs for people: the table at the end of a run, and fleet.html."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.files import replace_file
from ..common.text import aligned
from ..fleet.plan import count_changes, failures_of, folded, grouped
from ..fleet.run_record import Record, clusters_of, read_runs, ring_order
from .pages import environment

PAGE = "fleet.html"
#: State of a cluster whose run has no end.
NOT_ENDED = "not ended"

#: With this number of clusters or fewer the table has a row for each phase, else a row for each cluster.
FEW = 4
#: Phases that took less than this number of seconds on every cluster are only counted.
SHORTEST_SHOWN = 0.1
#: Least and largest width of the table, in characters.
NARROWEST, WIDEST = 80, 200


def seconds_of(record: Record) -> dict[str, dict[str, float]]:
    """Return the seconds of every phase on every cluster, by phase in the order of the run."""
    rows: dict[str, dict[str, float]] = {}
    for phase in record["phases"]:
        row = rows.setdefault(phase["phase"], {})
        row[phase["cluster"]] = row.get(phase["cluster"], 0.0) + phase["ended"] - phase["started"]
    return rows


def state_of(record: Record, cluster: str) -> str:
    """Return the state of a cluster, with the failed phase if there is one; "" for a host without a cluster."""
    state = str(record["clusters"].get(cluster, {}).get("state", ""))
    phase = failed_phase(record, cluster) if state in ("failed", "unreachable") else ""
    return f"{state}: {phase}" if phase else state


def failed_phase(record: Record, cluster: str) -> str:
    """Return the first phase that failed on a cluster, or "" if no phase failed."""
    return next((str(p["phase"]) for p in record["phases"] if p["cluster"] == cluster and p["failed"]), "")


def table(record: Record, columns: int | None = None) -> list[str]:
    """Return the lines of the table of clusters and phases, with states and seconds.

    With many clusters each has a row with the longest phases that fit into `columns` characters (default: terminal).
    """
    names = clusters_of(record)
    rows = seconds_of(record)
    shown = {
        phase: row
        for phase, row in rows.items()
        if any(row.get(name, 0) >= SHORTEST_SHOWN or failed_phase(record, name) == phase for name in names)
    }
    whole = f"whole run: {(record['ended'] or record['started']) - record['started']:.1f}"
    if len(names) > FEW:
        width = columns or max(NARROWEST, min(WIDEST, shutil.get_terminal_size((120, 24)).columns))
        return [*_many(record, names, shown, width), whole]
    cells = [["seconds per phase", *names]]
    cells += [[phase, *(_figure(row.get(name)) for name in names)] for phase, row in shown.items()]
    if len(shown) < len(rows):
        cells.append([f"({len(rows) - len(shown)} phases under {SHORTEST_SHOWN} s)"])
    if record["clusters"]:
        cells.append(["state", *(state_of(record, name) for name in names)])
    return aligned([*cells, [whole]], 1)


def _many(record: Record, names: Sequence[str], rows: Mapping[str, Mapping[str, float]], width: int) -> list[str]:
    known = record["clusters"]
    cells = [["cluster", "ring", "state", "seconds"]]
    for name in names:
        ring = known.get(name, {}).get("ring")
        total = sum(row.get(name, 0.0) for row in rows.values())
        cells.append([name, "" if ring is None else str(ring), state_of(record, name), _figure(total)])
    left = width - max(len(line) for line in aligned(cells, 3)) - len("  99 others")
    chosen = []
    for phase in sorted(rows, key=lambda phase: -max(rows[phase].values())):
        values = [_figure(rows[phase].get(name)) for name in names]
        needed = 2 + max(map(len, [phase, *values]))
        if needed <= left:
            chosen.append(phase)
            left -= needed
    others = [phase for phase in rows if phase not in chosen]
    cells[0] += [phase for phase in rows if phase in chosen] + ([f"{len(others)} others"] if others else [])
    for line, name in zip(cells[1:], names, strict=True):
        line += [_figure(row.get(name)) for phase, row in rows.items() if phase in chosen]
        if others:
            line.append(_figure(sum(rows[phase].get(name, 0.0) for phase in others)))
    return aligned(cells, 3)


def _figure(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def write_page(fleet_dir: Path) -> Path:
    """Write the last runs of a fleet to `fleet.html`. Return the path of the page. Raise OSError if that fails."""
    page = fleet_dir / PAGE
    replace_file(page, render(read_runs(fleet_dir)))
    return page


def render(runs: Sequence[Record]) -> str:
    """Return the page of a fleet's runs (oldest first): HTML without external files."""
    pages = environment()
    pages.filters["figure"] = _figure
    last = runs[-1] if runs else None
    seconds = seconds_of(last) if last else {}
    shown = {
        phase: row for phase, row in seconds.items() if max(row.values()) >= SHORTEST_SHOWN or _failed(last, phase)
    }
    return pages.get_template("fleet.html.j2").render(
        rings=_rings(runs),
        verdict=_verdict(runs),
        last=last and _summary(last),
        names=clusters_of(last) if last else [],
        phases=shown,
        folded_phases=len(seconds) - len(shown),
        longest=max((value for row in shown.values() for value in row.values()), default=0) or 1,
        failed_phase=failed_phase,
        groups=[(clusters, changes, folded(changes)) for clusters, changes in grouped(last)] if last else [],
        findings=_findings(runs),
        runs=[_summary(record) for record in reversed(runs)],
    )


def _failed(record: Record | None, phase: str) -> bool:
    return record is not None and any(p["phase"] == phase and p["failed"] for p in record["phases"])


def _end_of(record: Record, cluster: str) -> str:
    """Return the state of a cluster in a run. A run without an end was killed or still runs."""
    state = str(record["clusters"][cluster]["state"])
    return NOT_ENDED if state == "ok" and record["ended"] is None else state


def _summary(record: Record) -> dict[str, Any]:
    """Return a record with the values that the page shows of a run."""
    ends = Counter(_end_of(record, cluster) for cluster in record["clusters"])
    return {
        **record,
        "title": Path(record["playbook"]).stem or record["playbook"],
        "seconds": None if record["ended"] is None else record["ended"] - record["started"],
        "changed": count_changes(record).total(),
        "ends": dict(sorted(ends.items(), key=lambda item: (item[0] != "ok", item[0]))),
        "style": "good" if set(ends) <= {"ok"} else "bad" if {"failed", "unreachable"} & set(ends) else "note",
    }


def _rings(runs: Sequence[Record]) -> list[dict[str, Any]]:
    """Return all clusters by ring, each with its runs (newest first). Facts of a cluster come from its newest run."""
    rings: dict[str, dict[str, dict[str, Any]]] = {}
    clusters: dict[str, dict[str, Any]] = {}
    for record in reversed(runs):
        parts = _parts(record)
        for name in clusters_of(record):
            if name not in parts:
                continue
            if name not in clusters:
                known = record["clusters"][name]
                ring = "" if known.get("ring") is None else str(known["ring"])
                clusters[name] = rings.setdefault(ring, {})[name] = {"name": name, **known, "history": []}
            clusters[name]["history"].append(parts[name])
    return [{"ring": ring, "clusters": list(rings[ring].values())} for ring in sorted(rings, key=ring_order)]


def _parts(record: Record) -> dict[str, dict[str, Any]]:
    """Return what the page shows of a run, by cluster."""
    seconds: Counter[str] = Counter()
    for row in seconds_of(record).values():
        seconds.update(row)
    messages, counts = failures_of(record), count_changes(record)
    parts = {}
    for cluster in record["clusters"]:
        state = _end_of(record, cluster)
        parts[cluster] = {
            "title": Path(record["playbook"]).stem or record["playbook"],
            "started": record["started"],
            "seconds": seconds[cluster],
            "changes": counts[cluster],
            "check": record["check"],
            "state": state,
            "style": "good" if state == "ok" else "bad" if state in ("failed", "unreachable") else "note",
            "message": messages.get(cluster, ""),
        }
    return parts


def _verdict(runs: Sequence[Record]) -> dict[str, Any]:
    """Return whether the newest run of every cluster ended well: a style, a headline and a sentence."""
    newest = {name: _end_of(record, name) for record in runs for name in record["clusters"]}
    ends = Counter(newest.values())
    bad = sum(count for state, count in ends.items() if state != "ok")
    if not newest:
        return {"style": "note", "word": "No cluster yet", "text": "There is no record of a run on a cluster."}
    text = ", ".join(f"{count} {state}" for state, count in ends.most_common())
    if not bad:
        return {
            "style": "good",
            "word": "All is well",
            "text": f"The newest run of each of {len(newest)} clusters: {text}.",
        }
    failed = [name for name, state in newest.items() if state in ("failed", "unreachable")]
    word = f"{bad} of {len(newest)} {'needs' if bad == 1 else 'need'} attention"
    return {"style": "bad" if failed else "note", "word": word, "text": f"The newest run of each cluster: {text}."}


def _findings(runs: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the newest result of each kind and cluster, failed results first."""
    newest = {
        (entry["cluster"], entry["kind"]): {**entry, "started": record["started"]}
        for record in runs
        for entry in record["results"]
    }
    return sorted(newest.values(), key=lambda entry: (bool(entry["ok"]), entry["kind"], entry["cluster"]))
