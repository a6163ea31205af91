"""The API of a cluster, read by a client that this project did not write: the `openshift` package's dynamic client."""

from __future__ import annotations

import json
from typing import Any

import kubernetes.config
from kubernetes.dynamic.exceptions import NotFoundError
from openshift.dynamic import DynamicClient

JSON = dict[str, Any]


class Cluster:
    """Reads and deletes objects of one cluster; objects are plain dictionaries."""

    def __init__(self, kubeconfig: str) -> None:
        self._client = DynamicClient(kubernetes.config.new_client_from_config(kubeconfig))

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> JSON | None:
        """Return one object, or None if it does not exist."""
        resource = self._client.resources.get(api_version=api_version, kind=kind)
        try:
            return resource.get(name=name, namespace=namespace).to_dict()
        except NotFoundError:
            return None

    def list(
        self, api_version: str, kind: str, namespace: str | None = None, label_selector: str | None = None
    ) -> list[JSON]:
        """Return all objects of a kind, in one namespace or in all."""
        resource = self._client.resources.get(api_version=api_version, kind=kind)
        return resource.get(namespace=namespace, label_selector=label_selector).to_dict()["items"]

    def raw(self, path: str) -> Any:
        """Return the JSON that a GET of a path and query answers."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """Return what a GET of a path and query answers."""
        return self._client.request("get", path, serialize=False).data.decode()

    def service(self, namespace: str, name: str, port: int, path: str) -> Any:
        """Return the JSON that a Service answers through the API server's proxy."""
        return self.raw(f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy{path}")

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete one object."""
        self._client.resources.get(api_version=api_version, kind=kind).delete(name=name, namespace=namespace)
