# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The base class of actions: arguments, errors and output."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common import action
from ansible_collections.kubescale.fleet.plugins.plugin_utils.common.errors import FleetError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.action import ClusterAction

VARIABLES = {"inventory_hostname": "api1", "cluster_name": "demo"}


class Example(ClusterAction):
    """An action whose work a test gives."""

    NAME = "example"
    OPTIONS: ClassVar = {
        "days": {"type": "int", "default": 7},
        "output": {"type": "str", "default": "text"},
        "file": {"type": "path"},
    }
    BOUNDS = (action.Bound("days", 1, 90),)

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        return self.work(self)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that the action showed."""
    lines: list[str] = []
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments, **_others: {})
    monkeypatch.setattr(action.display, "display", lambda text, **_others: lines.append(text))
    return lines


def run(work: Any, variables: dict[str, Any] = VARIABLES, **args: Any) -> dict[str, Any]:
    example = object.__new__(Example)
    example._task = SimpleNamespace(args=args, check_mode=False, diff=True)
    example.work = work
    result: dict[str, Any] = example.run(task_vars=variables)
    return result


def test_the_result_says_that_nothing_changed_by_default(shown: list[str]) -> None:
    assert run(lambda _self: {"days": 3}) == {"changed": False, "days": 3}
    assert run(lambda _self: {"changed": True}) == {"changed": True}


def test_arguments_are_converted_and_have_defaults(shown: list[str]) -> None:
    assert run(lambda self: {"args": self.args}, days="3")["args"] == {"days": 3, "output": "text", "file": None}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"days": 0}, r"^days is 0; it must be 1 or more$"),
        ({"days": 91}, r"^days is 91; it must be 90 or less$"),
        ({"days": "x"}, "days"),
    ],
)
def test_wrong_arguments_end_the_action_before_its_work(shown: list[str], args: Any, message: str) -> None:
    def work(_self: Example) -> dict[str, Any]:
        raise AssertionError("it must not begin")

    with pytest.raises(AnsibleActionFail, match=message):
        run(work, **args)


@pytest.mark.parametrize("error", [FleetError("no answer"), OSError("no answer")])
def test_an_error_is_a_failure_with_action_cluster_and_all_that_is_known(shown: list[str], error: Exception) -> None:
    def work(self: Example) -> dict[str, Any]:
        self.result["pods"] = ["a"]
        raise error

    with pytest.raises(AnsibleActionFail) as failed:
        run(work)
    assert failed.value.result["msg"] == "example demo: no answer"
    assert failed.value.result["pods"] == ["a"]
    assert failed.value.result["seconds"] >= 0


def test_a_fault_of_the_collection_is_no_failure_of_the_action(shown: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda _self: {"days": 1 / 0})


def test_a_host_without_a_cluster_stands_for_itself(shown: list[str]) -> None:
    assert run(lambda self: {"names": [self.host, self.cluster]}, {"inventory_hostname": "m1"})["names"] == ["m1", "m1"]


def test_progress_names_the_host(shown: list[str]) -> None:
    run(lambda self: self.say("waiting") or self.warn("an old one") or {})
    assert shown == ["[api1] waiting", "Mind: an old one [api1]"]


def test_a_document_goes_to_its_file_and_the_text_is_shown(shown: list[str], tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    run(lambda self: self.publish({"a": 1}, "a is 1") or {}, file=str(file))
    assert json.loads(file.read_text()) == {"a": 1}
    assert shown == ["a is 1"]


def test_a_document_is_shown_in_place_of_the_text(shown: list[str]) -> None:
    run(lambda self: self.publish({"a": 1}, "a is 1") or {}, output="json")
    run(lambda self: self.publish({"a": 1}) or {}, output="text")
    assert shown == ['{"a": 1}']


def test_options_of_fragments_are_read_and_those_of_the_module_win() -> None:
    options = action.documented_options("apply_set")
    assert options["kubeconfig"] == {"type": "path", "required": True}
    assert options["parent_namespace"] == {"type": "str", "default": "kube-system"}
    assert options["shared_namespaces"]["options"]["name"] == {"type": "str", "required": True}
    # ansible-core marks the strings of documentation.
    assert type(options["parent_namespace"]["default"]) is str
