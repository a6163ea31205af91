"""The checks before the first change: each mistake is named with variable, value, place and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.action import preflight as action
from ansible_collections.kubescale.fleet.plugins.action import reach
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import alerting, preflight, relations, values
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet.values import Setting

ROLES: dict[str, dict[str, Any]] = {
    "hpa": {"hpa_apps": {"type": "list"}, "hpa_max_replicas": {"type": "int"}},
    "prometheus": {"prometheus_retention": {"type": "str"}},
    "prometheus_adapter": {"prometheus_adapter_rules": {"type": "list"}},
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hpa_metric", "was removed; use autoscaled_apps"),
        ("hpa_target", "was removed; use demo_app_target, or autoscaled_apps for an app of your own"),
        ("hpa_max_replcas", "role hpa has no such variable; did you mean hpa_max_replicas?"),
        (
            "prometheus_adapter_ruls",
            "role prometheus_adapter has no such variable; did you mean prometheus_adapter_rules?",
        ),
        ("prometheus_zzz", "role prometheus has no such variable; it has prometheus_retention"),
        ("hp_max_replicas", "no role has such a variable; did you mean hpa_max_replicas?"),
        ("autoscaled_app", "no role has such a variable; did you mean autoscaled_apps?"),
    ],
)
def test_misspelled_variables(name: str, text: str) -> None:
    assert text in preflight.check_names([name], ROLES, {})[name]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("prometheus_adopt", "adopt: [prometheus]"),
        ("prometheus_operator_image", "artifacts_images.prometheus-operator"),
        ("prometheus_version", "artifacts_versions.prometheus.version"),
        ("prometheus_adapter_version", "artifacts_versions.prometheus_adapter.version"),
    ],
)
def test_removed_variables_name_what_replaced_them(name: str, instead: str) -> None:
    assert f"was removed; use {instead}" in preflight.check_names([name], ROLES, {})[name]


def test_replacements_of_removed_variables_are_accepted() -> None:
    assert values.check_option(Setting("adopt", "hpa,grafana"), preflight.SHARED_VARIABLES["adopt"])[1] == []
    assert values.check_option(Setting("adopt", ["hpas"]), preflight.SHARED_VARIABLES["adopt"])[1] != []
    versions, images = Setting("artifacts_versions", {}), Setting("artifacts_images", {"grafana": "a b"}, "all.yml:3")
    [text] = preflight.check_artifact_images(images, versions)
    assert text.startswith("artifacts_images.grafana = 'a b'")
    assert "all.yml:3" in text


def test_names_say_where() -> None:
    assert preflight.check_names(["hpa_x"], ROLES, {"hpa_x": "all.yml:3"})["hpa_x"].startswith(
        "hpa_x (all.yml:3): role"
    )


@pytest.mark.parametrize(
    "name",
    [
        "hpa_apps",
        "autoscaled_apps",
        "prometheus_adapter_rules",
        "ansible_host",
        "cluster_name",
        "sandbox_address",
        "own_variable",
    ],
)
def test_names_that_are_well(name: str) -> None:
    assert preflight.check_names([name], ROLES | {"sandbox": {}}, {}) == {}


def test_option_is_checked_and_comes_in_the_type_of_the_role() -> None:
    typed, wrong = values.check_option(Setting("x", "7", "here"), {"type": "int"})
    assert (typed, wrong) == (Setting("x", 7, "here"), [])
    _, wrong = values.check_option(Setting("x", "seven", "here"), {"type": "int"})
    assert wrong[0].startswith("x = 'seven' (here): ")
    _, wrong = values.check_option(Setting("x", "maybe"), {"choices": ["present", "absent"]})
    assert "one of: present, absent" in wrong[0]


def test_option_that_is_secret_is_not_shown() -> None:
    _, wrong = values.check_option(Setting("x", "hunter2"), {"type": "int", "no_log": True})
    assert len(wrong) == 1
    assert "hunter2" not in wrong[0]


def test_version() -> None:
    assert preflight.check_version(Setting("x_version", "1.2.3"), ["1.2.3"]) == []
    (wrong,) = preflight.check_version(Setting("x_version", "1.2.4", "all.yml:1"), ["1.2.3"])
    assert wrong.startswith(
        "x_version = '1.2.4' (all.yml:1): is not a pinned version; allowed: 1.2.3 (files/artifacts.yml)"
    )


@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        (["10.244.0.0/16", "10.96.0.0/16"], None),
        (["fd00::/108", "10.96.0.0/16"], None),
        (["10.96.0.0/12", "10.100.0.0/16"], "n0 = '10.96.0.0/12': overlaps n1 = '10.100.0.0/16'"),
        (["10.244.0.0/16", "10.96.0.1/16"], "n1 = '10.96.0.1/16': must be a range of addresses"),
        (["pods", "10.96.0.0/16"], "n0 = 'pods': must be a range of addresses"),
    ],
)
def test_networks(ranges: list[str], text: str | None) -> None:
    wrong = relations.check_networks([Setting(f"n{number}", value) for number, value in enumerate(ranges)])
    assert wrong == [] if text is None else [line for line in wrong if text in line]


def test_machine_inside_a_pod_range() -> None:
    addresses = [Setting("ansible_host", "10.244.1.1"), Setting("ansible_host", "cp.example.com")]
    (wrong,) = relations.check_networks([Setting("pods", "10.244.0.0/16")], addresses)
    assert wrong.startswith("ansible_host = '10.244.1.1': is an address inside pods")


def test_same_address_twice() -> None:
    settings = {name: Setting("sandbox_address", value) for name, value in {"a": "::1", "b": "::1", "c": "::2"}.items()}
    (wrong,) = relations.check_distinct(settings)
    assert "a and b have the same" in wrong


def test_sandbox_machines_are_in_a_network_that_pods_do_not_have() -> None:
    addresses = [Setting("sandbox_address", value, value) for value in ("10.89.77.11", "10.89.77.12", "here")]
    ranges = relations.sandbox_ranges(addresses)
    assert [setting.value for setting in ranges] == ["10.89.77.0/24", "here"]
    wrong = relations.check_networks([Setting("pods", "10.89.0.0/16"), *ranges])
    assert [line.partition(":")[0] for line in wrong] == ["sandbox_address = 'here' (here)", "pods = '10.89.0.0/16'"]


KNOWN = dict.fromkeys(preflight.CLUSTER_VARIABLES)


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (["nodes", "workers", "cluster_a"], None),
        (["clusters", "cluster_a"], None),
        (["nodes", "workers", "cluster_a", "cluster_b"], "is in cluster_a and cluster_b"),
        (["nodes", "workers", "control_plane"], "is in control_plane and in workers"),
        (["nodes", "cluster_a"], "neither in control_plane nor in workers"),
        (["clusters", "nodes", "workers"], "is in clusters and in nodes"),
    ],
)
def test_place(groups: list[str], text: str | None) -> None:
    wrong = preflight.check_place("m1", groups, ["cluster_a", "cluster_b"], KNOWN)
    assert wrong == [] if text is None else [line for line in wrong if line.startswith("m1: ") and text in line]


def test_inventory_by_hand_without_cluster_variables() -> None:
    known = {name: 1 for name in preflight.CLUSTER_VARIABLES if name != "cluster_ring"}
    (wrong,) = preflight.check_place("m1", ["nodes", "workers"], [], known)
    assert wrong.startswith("m1: has no cluster_ring;")


def test_kubeconfig_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    setting = Setting("cluster_kubeconfig", str(file))
    assert "there is no such file" in preflight.check_kubeconfig_file(setting)[0]
    file.write_text("hello: world\n")
    assert "is not a kubeconfig" in preflight.check_kubeconfig_file(setting)[0]
    file.write_text(
        "current-context: a\nclusters: [{name: a, cluster: {server: 'https://a:6443'}}]\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n"
    )
    assert preflight.check_kubeconfig_file(setting) == []


def test_problems_are_said_once_with_their_hosts() -> None:
    problems = action.Problems()
    for host in ("a", "b", "a"):
        problems.add(host, ["x is wrong"])
    for number in range(7):
        problems.add(f"m{number}", ["y is wrong"])
    assert problems.lines() == ["x is wrong [a, b]", "y is wrong [m0, m1, m2 and 4 more]"]


WELL = {"uid": 0, "python": [3, 9, 2], "init": "systemd", "time": 1000.5}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({}, None),
        ({"uid": 1000}, "uid 1000"),
        ({"python": [3, 8, 10]}, "its Python is 3.8.10, but must be 3.9 or newer"),
        ({"init": "tini"}, "its first process is tini"),
        ({"time": 1060.9}, None),
        ({"time": 940.1}, None),
        ({"time": 1600.0}, "its clock is 599 s ahead of the controller's (allowed are 60 s)"),
        ({"time": 400.0}, "its clock is 600 s behind the controller's"),
    ],
)
def test_machine_is_judged_by_what_it_says(found: dict[str, Any], text: str | None) -> None:
    # The answer took a second: the machine's time is right if it lies in it, give or take what is allowed.
    lacks = reach.judge(WELL | found, 1000.0, 1001.0)
    assert lacks == [] if text is None else text in lacks[0]


@pytest.mark.parametrize(
    ("run_tags", "skip_tags", "selected"),
    [
        (["all"], [], True),
        (["metrics_server"], [], True),
        (["grafana"], [], False),
        (["all"], ["metrics_server"], False),
        (["tagged"], [], True),
    ],
)
def test_which_roles_a_run_selects(run_tags: list[str], skip_tags: list[str], selected: bool) -> None:
    assert reach.is_selected("metrics_server", run_tags, skip_tags) == selected


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("high_availability", "true", "maybe"),
        ("resource_metrics_owner", "adapter", "metrics-server"),
        ("external_metrics_owner", "none", "keda"),
    ],
)
def test_variables_of_a_cluster_that_belong_to_no_role_have_values_that_are_allowed(
    name: str, good: str, bad: str
) -> None:
    option = preflight.SHARED_VARIABLES[name]
    assert values.check_option(Setting(name, good), option)[1] == []
    (wrong,) = values.check_option(Setting(name, bad, "all.yml:3"), option)[1]
    assert wrong.startswith(f"{name} = '{bad}' (all.yml:3): ")
    assert all(choice in wrong for choice in option.get("choices", []))


@pytest.mark.parametrize(
    ("receiver", "config", "said"),
    [
        ({"webhook_configs": [{"url": "https://hooks.example/hunter2"}]}, {}, None),
        ({}, {}, None),
        ({"webhok_configs": [{"url": "hunter2"}]}, {}, "alertmanager_receiver.webhok_configs: .+ webhook_configs?"),
        ({"hunter2": []}, {}, "allowed: discord_configs, email_configs"),
        (
            {"webhook_configs": [{"url": "hunter2"}]},
            {},
            r"alertmanager_receiver.webhook_configs\[0\].url: must be a URL",
        ),
        ({"webhook_configs": {"url": "hunter2"}}, {}, "alertmanager_receiver.webhook_configs: must be a list"),
        ({"slack_configs": [{}]}, {"route": {}}, "set only one of the two"),
        ({}, {"receivers": [{"name": "a"}]}, "alertmanager_config.route.receiver: must name one of"),
        ({}, {"receivers": ["hunter2"]}, "alertmanager_config.receivers: must be dictionaries"),
        (
            {},
            {"receivers": [{"name": "a"}], "route": {"receiver": "a", "routes": [{"receiver": "b"}]}},
            r"alertmanager_config.route.routes\[0\].receiver = 'b': is not one of the receivers a",
        ),
        (
            {},
            {"receivers": [{"name": "a", "slak_configs": [{"api_url": "hunter2"}]}], "route": {"receiver": "a"}},
            r"alertmanager_config.receivers\[0\].slak_configs: .+ slack_configs?",
        ),
    ],
)
def test_whoever_is_told_of_alerts_is_checked_and_never_shown(
    receiver: dict[str, Any], config: dict[str, Any], said: str | None
) -> None:
    settings = Setting("alertmanager_receiver", receiver), Setting("alertmanager_config", config)
    wrong = alerting.check_alerting(*settings)
    if said is None:
        assert wrong == []
        return
    (text,) = wrong
    assert re.search(said, text)
    # But for the name of what is unknown, nothing that was given is repeated.
    assert text.startswith("alertmanager_receiver.hunter2:") or "hunter2" not in text


@pytest.mark.parametrize(
    ("flavor", "storage_class", "replicas", "allowed"),
    [
        ("standalone", "fast", 1, True),
        ("standalone", "", 2, True),
        ("operator", "fast", 2, True),
        ("standalone", "fast", 2, False),
    ],
)
def test_one_volume_is_for_one_prometheus(flavor: str, storage_class: str, replicas: int, allowed: bool) -> None:
    settings = [
        Setting("prometheus_flavor", flavor),
        Setting("prometheus_storage_class", storage_class),
        Setting("prometheus_replicas", replicas),
    ]
    found = relations.check_volume(*settings)
    assert (found == []) == allowed
    assert all("prometheus_storage_class = 'fast'" in text and "prometheus_replicas = 2" in text for text in found)
