"""The table at the end of a run and the page of the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import run_record
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.run_record import Phase, RunRecord
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report import fleet_report


def make_record(clusters: dict[str, tuple[int, str]], *phases: Phase, ended: float | None = 12.0) -> dict[str, Any]:
    """A record of clusters with ring and state; phases of failed ones say themselves that they failed."""
    record = RunRecord("r", "/here/site.yml", 0)
    record.phases = list(phases)
    for name, (ring, state) in clusters.items():
        record.add_cluster(name, ring, "staging")
        record.clusters[name]["state"] = state
    return record.document(ended)


def test_few_clusters_have_a_column_each_and_short_phases_are_folded() -> None:
    record = make_record(
        {"b": (1, "failed"), "a": (0, "ok")},
        Phase("node_prep", "p", "a", 0, 10),
        Phase("node_prep", "p", "b", 0, 2.25),
        Phase("cni", "p", "b", 2, 2.01, failed=1),
        Phase("hpa", "p", "a", 2, 2.01),
    )
    assert fleet_report.table(record) == [
        "seconds per phase          a            b",
        "node_prep               10.0          2.2",
        "cni                                   0.0",
        "(1 phases under 0.1 s)",
        "state                     ok  failed: cni",
        "whole run: 12.0",
    ]


def test_hosts_without_cluster_have_no_state() -> None:
    assert fleet_report.table(make_record({}, Phase("artifacts", "p", "laptop", 0, 1))) == [
        "seconds per phase  laptop",
        "artifacts             1.0",
        "whole run: 12.0",
    ]


def test_many_clusters_have_a_row_each_with_the_longest_phases_that_fit() -> None:
    clusters = {f"c{number}": (number // 3, "ok") for number in range(6, -1, -1)}
    clusters["c6"] = (2, "unreachable")
    phases = [
        Phase(phase, "p", name, 0, seconds, failed=name == "c6" and phase == "reach")
        for name in clusters
        for phase, seconds in (("reach", 1), ("prometheus_adapter", 5), ("kube_state_metrics", 2), ("hpa", 3))
        if name != "c6" or phase == "reach"
    ]
    lines = fleet_report.table(make_record(clusters, *phases), columns=80)
    assert lines[0].split("  ")[0] == "cluster"
    assert lines[0].endswith("prometheus_adapter  hpa  2 others")
    assert lines[1].split() == ["c2", "0", "ok", "11.0", "5.0", "3.0", "3.0"]
    assert [line.split()[0] for line in lines[1:-1]] == ["c2", "c1", "c0", "c5", "c4", "c3", "c6"]
    assert lines[-2].split() == ["c6", "2", "unreachable:", "reach", "1.0", "1.0"]
    assert max(map(len, lines)) <= 80
    wide = fleet_report.table(make_record(clusters, *phases), columns=200)
    assert wide[0].endswith("reach  prometheus_adapter  kube_state_metrics  hpa")


def pages_of(*records: dict[str, Any]) -> str:
    return fleet_report.render(records)


def test_page_shows_what_failed_and_escapes_it() -> None:
    record = make_record({"good": (0, "ok"), "bad": (1, "failed")}, Phase("cni", "p", "bad", 0, 2, failed=1))
    record["failures"] = [{"cluster": "bad", "host": "bad", "task": "Apply", "message": "no <b>luck</b>"}]
    page = pages_of(record)
    assert "1 of 2 needs attention" in page
    assert "no &lt;b&gt;luck" in page
    assert "<b>luck" not in page
    assert page.index("Ring 0") < page.index("Ring 1")
    assert '<td class="bad">✗ 2.0</td>' in page


def test_page_knows_a_cluster_by_its_newest_run() -> None:
    failed = make_record({"one": (0, "failed"), "gone": (0, "ok")}, Phase("cni", "p", "one", 0, 2, failed=1))
    page = pages_of(failed, {**make_record({"one": (0, "ok")}), "started": 100.0, "ended": 130.0})
    assert "All is well" in page
    assert "2 ok" in page
    assert ">gone<" in page


def test_run_without_end_is_not_called_good() -> None:
    page = pages_of(make_record({"one": (0, "ok")}, Phase("cni", "p", "one", 0, 2), ended=None))
    assert "1 not ended" in page
    assert "All is well" not in page


def test_page_shows_findings_and_changes() -> None:
    record = make_record({"one": (0, "ok"), "two": (0, "ok")})
    record["results"] = [
        {"cluster": "one", "kind": "drift", "ok": True, "text": "in sync"},
        {"cluster": "two", "kind": "drift", "ok": False, "text": "2 objects drifted"},
    ]
    record["changes"] = [
        {"cluster": name, "host": name, "role": "cni", "task": "Apply", "set": "cni", "objects": [CHANGED]}
        for name in ("one", "two")
    ]
    page = pages_of(record)
    assert page.index("2 objects drifted") < page.index("in sync")
    assert "one, two" in page
    assert "pods restart" in page
    assert "spec.template" in page


def test_page_without_runs_says_so() -> None:
    assert "No cluster yet" in pages_of()


CHANGED = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "namespace": "x",
    "name": "y",
    "action": "configured",
    "fields": ["spec.template.spec.containers[web].image"],
    "restarts": True,
}


def test_page_is_written_from_the_records_of_a_fleet(tmp_path: Path) -> None:
    run_record.save(run_record.prepare_run(tmp_path, "r"), make_record({"one": (0, "ok")}))
    page = fleet_report.write_page(tmp_path)
    assert page == tmp_path / "fleet.html"
    assert "All is well" in page.read_text()
    assert not list(tmp_path.glob(".fleet*"))
