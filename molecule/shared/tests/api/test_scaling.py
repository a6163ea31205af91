"""Load scales the app out to what its target demands, silence scales it in; the report tells both."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from independent import Cluster
from playbook_runs import run_playbook


def test_load_scales_out_to_what_the_target_demands_and_silence_scales_in(
    api: Cluster, cluster: dict[str, Any]
) -> None:
    run = run_playbook("load")
    assert run.returncode == 0, run.messages()
    assert run.results("changed") == {}
    report = json.loads((Path(cluster["cluster_state_dir"]) / "report.json").read_text(encoding="utf-8"))
    load = report["load"]
    autoscaler = api.get("autoscaling/v2", "HorizontalPodAutoscaler", "demo-app", "demo")
    assert autoscaler is not None
    demanded = min(autoscaler["spec"]["maxReplicas"], math.ceil(load["rate"] / load["target"]))
    assert demanded > autoscaler["spec"]["minReplicas"]
    assert load["demanded"] == demanded
    assert max(sample["ready"] for sample in load["samples"]) == demanded
    assert load["samples"][-1]["desired"] < demanded
    page = (Path(cluster["cluster_state_dir"]) / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert api.list("batch/v1", "Job", namespace="demo") == []
