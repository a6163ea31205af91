"""The demo app as a pod runs it: gunicorn with four workers, whose numbers must read like those of one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.demo_app_server import DemoApp, demo_app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[DemoApp]:
    with demo_app(tmp_path / "metrics", DEMO_APP_PEERS="localhost") as running:
        yield running


def click(app: DemoApp, times: int) -> list[int]:
    with ThreadPoolExecutor(8) as people:
        return list(people.map(lambda _: app.request("/click-button", "POST")[0], range(times)))


def test_counter_is_zero_before_the_first_click(app):
    assert app.clicks() == [({}, 0.0)]
    assert app.json("/api/state")["clicks"] == 0


def test_clicks_of_all_workers_sum_up(app):
    assert set(click(app, 200)) == {200}

    assert app.clicks() == [({}, 200.0)]
    assert app.clicks() == [({}, 200.0)], "a second scrape, by whichever worker, must say the same"
    assert app.json("/api/state")["clicks"] == 200
    counted = [count for count in app.clicks_by_process().values() if count]
    assert len(counted) > 1, "one worker took every click: this run proves nothing"
    assert sum(counted) == 200


def test_a_worker_that_is_about_to_count_for_the_first_time_fails_no_click(app):
    (app.folder / "counter_1.db").touch()
    assert app.request("/click-button", "POST")[0] == 200


def test_a_dead_worker_takes_no_clicks_away(app):
    click(app, 50)
    worker = next(process for process, count in app.clicks_by_process().items() if count)
    os.kill(worker, signal.SIGKILL)

    click(app, 50)

    assert app.clicks() == [({}, 100.0)]


def test_a_new_start_counts_from_zero(tmp_path):
    with demo_app(tmp_path) as app:
        click(app, 10)
    with demo_app(tmp_path) as app:
        assert app.clicks() == [({}, 0.0)]
        click(app, 3)
        assert app.clicks() == [({}, 3.0)]


def test_state_and_click_tell_pod_and_replicas(app):
    expected = {"clicks": 1, "pod": os.uname().nodename, "replicas": 1}
    assert app.json("/click-button", "POST") == expected
    assert app.json("/api/state") == expected


def test_replicas_are_unknown_without_an_answer(tmp_path):
    with demo_app(tmp_path, DEMO_APP_PEERS="no-such-service.invalid.") as app:
        assert app.json("/api/state")["replicas"] is None


def test_only_post_clicks(app):
    assert app.request("/click-button")[0] == 405
    assert app.clicks() == [({}, 0.0)]


def test_requests_are_counted_and_timed(app):
    click(app, 5)

    samples = {
        (name, labels.get("endpoint"), labels["status"]): value
        for name, labels, value in app.samples()
        if labels.get("method") == "POST" and "le" not in labels
    }
    assert samples["flask_http_request_total", None, "200"] == 5
    assert samples["flask_http_request_duration_seconds_count", "click_button", "200"] == 5


def test_strangers_add_no_series(app):
    app.request("/healthz")
    before = {(name, tuple(labels.items())) for name, labels, _ in app.samples()}
    for attempt in range(3):
        assert app.request(f"/wp-admin/{attempt}")[0] == 404
        assert app.request("/", f"GUESS{attempt}")[0] == 501
    app.request("/healthz")

    after = {(name, tuple(labels.items())) for name, labels, _ in app.samples()}
    new = {dict(labels).get("endpoint") for name, labels in after - before if name.endswith("_count")}
    assert new == {"None"}
    assert not [labels for _, labels in after if "pid" in dict(labels) or "GUESS" in str(labels)]
