"""Every fault of faults.py is found at its link with its cause, and the doctor is content when it is healed."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults
import pytest
import yaml
from ansible_collections.kubescale.fleet.plugins.plugin_utils.apps.parse import parse_apps
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health import doctor
from ansible_collections.kubescale.fleet.plugins.plugin_utils.health.examination import circumstances
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube import client as kube
from faults import Create, Delete, DeletePods, Edit, Fault, Removed, Shell
from playbook_runs import INVENTORY, REPOSITORY, run_playbook

KUBECONFIG = REPOSITORY / ".state" / "doctor" / "kubeconfig"
DOCUMENT = REPOSITORY / ".state" / "doctor" / "doctor.json"
# No state that a test waits for takes longer to come.
LONGEST = 150.0
JSON_PATCH = "application/json-patch+json"
PROMETHEUS_POD = "/api/v1/namespaces/monitoring/pods/prometheus-k8s-0"


@pytest.fixture(scope="module")
def api() -> kube.Api:
    return kube.connect(KUBECONFIG)


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    """Variables of the cluster's host."""
    found: dict[str, Any] = yaml.safe_load((INVENTORY / "group_vars" / "all.yml").read_text())
    return found


@pytest.fixture(scope="module")
def entries(variables: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = variables["autoscaled_apps"]
    return found


@pytest.fixture(scope="module")
def examine(api: kube.Api, variables: dict[str, Any]) -> Callable[[], doctor.Diagnosis]:
    """The doctor in this process, to wait with; what is judged comes from the playbook."""
    apps = parse_apps(variables["autoscaled_apps"])

    def examine() -> doctor.Diagnosis:
        settings = circumstances(api, apps, "operator", variables, lambda value: value)
        return doctor.examine(api, apps, settings)

    return examine


# -- injecting and healing --------------------------------------------------------------------------------------------


class Case:
    """A fault that is in, and how it is taken out again."""

    def __init__(self, api: kube.Api, fault: Fault) -> None:
        self.api, self.fault = api, fault
        self.undo: list[Callable[[], Any]] = []

    def inject(self) -> None:
        for step in self.fault.steps:
            match step:
                case Edit():
                    self.edit(step)
                case Create():
                    created = self.api.request("POST", step.path, body=step.body)[1]
                    path = f"{step.path}/{created['metadata']['name']}"
                    self.undo.append(lambda path=path: self.delete(path))
                case Delete():
                    body = bare(self.api.raw(step.path))
                    self.delete(step.path)
                    path = step.path.rpartition("/")[0]
                    self.undo.append(lambda path=path, body=body: self.api.request("POST", path, body=body))
                case DeletePods():
                    if "inject" in step.when:
                        self.delete_pods(step.namespace)
                    if "heal" in step.when:
                        self.undo.append(lambda step=step: self.delete_pods(step.namespace))
                case Shell():
                    faults.shell(step.machine, step.inject)
                    self.undo.append(lambda step=step: faults.shell(step.machine, step.heal))

    def heal(self) -> None:
        for undo in self.undo:
            undo()

    def edit(self, step: Edit) -> None:
        before = self.api.raw(step.path)
        forth, back = [], []
        for pointer, given in step.values.items():
            known, old = held(before, pointer)
            value = given(old) if callable(given) and given is not Removed else given
            forth.append(operation(pointer, value, known))
            back.append(operation(pointer, old if known else Removed, value is not Removed))
        self.patch(step.path, forth)
        self.undo.append(lambda: self.patch(step.path, back))

    def patch(self, path: str, operations: list[dict[str, Any]]) -> None:
        self.api.request("PATCH", path, body=operations, content_type=JSON_PATCH)  # type: ignore[arg-type]

    def delete(self, path: str) -> None:
        self.api.request("DELETE", path, body={"propagationPolicy": "Background"})

    def delete_pods(self, namespace: str) -> None:
        self.api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods", body={"gracePeriodSeconds": 1})


def held(item: Any, pointer: str) -> tuple[bool, Any]:
    """Whether an object has something at a JSON pointer, and what."""
    for part in pointer.lstrip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(item, list) and name.isdigit() and int(name) < len(item):
            item = item[int(name)]
        elif isinstance(item, dict) and name in item:
            item = item[name]
        else:
            return False, None
    return True, copy.deepcopy(item)


def operation(pointer: str, value: Any, known: bool) -> dict[str, Any]:
    """The operation of a JSON patch that sets a value, or removes what is there."""
    if value is Removed:
        return {"op": "remove", "path": pointer}
    return {"op": "replace" if known else "add", "path": pointer, "value": value}


def bare(item: dict[str, Any]) -> dict[str, Any]:
    """An object as it can be created again."""
    metadata = {name: item["metadata"][name] for name in ("name", "labels", "annotations") if name in item["metadata"]}
    return {**{name: item[name] for name in ("apiVersion", "kind", "spec")}, "metadata": metadata}


# -- looking ----------------------------------------------------------------------------------------------------------


def diagnosis_of(found: doctor.Diagnosis, fault: Fault) -> tuple[str, str]:
    """Link and cause that the doctor says of a fault's app, or of its part of the cluster."""
    if fault.app:
        (patient,) = [each for each in found.apps if each.name == fault.app]
        return (patient.diagnosis.link, patient.diagnosis.cause) if patient.diagnosis else ("", patient.state)
    (finding,) = [each for each in found.cluster.findings if each.link == fault.link]
    return finding.link, finding.cause


def until(reached: Callable[[], str], meanwhile: Callable[[], Any] = lambda: None) -> str:
    """Wait for a state that several objects make up together: until nothing is left to be said, or too long."""
    deadline = time.monotonic() + LONGEST
    while (said := reached()) and time.monotonic() < deadline:
        meanwhile()
        time.sleep(0.5)
    return said


def healthy(examine: Callable[[], doctor.Diagnosis]) -> Callable[[], str]:
    """What is not healthy yet."""

    def look() -> str:
        found = examine()
        return doctor.describe("doctor", found) if found.ill else ""

    return look


def run_doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and document of the playbook."""
    DOCUMENT.unlink(missing_ok=True)
    run = run_playbook("doctor", "-e", "output=json", "-e", f"output_file={DOCUMENT}", *arguments)
    assert DOCUMENT.exists(), run.output
    return run.returncode, json.loads(DOCUMENT.read_text())


def found_in(document: dict[str, Any], fault: Fault) -> dict[str, Any]:
    """The finding about a fault in the playbook's document."""
    if fault.app:
        (app,) = [each for each in document["apps"] if each["name"] == fault.app]
        assert app["diagnosis"], app
        return app["diagnosis"]
    (finding,) = [each for each in document["general"] if each["link"] == fault.link]
    return finding


def check(document: dict[str, Any], fault: Fault) -> None:
    """Compare what the playbook found with what the fault is."""
    finding = found_in(document, fault)
    assert (finding["link"], finding["cause"]) == (fault.link, fault.cause), finding
    assert fault.words in finding["evidence"]
    assert finding["advice"]


def hurry(api: kube.Api) -> None:
    """Let the kubelet look at Prometheus' configuration now, as it does when a pod changes, not in a minute or so."""
    annotations = {"metadata": {"annotations": {"looked-at": f"{time.time():.0f}"}}}
    pod = ("v1", "Pod", "prometheus-k8s-0")
    if api.get(*pod, "monitoring"):
        api.patch(*pod, annotations, "monitoring")


def clock_ahead(folder: Path, seconds: int) -> Path:
    """A library whose programs have a wall clock that is so much fast."""
    source, library = Path(__file__).parents[1] / "files" / "clock_ahead.c", folder / "clock_ahead.so"
    subprocess.run(["gcc", "-shared", "-fPIC", f"-DAHEAD={seconds}", "-o", library, source], check=True)
    return library


# -- tests, one after the other ---------------------------------------------------------------------------------------


def test_there_is_an_app_for_every_fault(entries: Sequence[dict[str, Any]]) -> None:
    assert list(entries) == [faults.entry(name) for name in faults.APPS]


def test_a_healthy_cluster_is_found_healthy_in_a_few_seconds(examine: Callable[[], doctor.Diagnosis]) -> None:
    assert until(healthy(examine)) == ""
    status, document = run_doctor()
    assert status == 0
    assert document["healthy"]
    # On an idle machine it is one.
    assert document["seconds"] < 10


@dataclass(frozen=True)
class Told:
    """What the playbook says while every app has its fault, and what is not healthy after all are healed."""

    status: int
    document: dict[str, Any]
    text: str
    left: str


@pytest.fixture(scope="module")
def told(api: kube.Api, examine: Callable[[], doctor.Diagnosis]) -> Told:
    cases = [Case(api, fault) for fault in faults.OF_APPS]
    for case in cases:
        case.inject()

    def look() -> str:
        found = examine()
        wrong = {
            fault.app: said
            for fault in faults.OF_APPS
            if (said := diagnosis_of(found, fault)) != (fault.link, fault.cause)
        }
        return str(wrong) if wrong else ""

    # Which one is not found is for the tests to say: whatever it is, all are healed first.
    until(look, lambda: hurry(api))
    status, document = run_doctor()
    text = run_playbook("doctor").messages()
    for case in cases:
        case.heal()
    left = until(healthy(examine), lambda: hurry(api))
    DOCUMENT.with_suffix(".txt").write_text(text)
    return Told(status, document, text, left)


@pytest.mark.parametrize("fault", faults.OF_APPS, ids=lambda fault: fault.app)
def test_a_fault_of_an_app_is_found(told: Told, fault: Fault) -> None:
    check(told.document, fault)
    assert f"✗ {fault.app}: broken at {fault.link}, {fault.cause}" in told.text


def test_apps_without_a_fault_are_healthy_beside_them_and_the_run_fails(told: Told) -> None:
    ill = {fault.app for fault in faults.OF_APPS}
    states = {app["name"]: app["state"] for app in told.document["apps"] if app["name"] not in ill}
    assert set(states.values()) == {"healthy"}, states
    assert told.status != 0


def test_the_doctor_is_content_when_all_are_healed(told: Told) -> None:
    assert told.left == ""


@pytest.mark.parametrize("fault", faults.OF_THE_CLUSTER, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_fault_of_the_cluster_is_found_and_healed(
    api: kube.Api,
    examine: Callable[[], doctor.Diagnosis],
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    case = Case(api, fault)
    case.inject()

    def look() -> str:
        said = diagnosis_of(examine(), fault)
        if said != (fault.link, fault.cause):
            return str(said)
        if fault.refuses:
            try:
                api.raw(fault.refuses)
            except kube.ApiError:
                return ""
            return f"{fault.refuses} still answers"
        return ""

    if fault.steps:
        until(look)
        document = examine().document("doctor")
    else:
        # Only a run of its own can have a clock of its own.
        monkeypatch.setenv("LD_PRELOAD", str(clock_ahead(tmp_path, fault.ahead)))
        document = run_doctor()[1]
        monkeypatch.undo()
    case.heal()
    ill = until(healthy(examine))
    check(document, fault)
    assert not document["healthy"]
    assert ill == ""


def test_at_the_end_the_doctor_is_content() -> None:
    status, document = run_doctor()
    assert (status, document["healthy"]) == (0, True)
