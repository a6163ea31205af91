# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The queries of autoscaled apps, answered by Prometheus' own engine: what each kind is, and that no value is NaN."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.promql import expand

from . import cluster

cluster.BINARIES.setdefault("promtool", ("prometheus", "promtool"))
PODS = 'namespace="shop",pod="%s"'
#: Values of a series every 5 seconds, for 5 minutes: at rest, and growing by 2 or 1 a second.
NONE, REST, TWO, ONE = "0+0x60", "3+0x60", "0+10x60", "0+5x60"


def answers(item: dict[str, Any], series: dict[str, str], folder: Path, wanted: dict[str, float]) -> None:
    """Have promtool compare the values by pod (or of nothing, "") of a metric, after 5 minutes of series."""
    entry = {"name": "a", "namespace": "shop", "workload": "deployment/a", "scale_on": {"target": 1, **item}}
    (app,) = parse_apps([entry])
    (metric,) = app.metrics
    matchers = {} if metric.external else {"namespace": "shop"}
    query = expand(metric.query, metric.series, matchers, "pod")
    samples = [{"labels": f'{{pod="{pod}"}}' if pod else "{}", "value": value} for pod, value in sorted(wanted.items())]
    test = {
        "evaluation_interval": "5s",
        "tests": [
            {
                "interval": "5s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": query, "eval_time": "5m", "exp_samples": samples}],
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    promtool = cluster.find_binary("promtool")
    assert promtool is not None
    ended = subprocess.run(
        [str(promtool), "test", "rules", str(folder / "test.yml")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{query}\n{ended.stdout}{ended.stderr}"


def series(name: str, *values: str, **labels: str) -> dict[str, str]:
    """A series of the name for pod a, b, ... with these values."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return {f"{name}{{{PODS % chr(97 + number)}{more}}}": text for number, text in enumerate(values)}


@pytest.mark.parametrize(
    ("item", "given", "wanted"),
    [
        ({"metric": "x_total"}, series("x_total", TWO, REST), {"a": 2, "b": 0}),
        ({"metric": "x_total", "function": "irate"}, series("x_total", TWO, REST), {"a": 2, "b": 0}),
        ({"metric": "x_total"}, series("x_total", TWO, code="1") | series("x_total", ONE, code="2"), {"a": 3}),
        ({"metric": "x"}, series("x", REST, NONE), {"a": 3, "b": 0}),
        (
            # All of pod a's observations lie between 0 and 1, pod b had none.
            {"metric": "x_bucket", "quantile": 0.5},
            series("x_bucket", TWO, REST, le="1") | series("x_bucket", TWO, REST, le="+Inf"),
            {"a": 0.5, "b": 0},
        ),
        (
            # Twice as many seconds as requests; none of both; seconds of no request.
            {"metric": "x_sum", "over": "x_count"},
            series("x_sum", TWO, REST, ONE) | series("x_count", ONE, REST, REST),
            {"a": 2, "b": 0},
        ),
        (
            {"metric": "busy", "over": "all"},
            series("busy", "3+0x60", "0+0x60", "1+0x60", NONE) | series("all", "6+0x60", "0+0x60", "0+0x60", "2+0x60"),
            {"a": 0.5, "b": 0, "d": 0},
        ),
        ({"metric": "x", "external": True}, series("x", REST, REST), {"": 6}),
        ({"metric": "x_total", "external": True}, series("x_total", TWO, ONE), {"": 3}),
        (
            {"metric": "x_bucket", "quantile": 0.5, "external": True},
            series("x_bucket", REST, le="1") | series("x_bucket", REST, le="+Inf"),
            {"": 0},
        ),
        ({"metric": "busy", "over": "all", "external": True}, series("busy", NONE) | series("all", NONE), {"": 0}),
        ({"metric": "busy", "over": "all", "external": True}, series("busy", REST) | series("all", NONE), {}),
    ],
)  # fmt: skip
def test_values_of_each_kind(
    item: dict[str, Any], given: dict[str, str], wanted: dict[str, float], tmp_path: Path
) -> None:
    answers(item, given, tmp_path, wanted)
