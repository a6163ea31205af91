"""Questions to a cluster's Prometheus, asked through the service proxy of its API server.

Nothing is forwarded or published for it: whoever may use the API server's proxy may ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..common.components import NAMESPACES, PROMETHEUS_SERVICES
from ..common.errors import FleetError
from .objects import with_query

# The service of the roles' Prometheus by flavour: namespace, name and port of the object they create.
SERVICES = {flavor: f"{NAMESPACES[flavor]}/{name}:9090" for flavor, name in PROMETHEUS_SERVICES.items()}
# What an answer in JSON becomes.
Answer = Any


class Reader(Protocol):
    """The part of an API connection that is needed here (see ``kube.Api``)."""

    def raw(self, path: str) -> Answer:
        """Return the JSON answer at a path of the API server; raise ``ApiError`` where there is none."""


class PrometheusError(FleetError):
    """Prometheus answered, but not with data; the message is its own."""


def service_path(service: str, path: str, arguments: Mapping[str, Any] | None = None) -> str:
    """Path on the API server that leads to ``path`` of a service ``namespace/name:port``."""
    namespace, _unused, name = service.partition("/")
    return with_query(f"/api/v1/namespaces/{namespace}/services/{name}/proxy{path}", arguments)


def prometheus_data(answer: Answer, question: str) -> Answer:
    """Data of a Prometheus answer; a ``PrometheusError`` with its reason when it holds none."""
    if not isinstance(answer, Mapping) or answer.get("status") != "success":
        reason = answer.get("error", answer) if isinstance(answer, Mapping) else answer
        raise PrometheusError(f"Prometheus did not answer {question}: {reason}")
    return answer["data"]


def prometheus_query(api: Reader, expr: str, service: str = SERVICES["operator"]) -> list[dict[str, Any]]:
    """Samples of an instant query, as Prometheus' JSON has them (``metric`` labels and ``value``)."""
    answer = api.raw(service_path(service, "/api/v1/query", {"query": expr}))
    return prometheus_data(answer, expr)["result"]


def prometheus_query_range(
    api: Reader, expr: str, start: float, end: float, step: float, service: str = SERVICES["operator"]
) -> list[dict[str, Any]]:
    """Series of a range query between two Unix times, one value every ``step`` seconds."""
    arguments = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
    answer = api.raw(service_path(service, "/api/v1/query_range", arguments))
    return prometheus_data(answer, expr)["result"]
