"""The report: one page that needs nothing else, true to its data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.goal import Goal, Happening, Run, Sample
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.load import Terms, as_data
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report import chart, report

GOAL = Goal("demo", "demo-app", "demo_app_button_clicks_per_second", 1.0, 1, 10, 0.1)
TERMS = Terms(5, 240, 15, 420)


def synthetic_run(offset: float = 6.0) -> Run:
    """A climb from one to five replicas and the first step back, shaped like a real one."""
    run = Run(GOAL, 5, 1_790_000_000.0)
    climb = ((0, 1), (32, 3), (47, 4), (77, 5), (172, 4), (187, 1))
    for tick in range(200):
        t = tick - offset
        desired = [count for since, count in climb if t >= since or since == 0][-1]
        ready = [count for since, count in climb if t >= since + 4 or since == 0][-1]
        loaded = 0 <= t < 102
        filled = min(1.0, max(0.0, t) / 60)
        total = 5 * filled if t < 102 else max(0.0, 5 * (1 - (t - 102) / 60))
        metric = round(total / ready, 3)
        # The autoscaler looks every 15 s.
        seen = metric if tick % 15 == 0 or not run.samples else run.samples[-1].seen
        run.samples.append(Sample(tick, loaded, metric, seen, desired, ready, ready, desired))
    run.events = [
        Happening(offset + t, "SuccessfulRescale", f"New size: {n}; reason: pods metric above target")
        for t, n in climb[1:5]
    ]
    return run


def full_report() -> dict:
    """A report with every section."""
    load = as_data(synthetic_run(), TERMS, [(t, min(5.0, t / 4)) for t in range(0, 100, 2)], "")
    check = {
        "id": "nodes_ready",
        "title": "Every machine is a Ready node",
        "ok": True,
        "evidence": "3 nodes Ready",
        "seconds": 0.2,
    }
    advice = {"reason": "Pods need nodes.", "next": "kubectl describe nodes"}
    return {
        "cluster": "demo",
        "written": "2026-11-21T07:50:00+00:00",
        "identity": "one",
        "nodes": [
            {
                "name": name,
                "roles": roles,
                "ready": True,
                "kubelet": "1.37.0",
                "runtime": "containerd://2.3.4",
                "system": "Debian",
                "kernel": "6.18",
            }
            for name, roles in (("demo-cp1", ["control-plane"]), ("demo-w1", ["worker"]), ("demo-w2", ["worker"]))
        ],
        "components": [
            {
                "component": "prometheus",
                "version": "3.14.0",
                "image": "quay.io/prometheus/prometheus:v3.14.0",
                "namespaces": ["monitoring"],
                "pods": 1,
            },
            {
                "component": "grafana-stand-in",
                "version": "0.1.0",
                "image": "localhost/kubescale/grafana-stand-in:0.1.0",
                "namespaces": ["monitoring"],
                "pods": 1,
            },
        ],
        "not_real": [report.STAND_INS["grafana-stand-in"]],
        "verify": {"finished": 1_790_000_200.0, "seconds": 0.8, "checks": [{**check, **advice}] * 5},
        "load": load,
        "run": {
            "playbook": "demo.yml",
            "started": 1_789_999_900.0,
            "phases": [
                {"phase": "node_prep", "seconds": 41.2},
                {"phase": "control_plane", "seconds": 22.5},
                {"phase": "verify", "seconds": 1.1},
            ],
        },
    }


class Page(HTMLParser):
    """Collects what a page would fetch, and checks that its elements are closed."""

    VOID = frozenset({"meta", "link", "br", "rect", "circle", "path", "line", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "action"):
                self.fetched.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text: str) -> Page:
    page = Page()
    page.feed(text)
    assert not page.open
    return page


def test_page_fetches_nothing_and_is_well_formed():
    text = report.render(full_report())
    page = parsed(text)
    assert [target for target in page.fetched if not target.startswith("data:")] == []
    assert "url(" not in text and "@import" not in text and "<script" not in text
    assert len(page.ids) == len(set(page.ids))
    assert "It scales" in text and "from 1 to 5 ready replicas" in text and "stand-in" in text


def test_drawing_has_words_for_those_who_do_not_see_it():
    text = chart.timeline(full_report()["load"], 960, "wide")
    assert 'role="img"' in text and "<title" in text
    assert "Ready replicas go from 1 to 5" in text
    assert not re.search(r"nan|inf|None", text)


def test_report_without_load_has_no_timeline():
    data = full_report()
    del data["load"], data["run"]
    text = report.render(data)
    parsed(text)
    assert "<svg" not in text and "Healthy" in text


def test_failed_check_comes_first_with_reason_and_next_step_and_is_escaped():
    data = full_report()
    data["verify"]["checks"][2] = {**data["verify"]["checks"][2], "ok": False, "evidence": "<script>alert(1)</script>"}
    text = report.render(data)
    parsed(text)
    assert "Not healthy" in text and "1 of 5 checks do not hold" in text and "&lt;script&gt;" in text
    assert text.index("Checks that do not hold") < text.index("What happened under load")


def test_failed_load_says_why():
    run = synthetic_run()
    run.samples = run.samples[:30]
    data = full_report() | {"load": as_data(run, TERMS, [], "the metric never exceeded its target")}
    text = report.render(data)
    parsed(text)
    assert "Did not scale" in text and "the metric never exceeded its target" in text and "not seen" in text


def test_load_that_never_started_is_drawn_too():
    run = synthetic_run()
    run.samples = [Sample(float(t), False, None, None, 1, 1, 1, 1) for t in range(5)]
    run.events = []
    parsed(report.render(full_report() | {"load": as_data(run, TERMS, [], "the load did not start")}))


def test_sections_of_other_tasks_are_kept_but_not_those_of_another_cluster(tmp_path):
    facts = {name: full_report()[name] for name in ("identity", "nodes", "components")}
    report.update_report(tmp_path, "demo", facts, load=full_report()["load"])
    page = report.update_report(tmp_path, "demo", facts, verify=full_report()["verify"])
    assert page == tmp_path / "report.html"
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["load"]["ok"] and kept["verify"]["checks"] and kept["not_real"]
    report.update_report(tmp_path, "demo", {**facts, "identity": "two"}, verify=full_report()["verify"])
    assert "load" not in json.loads((tmp_path / "report.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_components_are_images_once_with_their_version():
    def pod(namespace, *images):
        return {"metadata": {"namespace": namespace}, "spec": {"containers": [{"image": image} for image in images]}}

    found = report.components(
        [pod("a", "quay.io/x/y:v1.2"), pod("b", "quay.io/x/y:v1.2", "host:5000/z"), pod("a", "r/q:v3@sha256:00")]
    )
    assert [(entry["component"], entry["version"], entry["pods"], entry["namespaces"]) for entry in found] == [
        ("q", "3", 1, ["a"]),
        ("y", "1.2", 2, ["a", "b"]),
        ("z", "", 1, ["b"]),
    ]


def test_phases_are_taken_from_the_file_that_the_callback_left(tmp_path, monkeypatch):
    phases = [
        {"phase": "node_prep", "cluster": "demo", "started": 1.0, "ended": 3.5},
        {"phase": "node_prep", "cluster": "demo", "started": 4.0, "ended": 4.5},
        {"phase": "node_prep", "cluster": "other", "started": 1.0, "ended": 9.0},
    ]
    monkeypatch.setenv("KUBESCALE_PHASES_FILE", str(tmp_path / "phases.json"))
    assert report.read_phases(tmp_path, "demo") == {}
    (tmp_path / "phases.json").write_text(json.dumps({"playbook": "/here/site.yml", "started": 1.0, "phases": phases}))
    found = report.read_phases(tmp_path, "demo")
    assert (found["playbook"], found["phases"]) == ("site.yml", [{"phase": "node_prep", "seconds": 3.0}])
