"""The play that checks inputs, on inventories with errors. It reports all of them at once, and changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.fleet import values

REPOSITORY = Path(__file__).resolve().parents[3]
CLUSTERS = {
    "plugin": "kubescale.fleet.clusters",
    "clusters": {
        "one": {
            "control_plane": {"cp1": {"ansible_host": "192.0.2.11"}},
            "workers": {"w1": {"ansible_host": "192.0.2.12"}},
        }
    },
}
#: Value in group_vars, and a part of the error. Each is on a line of its own.
WRONG = {
    "alertmanager_replicas": ("-1", "must be 1 or more"),
    "artifacts_bundle": ("/no/such/bundle.tar.zst", "must be a file on the controller"),
    "artifacts_source": ("bundle", ""),
    "control_plane_endpoint": ("10:20", "must be a host and a port"),
    "control_plane_pod_network": ("10.244.0.0/29", "from /8 to /24"),
    "control_plane_service_network": ("11.0.0.0/8", "from /12 to /28"),
    "demo_app_node_port": ("30080", "is the port of prometheus_node_port"),
    "grafana_node_port": ("99999", "from 30000 to 32767"),
    "grafana_prometheus_url": ("not a url", "must be a URL"),
    "load_request": ("[GET]", "must be text"),
    "metrics_server_certificate_days": ("0", "must be 1 or more"),
    "metrics_server_resolution": ("9", "must be 10 or more"),
    "node_exporter_resources": ("{requests: {cpu: lots}}", "with quantities"),
    "node_prep_address": ("nonsense", "must be an IPv4 address"),
    "prometheus_adapter_max_age": ("-1", "must be 1 or more"),
    "prometheus_adapter_relist_interval": ("0", "must be 1 or more"),
    "prometheus_adapter_prometheus_url": ("'{{ prometheus_adapter_prometheus_url }}'", "cannot be resolved"),
    "prometheus_adapter_certificate_renew_before_days": ("365", "must be below"),
    "prometheus_adapter_state": ("absent", ""),
    "prometheus_node_port": ("30080", ""),
    "prometheus_replicas": ("0", "must be 1 or more"),
    "prometheus_retention": ("'{{ my_retention }}'", "'my_retention' is undefined"),
    "prometheus_scrape_interval": ("-5", "must be 1 or more"),
    "prometheus_storage_class": ("'{{ 7 '", "cannot be resolved"),
    "prometheus_storage_size": ("ten", "must be a quantity"),
    "resource_metrics_owner": ("adapter", "nothing would serve the API"),
    "rollout_timeout": (".inf", "must be"),
    "sample_apps": ("'{{ [] | no_such_filter }}'", "no_such_filter"),
    "verify_timeout": ("-5", "must be 0 or more"),
}


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder, *options, "playbooks/inputs.yml"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def inventory(folder: Path, variables: str = "", clusters: object = CLUSTERS) -> Path:
    (folder / "clusters.yml").write_text(yaml.safe_dump(clusters))
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all.yml").write_text(variables)
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the output of a run with every error of WRONG."""
    variables = "".join(f"{name}: {value}\n" for name, (value, _text) in WRONG.items())
    ran = run(inventory(tmp_path_factory.mktemp("wrong"), variables))
    assert ran.returncode == 2, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("name", [name for name, (_value, text) in WRONG.items() if text])
def test_a_wrong_value_is_reported_with_its_line_and_what_is_allowed(reported: str, name: str) -> None:
    lines = [line for line in reported.splitlines() if line.strip().startswith(f"- {name} = ")]
    number = list(WRONG).index(name) + 1
    assert any(f"all.yml:{number})" in line and WRONG[name][1] in line for line in lines), lines or reported


def test_templates_that_depend_on_facts_are_left_to_the_roles(tmp_path: Path) -> None:
    variables = (
        "node_prep_address: '{{ ansible_eth1.ipv4.address }}'\ncontrol_plane_cert_sans: ['{{ ansible_fqdn }}']\n"
    )
    ran = run(inventory(tmp_path, variables))
    assert ran.returncode == 0, ran.stdout


def test_a_value_that_is_left_out_is_none_of_a_kind() -> None:
    assert values.value_problem("prometheus_retention", None) == values.DURATION.words
    assert values.value_problem("prometheus_retention", "7d") == ""


@pytest.mark.parametrize("value", ["false", "''", "0", "{name: shop}"])
def test_apps_are_a_list(tmp_path: Path, value: str) -> None:
    ran = run(inventory(tmp_path, f"autoscaled_apps: {value}\n"))
    assert ran.returncode == 2
    assert "must be a list of apps" in ran.stdout


@pytest.mark.parametrize("value", ["'{{ ansible_hos }}'", "'{{ my_address }}'"])
def test_the_address_of_a_machine_is_resolved_before_it_is_used(tmp_path: Path, value: str) -> None:
    clusters = yaml.safe_load(yaml.safe_dump(CLUSTERS))
    clusters["clusters"]["one"]["workers"]["w1"]["ansible_host"] = yaml.safe_load(value)
    ran = run(inventory(tmp_path, clusters=clusters))
    assert ran.returncode == 2
    assert "ansible_host = " in ran.stdout


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (values.DURATION, ["7d", "1h30m"], ["7 days", "7", "0s", "d7", ""]),
        (values.QUANTITY, ["10Gi", "500m", 3], ["ten", "0", "-1Gi", True]),
        (
            values.ENDPOINT,
            ["", "api.example:6443", "192.0.2.1:6443"],
            ["6443", "https://a:6443", "a:99999", "a b:1", ":1"],
        ),
        (values.NODE_PORT, [0, 30000, 32767], [80, -1, 32768]),
        (
            values.URL,
            ["http://a:9090", "https://a.example/prometheus"],
            ["a:9090", "ftp://a", "http://u@a", "http://a:0"],
        ),
        (values.ADDRESS, ["", "192.0.2.1"], ["127.0.0.1", "a", "fd00::1", "224.0.0.1"]),
        (values.PORTS, [[], [80, 443]], [[0], [70000], [80, 80]]),
        (
            values.RESOURCES,
            [{}, {"limits": {"memory": "1Gi"}}],
            [{"cpu": "1"}, {"limits": "1"}, {"requests": {"cpu": "-1"}}],
        ),
    ],
)
def test_kinds_of_values(kind: values.Kind, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if not kind.holds(value)] == []
    assert [value for value in bad if kind.holds(value)] == []
