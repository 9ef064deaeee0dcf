"""
Metrics, sent through Airflow's own, and a trace span for each API call.

Both are configured in Airflow (``[metrics]``, ``[traces]``) and cost next to nothing while they are
off. Neither contains the key or a result's URL; metrics contain no ids. Log lines are written where
things happen. ``docs/observability.md`` describes all three.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cache, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from airflow_provider_reportrun import __version__
from airflow_provider_reportrun.errors import TransportError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

    from airflow_provider_reportrun.protocol.messages import Request
    from airflow_provider_reportrun.protocol.metrics import Metric
    from airflow_provider_reportrun.secret import Secret

PREFIX: Final = "reportrun."
"""Prefix of each metric, after Airflow's own prefix, and of this package's span attributes."""

Answered: TypeAlias = Callable[[int, str | None], None]
"""Records the status of an answer and its request id."""


def measure(metric: Metric) -> None:
    """Send a measurement to Airflow's metrics."""
    stats = _stats()
    name, tags = PREFIX + metric.name, dict(metric.tags)
    if metric.seconds is None:
        stats.incr(name, metric.amount, tags=tags)
    else:
        # A timedelta, because Airflow's backends disagree about the unit of a bare number.
        stats.timing(name, timedelta(seconds=max(metric.seconds, 0.0)), tags=tags)


@cache
def _stats() -> Any:
    from airflow_provider_reportrun._compat import stats

    return stats()


def api_call(request: Request, base_url: str) -> AbstractContextManager[Answered]:
    """
    Trace one request to the API, if tracing is on.

    Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
    """
    tracer = _tracer()
    if tracer is None:
        return _OFF
    names = {PREFIX + name: value for name, value in request.names.items()}
    attributes = {
        "http.request.method": request.method,
        "url.full": base_url + request.path,
        "url.template": request.template,
        **_server(base_url),
        **names,
    }
    return _traced(tracer, f"{request.method} {request.template}".strip(), attributes)


def download_call(url: Secret) -> AbstractContextManager[Answered]:
    """
    Trace one request for a result file, if tracing is on.

    :param url: a credential: the span contains only its host.
    """
    tracer = _tracer()
    if tracer is None:
        return _OFF
    return _traced(tracer, "GET", {"http.request.method": "GET", **_server(_origin(url))})


def _origin(url: Secret) -> str:
    """Return a URL without path, query and fragment."""
    return urlsplit(url.reveal())._replace(path="", query="", fragment="").geturl()


def _ignore(_status: int, _request_id: str | None) -> None:
    """Record nothing."""


_OFF: Final = nullcontext(_ignore)


def _tracer() -> Tracer | None:
    """Return the tracer if OpenTelemetry is set up; this does not import OpenTelemetry."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return _tracer_of(provider)


@lru_cache(maxsize=1)
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("airflow_provider_reportrun", __version__)


def _server(url: str) -> dict[str, str | int]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:  # such as a port of six digits; sending the request then fails
        return {}
    return {"server.address": parts.hostname or "", "server.port": port}


@contextmanager
def _traced(tracer: Tracer, name: str, attributes: Mapping[str, Any]) -> Iterator[Answered]:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    with tracer.start_as_current_span(
        name,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:

        def answered(status: int, request_id: str | None) -> None:
            span.set_attribute("http.response.status_code", status)
            if request_id:
                span.set_attribute("http.response.header.request-id", [request_id])
            if status >= HTTPStatus.BAD_REQUEST:
                span.set_attribute("error.type", str(status))
                span.set_status(Status(StatusCode.ERROR))

        try:
            yield answered
        except TransportError as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR, error.message))
            raise
