# Copyright: kubescale founders
# SPDX-License-Identifier: Apache-2.0
"""The requests that the API client sends: deletions with a precondition, listings of metadata."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.kube.client import ApiError

from .api_server import client, served

PATH = "/api/v1/namespaces/a/configmaps/b"


def test_an_object_of_another_uid_is_not_deleted(tmp_path: Path) -> None:
    with served() as (server, url):
        api = client(tmp_path, url)
        uid = server.put(PATH, {"data": {"x": "1"}})["metadata"]["uid"]
        with pytest.raises(ApiError) as caught:
            api.delete("v1", "ConfigMap", "b", "a", uid="of-a-former-object")
        assert caught.value.status == 409
        assert PATH in server.objects
        assert api.delete("v1", "ConfigMap", "b", "a", uid=uid, dry_run=True) is None
        assert PATH in server.objects
        api.delete("v1", "ConfigMap", "b", "a", uid=uid)
        assert PATH not in server.objects


@pytest.mark.parametrize("metadata_only", [False, True])
def test_a_listing_has_content_unless_only_metadata_is_asked_for(tmp_path: Path, metadata_only: bool) -> None:
    with served() as (server, url):
        server.put(PATH, {"data": {"x": "1"}})
        (found,) = client(tmp_path, url).list("v1", "ConfigMap", metadata_only=metadata_only).items
    assert (found["kind"], found["metadata"]["name"]) == ("ConfigMap", "b")
    assert ("data" in found) is not metadata_only
