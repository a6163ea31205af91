# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""Objects that move from one set of ours to another: changed in place, never deleted, never lost between the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.apply import ApplySet
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.operation import Handover
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.outcome import ApplySetError, ForeignError
from ansible_collections.kubescale.fleet.plugins.plugin_utils.applyset.ownership import PART_OF_LABEL, set_id
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import Api
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.waiting import NotReadyError

from .test_apply_set import actions, config_map, deployment, namespace
from .test_ownership import api_service

JSON = dict[str, Any]
MakeSet = Callable[..., ApplySet]


@pytest.fixture
def moved(name: str) -> str:
    """Name of the APIService that moves."""
    return f"v1.{name}.example.com"


@pytest.fixture
def first(api: Api, name: str, make_set: MakeSet) -> list[JSON]:
    """What the first set has without the APIService; with it, it is applied."""
    # Not of the set: a namespace only goes while every API answers, and nothing answers behind an APIService here.
    api.apply(namespace(name), "somebody")
    objects = [config_map(name)]
    make_set().apply([*objects, api_service(f"{name}.example.com", name)], wait=False)
    return objects


def served_by(api: Api, name: str) -> tuple[str, str]:
    found = api.get("apiregistration.k8s.io/v1", "APIService", name)
    assert found is not None
    return found["spec"]["service"]["name"], found["metadata"]["labels"][PART_OF_LABEL]


def test_a_member_moves_in_place(api: Api, name: str, moved: str, first: list[JSON], make_set: MakeSet) -> None:
    second, uid = f"{name}-second", api.get("apiregistration.k8s.io/v1", "APIService", moved)["metadata"]["uid"]  # type: ignore[index]
    wanted = [config_map(name, "second"), api_service(f"{name}.example.com", name, "second")]
    with pytest.raises(ForeignError, match=f"belongs to set kube-system/{name}"):
        make_set(second).apply(wanted, wait=False)
    predicted = make_set(second, take_from=[name], check=True).apply(wanted, wait=False)
    outcome = make_set(second, take_from=[name]).apply(wanted, wait=False)
    assert (
        actions(predicted) == actions(outcome) == {"ConfigMap/second": "created", f"APIService/{moved}": "configured"}
    )
    assert served_by(api, moved) == ("second", set_id(second, "kube-system"))
    # The one that had it has nothing to do with it any more, whether it is told so or not.
    given = [Handover("APIService", moved, second)]
    assert not make_set(hand_over=given).apply(first).changed
    assert not make_set().apply(first).changed
    assert actions(make_set(hand_over=given).remove()).keys() == {"ConfigMap/settings"}
    assert api.get("apiregistration.k8s.io/v1", "APIService", moved)["metadata"]["uid"] == uid  # type: ignore[index]
    assert not make_set(second, take_from=[name]).apply(wanted, wait=False).changed
    make_set(second).remove()


def test_who_has_to_give_it_does_not_drop_it(
    api: Api, name: str, moved: str, first: list[JSON], make_set: MakeSet
) -> None:
    given, taken = ([Handover("APIService", moved, "second", done)] for done in (False, True))
    for attempt in (make_set(hand_over=given), make_set(hand_over=given, check=True)):
        with pytest.raises(ApplySetError, match=f"APIService {moved} is to go to set second"):
            attempt.apply([*first, config_map(name, "more")])
    with pytest.raises(ApplySetError, match="Apply that set first"):
        make_set(hand_over=given).remove()
    assert api.get("v1", "ConfigMap", "more", name) is None
    # In check mode the other set would have taken it.
    assert not make_set(hand_over=taken, check=True).apply(first).changed
    assert f"APIService/{moved}" not in actions(make_set(hand_over=taken, check=True).remove())
    assert served_by(api, moved) == ("app", set_id(name, "kube-system"))
    assert actions(make_set().remove())[f"APIService/{moved}"] == "deleted"


def test_it_stays_where_it_is_until_what_serves_it_next_is_ready(
    api: Api, name: str, moved: str, first: list[JSON], make_set: MakeSet
) -> None:
    assert first
    # No controller runs here: this Deployment never becomes ready.
    wanted = [deployment(name), api_service(f"{name}.example.com", name, "second")]
    with pytest.raises(NotReadyError, match=f"Deployment {name}/app"):
        make_set(f"{name}-second", take_from=[name], timeout=1.0).apply(wanted, wait=False)
    assert served_by(api, moved) == ("app", set_id(name, "kube-system"))
    make_set().remove()
