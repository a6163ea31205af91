"""Which revisions are kept, which one a set goes back to, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset import revisions
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.revisions import (
    Content,
    Revision,
    TooLargeError,
    previous,
    summary,
    superfluous,
)

REPOSITORY = Path(__file__).resolve().parents[3]


def history(words: str) -> tuple[list[Revision], dict[int, str]]:
    """Revisions and their contents, of words such as "A:one B:two? A:three": content, run, and ? if pending."""
    found, contents = [], {}
    for number, word in enumerate(words.split(), 1):
        content, _, run = word.rstrip("?").partition(":")
        state = revisions.PENDING if word.endswith("?") else revisions.APPLIED
        found.append(Revision("set", number, state, run, "", "", "", ""))
        contents[number] = content
    return found, contents


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", None),
        ("A", None),
        ("A B", 1),
        ("A B C", 2),
        # Gone back once: what is there now began with the first one, and B is not returned to.
        ("A B A", None),
        ("A B C B", 1),
        ("A B C B A", None),
        # A change after that.
        ("A B A C", 3),
        # What was never applied is nothing to go back to.
        ("A B? C", 1),
        ("A B?", 1),
        ("A? B", None),
        # A way back that was interrupted is gone to its end, before any further.
        ("A B C B?", 2),
        ("A B? C B?", 3),
    ],
)
def test_the_previous_one(words, expected):
    known, contents = history(words)
    found = previous(known, contents.get, len(known) or None)
    assert (found.number if found else None) == expected


@pytest.mark.parametrize(
    ("words", "run", "expected"),
    [
        ("A:one B:two", "two", 1),
        ("A:one B:two C:two", "two", 1),
        ("A:two B:two", "two", None),
        ("A:one B:two A:two", "two", None),
        ("A:one B:two A:two C:two", "two", 1),
        ("A: B:", "", 1),
    ],
)
def test_the_previous_one_of_another_run(words, run, expected):
    known, contents = history(words)
    found = previous(known, contents.get, len(known), run)
    assert (found.number if found else None) == expected


def test_a_set_whose_present_state_has_no_revision_goes_back_to_the_newest():
    known, contents = history("A B")
    assert previous(known, contents.get, None) == known[1]
    # One that nobody can read any more is older than itself all the same.
    assert previous(known, {1: "A"}.get, 2) == known[0]


@pytest.mark.parametrize(
    ("words", "keep", "gone"),
    [
        ("A B C", 5, []),
        ("A B C", 2, [1]),
        ("A B C", 1, [1, 2]),
        ("A B? C", 5, [2]),
        ("A B? C?", 5, []),
        ("A B C?", 1, [1]),
        ("A? B?", 1, []),
    ],
)
def test_superfluous_ones(words, keep, gone):
    assert [revision.number for revision in superfluous(history(words)[0], keep)] == gone


def config_map(name: str, **data: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, "data": data}


def content(*objects: dict[str, object], **shared: dict[str, str]) -> Content:
    return Content(list(objects), shared, [], [])


def test_a_digest_is_of_objects_and_namespaces_in_any_order():
    one, two = config_map("one", a=1), config_map("two", b=2)
    known = content(one, two, x={"a": "b"})
    assert known.digest == content(two, one, x={"a": "b"}).digest
    assert known.digest == known._replace(take_from=["x"], hand_over=[{"kind": "a"}]).digest
    others = [content(one), content(one, config_map("two", b=3), x={"a": "b"}), content(one, two, x={"a": "c"})]
    assert known.digest not in {other.digest for other in others}


def test_what_was_stored_is_what_it_was():
    known = content(config_map("one", **{"a": "ä\n"}), x={})
    known.objects[0]["data"] = {10: "ten", 2: "two"}  # as YAML reads them; JSON has text only
    again = Content.unpacked(known.packed())
    assert again.digest == known.digest
    assert summary(known, again) == ""
    assert again.objects[0]["data"] == {"10": "ten", "2": "two"}


def test_what_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(revisions, "LIMIT", 100)
    with pytest.raises(TooLargeError, match="a Secret holds 100: no revision is kept"):
        content(config_map("one", a="b")).packed()


def test_a_summary_names_objects_and_no_values():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "a"}, "data": {"a": "eA=="}}
    before = content(secret, config_map("gone"), config_map("same", a="b"), x={})
    after = content({**secret, "data": {"a": "eQ=="}}, config_map("new", a="geheim"), config_map("same", a="b"))
    assert summary(before, after) == (
        "1 added: ConfigMap a/new; 1 changed: Secret a/s; 1 removed: ConfigMap a/gone; shared namespaces changed"
    )
    assert summary(None, after) == "first revision, 3 objects"
    assert summary(None, content(secret)) == "first revision, 1 object"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    many = content(namespace, *(config_map(f"c{number}") for number in range(7)))
    assert summary(content(), many) == (
        "8 added: Namespace n, ConfigMap a/c0, ConfigMap a/c1, ConfigMap a/c2, ConfigMap a/c3, 3 more"
    )


def test_the_version_is_that_of_the_source_or_of_what_was_installed(monkeypatch, tmp_path):
    expected = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["version"]
    assert revisions.collection_version() == expected
    monkeypatch.setattr(revisions, "COLLECTION", tmp_path)
    assert revisions.collection_version() == ""
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "9.8.7"}}))
    assert revisions.collection_version() == "9.8.7"
