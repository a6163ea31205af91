"""Plans told for people and for programs."""

from __future__ import annotations

from typing import Any

from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import plan
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.run_record import RunRecord


def obj(kind: str, name: str, action: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "namespace": "x", "name": name, "action": action, **more}


FIELDS = ["data.a", "data.b", "data.c", "data.d"]
CHANGES = [
    obj("ConfigMap", "settings", "configured", fields=FIELDS),
    obj("Deployment", "web", "configured", fields=["spec.template.metadata"], restarts=True),
    obj("Service", "same", "unchanged"),
]


def make_record(**clusters: list[dict[str, Any]]) -> RunRecord:
    record = RunRecord("r", "plan.yml", 0, check=True)
    for name, objects in clusters.items():
        record.add_cluster(name, 0, "default")
        if objects:
            record.add_change(name, name, "role", "Apply", {"set": "app", "objects": objects}, secret=False)
    return record


def test_clusters_that_change_alike_are_told_together() -> None:
    record = make_record(one=CHANGES, two=CHANGES, three=CHANGES[:1], four=[])
    record.add_cluster("five", 1, "default")
    record.add_failure("five", "five", "Reach", "no route")
    assert plan.describe(record.document(None)).split("\n") == [
        "one, two: 2 changes, pods of 1 workload restart",
        "  component  action      object                fields",
        "  app        configured  ConfigMap x/settings  data.a, data.b and 2 more",
        "  app        configured  Deployment x/web      spec.template.metadata (pods restart)",
        "",
        "three: 1 change",
        "  component  action      object                fields",
        "  app        configured  ConfigMap x/settings  data.a, data.b and 2 more",
        "",
        "four: nothing to do",
        "",
        "five: plan incomplete: no route",
    ]


def test_many_new_objects_are_counted_in_text_and_named_in_the_document() -> None:
    objects = [obj(kind, f"n{n}", "created") for kind in ("Role", "Secret", "Service", "Job") for n in range(2)]
    record = make_record(one=objects).document(None)
    assert "8 objects: 2 Role, 2 Secret, 2 Service, ..." in plan.describe(record)
    assert plan.document(record)["clusters"]["one"]["changes"][0]["objects"] == objects


def test_tasks_on_machines_are_changes() -> None:
    record = make_record(one=[])
    record.add_change("one", "one-w1", "node_prep", "Install binaries", {"changed": True}, secret=False)
    text = plan.describe(record.document(None))
    assert "node_prep  changed  Install binaries on one-w1" in text
    assert plan.document(record.document(None))["clusters"]["one"]["state"] == "changes"


def test_changes_are_counted_as_they_are_listed() -> None:
    record = make_record(one=CHANGES, two=[], three=CHANGES[:1])
    record.add_change("two", "two-w1", "node_prep", "Install", {"changed": True}, secret=False)
    record.add_change("one", "one", "cni", "Apply", {"would_be_made": True, "objects": []}, secret=False)
    document = record.document(None)
    counts = plan.count_changes(document)
    assert counts == {name: len(plan.changes_of(document, name)) for name in ("one", "two", "three")}


def test_cluster_that_is_not_there_would_be_made() -> None:
    record = make_record(one=[])
    record.add_change(
        "one", "one", "cni", "Apply", {"would_be_made": True, "objects": [], "set": "flannel"}, secret=False
    )
    assert plan.describe(record.document(None)) == "one: would be created, with all objects"
    assert plan.document(record.document(None))["clusters"]["one"]["would_be_made"] is True


def test_document_counts_restarts_and_has_the_first_failure() -> None:
    record = make_record(one=CHANGES, two=[])
    record.add_failure("two", "two", "Apply", "first")
    record.add_failure("two", "two", "Stop", "second")
    found = plan.document(record.document(None))
    assert found["run"] == "r"
    assert found["clusters"]["one"]["restarts"] == 1
    assert {name: entry["state"] for name, entry in found["clusters"].items()} == {"one": "changes", "two": "failed"}
    assert found["clusters"]["two"]["message"] == "first"


def test_clusters_that_would_change_have_a_state_of_their_own() -> None:
    record = make_record(one=CHANGES, two=[], three=CHANGES)
    record.add_failure("three", "three", "Apply", "no")
    states = {name: entry["state"] for name, entry in plan.with_states(record.document(None))["clusters"].items()}
    assert states == {"one": "would change", "two": "ok", "three": "failed"}
