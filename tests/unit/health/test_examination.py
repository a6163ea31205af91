"""The settings of an examination, as the variables of a cluster decide them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.examination import circumstances
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.settings import (
    CUSTOM_API,
    EXTERNAL_API,
    RESOURCE_API,
    Settings,
)

from tests.unit.health.recording import ENTRY, QUEUE, Stub

NOW = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)


class Server:
    """The API server, without TLS."""

    server = "http://127.0.0.1:1"

    def clock(self) -> datetime.datetime:
        return NOW


def settings(*entries: dict[str, Any], **variables: Any) -> Settings:
    apps = [Stub(entry).app for entry in entries]
    return circumstances(Server(), apps, "operator", variables, lambda value: value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "variables", "owners", "served"),
    [
        ([ENTRY], {}, ("metrics_server", "prometheus_adapter", "prometheus_adapter"), {RESOURCE_API, CUSTOM_API}),
        ([QUEUE], {}, ("metrics_server", "prometheus_adapter", "prometheus_adapter"), {RESOURCE_API, EXTERNAL_API}),
        # Without a rule the adapter serves no API.
        ([], {}, ("metrics_server", "prometheus_adapter", "prometheus_adapter"), {RESOURCE_API}),
        ([ENTRY], {"metrics_server_state": "absent"}, ("", "prometheus_adapter", "prometheus_adapter"), {CUSTOM_API}),
        ([ENTRY], {"prometheus_adapter_state": "absent"}, ("metrics_server", "", ""), {RESOURCE_API}),
        (
            [QUEUE],
            {"resource_metrics_owner": "adapter", "external_metrics_owner": "none"},
            ("prometheus_adapter", "prometheus_adapter", ""),
            {RESOURCE_API},
        ),
    ],
)
def test_apis_are_served_by_the_components_that_the_variables_name(
    entries: list[dict[str, Any]], variables: dict[str, Any], owners: tuple[str, str, str], served: set[str]
) -> None:
    found = settings(*entries, **variables)
    assert tuple(found.owners[group] for group in (RESOURCE_API, CUSTOM_API, EXTERNAL_API)) == owners
    assert found.served == served


def test_absent_components_machines_and_the_jobs_of_apps_are_known() -> None:
    found = settings(ENTRY, grafana_state="absent", cluster_control_plane=["a"], cluster_workers=["b"])
    assert "grafana" in found.absent and "prometheus" not in found.absent
    assert found.machines == ("a", "b")
    assert found.pools == {"podMonitor/shop/shop/0"}
    assert (found.now, found.certificate_days) == (NOW, 14)
    assert settings(verify_certificate_days=30).certificate_days == 30
