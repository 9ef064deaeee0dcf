"""
The operations of the API: what is sent, and how the answer is read.

Together with ``models.py`` this is where other generations of the API (``/v2/data``, ``/v1``) would
be added, because they differ only in paths and shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from airflow_provider_reportrun.errors import InvalidInput, UnexpectedAnswer
from airflow_provider_reportrun.protocol.encoding import as_json
from airflow_provider_reportrun.protocol.messages import Request
from airflow_provider_reportrun.protocol.models import (
    Report,
    ReportRun,
    read_report,
    read_report_run,
)

T = TypeVar("T")

REPORT_RUNS = "/v2/reporting/report_runs"
REPORTS = "/v2/reporting/reports"
LONGEST_KEY = 255
"""The most characters that the API accepts in an idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A request, how to read its answer, and how to describe it in errors."""

    request: Request
    read: Callable[[Any], T]
    tried: str
    """Continues "Tried to ..." in error messages."""


def create_report_run(
    *,
    report: str,
    report_parameters: Mapping[str, Any],
    result_options: Mapping[str, Any] | None,
    idempotency_key: str,
) -> Call[ReportRun]:
    """
    Create a report run, or get the one that the key already belongs to.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/create
    """
    return Call(
        request=Request(
            method="POST",
            path=REPORT_RUNS,
            template=REPORT_RUNS,
            names={"report": report},
            headers={"Idempotency-Key": checked_key(idempotency_key)},
            body=as_json(create_body(report, report_parameters, result_options)),
        ),
        read=read_report_run,
        tried=f"create a report run of {report}",
    )


def create_body(
    report: str, report_parameters: Mapping[str, Any], result_options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """
    Build the body of a create, as JSON values.

    :raises InvalidInput: if the report id or ``result_options`` is not valid.
    """
    body = {"report": checked_id(report, "report"), "report_parameters": dict(report_parameters)}
    if result_options is not None:
        body["result_options"] = checked_options(result_options)
    return body


def get_report_run(report_run_id: str, *, with_schema: bool = False) -> Call[ReportRun]:
    """
    Get a report run as it is now; a succeeded one has a fresh URL.

    :param with_schema: whether to request the result's columns too. Previews of the API support
        this since June 2026; other versions may refuse the request.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/retrieve; Stripe OpenAPI,
    ``GetV2ReportingReportRunsId``, ``include``.
    """
    report_run_id = checked_id(report_run_id, "report_run_id")
    query = f"?{urlencode({'include[0]': 'result.file.schema'})}" if with_schema else ""
    return Call(
        request=Request(
            method="GET",
            path=f"{REPORT_RUNS}/{quote(report_run_id, safe='')}{query}",
            template=f"{REPORT_RUNS}/{{report_run_id}}",
            names={"report_run_id": report_run_id},
        ),
        read=partial(_read_report_run, report_run_id),
        tried=f"get report run {report_run_id}",
    )


def _read_report_run(report_run_id: str, data: Any) -> ReportRun:
    """
    Read the report run that was requested.

    :raises UnexpectedAnswer: if it is another one, whose file would land under the wrong name.
    """
    run = read_report_run(data)
    if run.id != report_run_id:
        raise UnexpectedAnswer(
            f"the answer is about another report run, {run.id!r}. "
            "Check the connection's host, and any proxy or cache on the way."
        )
    return run


def get_report(report_id: str, *, fresh_since: float = float("inf")) -> Call[Report]:
    """
    Get a report template: its parameters, and which data it has.

    :param fresh_since: monotonic seconds; another conversation's answer of that time or later will
        do. By default none will.

    Source: https://docs.stripe.com/api/v2/reporting/reports/retrieve
    """
    report_id = checked_id(report_id, "report")
    return Call(
        request=Request(
            method="GET",
            path=f"{REPORTS}/{quote(report_id, safe='')}",
            template=f"{REPORTS}/{{report}}",
            names={"report": report_id},
            fresh_since=fresh_since,
        ),
        read=read_report,
        tried=f"get report {report_id}",
    )


def is_nothing(value: Any) -> bool:
    """Tell whether a value is None, or the text that a template renders None or nothing to."""
    return value is None or (isinstance(value, str) and value.strip() in {"", "None"})


def required(value: Any, name: str) -> Any:
    """
    Refuse what a template renders to if there is no value.

    :raises InvalidInput: if there is no value; names the argument.
    """
    if is_nothing(value):
        raise InvalidInput(
            f"{name} is {value!r}, but a value is required. Check what its template renders to."
        )
    return value


def if_any(value: Any, name: str) -> Any:  # noqa: ARG001 - the signature of a check
    """Return None for what a template renders to if there is no value."""
    return None if is_nothing(value) else value


def checked_id(value: Any, argument: str) -> str:
    """
    Refuse a value that cannot be an id before it is sent.

    :return: the id, without spaces around it.
    :raises InvalidInput: if the value is not text, is empty or has spaces; names the argument.
    """
    is_text = isinstance(value, str) and not is_nothing(value)
    if is_text and not any(map(str.isspace, value.strip())):
        return str(value.strip())
    raise InvalidInput(
        f"{argument} must be the id of a {argument.removesuffix('_id').replace('_', ' ')}, "
        f"not {value!r}. If it comes from a template, check what that renders to."
    )


def checked_key(value: Any) -> str:
    """
    Refuse a value that cannot be an idempotency key before it is sent.

    :raises InvalidInput: if the value is not printable ASCII text of 1 to 255 characters.

    Source: https://docs.stripe.com/api/idempotent_requests
    """
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if is_text and not is_nothing(value) and len(value) <= LONGEST_KEY:
        return str(value)
    raise InvalidInput(
        f"idempotency_key must be 1 to {LONGEST_KEY} printable ASCII characters, not {value!r}. "
        "If it comes from a template, check what that renders to."
    )


def key_if_any(value: Any, name: str) -> str | None:  # noqa: ARG001 - the signature of a check
    """
    Return an idempotency key, or None for what a template renders to if there is no value.

    :raises InvalidInput: if the value is neither.
    """
    return None if is_nothing(value) else checked_key(value)


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check ``result_options`` before they are sent.

    :raises InvalidInput: if there is another option, or its value is not a flag.
    """
    if not isinstance(options, Mapping) or set(options) - {"compress_file"}:
        raise InvalidInput(f"result_options accepts only compress_file, not {options!r}.")
    checked = {name: _FLAGS.get(str(value).lower()) for name, value in options.items()}
    if None in checked.values():
        raise InvalidInput(
            f"compress_file must be True or False, not {options['compress_file']!r}."
        )
    return checked


_FLAGS = {"true": True, "false": False}
"""Also as text, because templates render to text."""
