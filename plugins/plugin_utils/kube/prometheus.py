"""Query a cluster's Prometheus through the service proxy of the API server.

So Prometheus needs no published port, and the API server decides who may query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..common.components import NAMESPACES, PROMETHEUS_SERVICES
from ..common.errors import FleetError
from .objects import with_query

# Service of Prometheus by flavour, as namespace/name:port. The roles create it.
SERVICES = {flavor: f"{NAMESPACES[flavor]}/{name}:9090" for flavor, name in PROMETHEUS_SERVICES.items()}
# Parsed JSON.
Answer = Any


class Reader(Protocol):
    """The methods of ``kube.client.Api`` that this module needs."""

    def raw(self, path: str) -> Answer:
        """Return the parsed JSON at a path of the API server. Raise ApiError if the request fails."""


class PrometheusError(FleetError):
    """Prometheus answered with an error. The message contains its text."""


def service_path(service: str, path: str, arguments: Mapping[str, Any] | None = None) -> str:
    """Return the path on the API server that proxies ``path`` of a service ``namespace/name:port``."""
    namespace, _unused, name = service.partition("/")
    return with_query(f"/api/v1/namespaces/{namespace}/services/{name}/proxy{path}", arguments)


def prometheus_data(answer: Answer, question: str) -> Answer:
    """Return the data of an answer. Raise PrometheusError if the answer is an error."""
    if not isinstance(answer, Mapping) or answer.get("status") != "success":
        reason = answer.get("error", answer) if isinstance(answer, Mapping) else answer
        raise PrometheusError(f"Prometheus did not answer {question}: {reason}")
    return answer["data"]


def prometheus_query(api: Reader, expr: str, service: str = SERVICES["operator"]) -> list[dict[str, Any]]:
    """Return the samples of an instant query in Prometheus' format (``metric`` and ``value``)."""
    answer = api.raw(service_path(service, "/api/v1/query", {"query": expr}))
    return prometheus_data(answer, expr)["result"]


def prometheus_query_range(
    api: Reader, expr: str, start: float, end: float, step: float, service: str = SERVICES["operator"]
) -> list[dict[str, Any]]:
    """Return the series of a range query between two Unix times, with a value every ``step`` seconds."""
    arguments = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
    answer = api.raw(service_path(service, "/api/v1/query_range", arguments))
    return prometheus_data(answer, expr)["result"]
