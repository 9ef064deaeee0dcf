"""
The operations of the API: what is sent, and how the answer is read.

Together with ``models.py`` the seam for other generations of the API (``/v2/data``, ``/v1``), which
differ in paths and shapes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from airflow_provider_reportrun.errors import InvalidInput, UnexpectedAnswer
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
"""Characters that the API takes for an idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A request, how to read its answer, and how to speak of it."""

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
    Ask for a new report run, or for the one that this key already stands for.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/create
    """
    return Call(
        request=Request(
            method="POST",
            path=REPORT_RUNS,
            template=REPORT_RUNS,
            names={"report": report},
            headers={"Idempotency-Key": checked_key(idempotency_key)},
            body=create_body(report, report_parameters, result_options),
        ),
        read=read_report_run,
        tried=f"create a report run of {report}",
    )


def create_body(
    report: str, report_parameters: Mapping[str, Any], result_options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """
    Put together what a create sends, as JSON values.

    :raises InvalidInput: when the report id is empty, or ``result_options`` is not of its form.
    """
    body = {"report": checked_id(report, "report"), "report_parameters": dict(report_parameters)}
    if result_options is not None:
        body["result_options"] = _checked_options(result_options)
    return body


def get_report_run(report_run_id: str, *, with_schema: bool = False) -> Call[ReportRun]:
    """
    Ask for a report run as it is now; a succeeded one comes with a fresh URL.

    :param with_schema: whether the columns of the result are asked for as well, which previews of
        the API know since June 2026; other versions may refuse the question.

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
    Read the report run that was asked for.

    :raises UnexpectedAnswer: when it is another one, whose file would land under the wrong name.
    """
    run = read_report_run(data)
    if run.id != report_run_id:
        raise UnexpectedAnswer(
            f"the answer is about another report run, {run.id!r}. "
            "Check the connection's host, and any proxy or cache on the way."
        )
    return run


def get_report(report_id: str, *, fresh_for_seconds: float = 0.0) -> Call[Report]:
    """
    Ask for a report template: its parameters, and which data it has.

    :param fresh_for_seconds: an answer that others got so long ago will do.

    Source: https://docs.stripe.com/api/v2/reporting/reports/retrieve
    """
    report_id = checked_id(report_id, "report")
    return Call(
        request=Request(
            method="GET",
            path=f"{REPORTS}/{quote(report_id, safe='')}",
            template=f"{REPORTS}/{{report}}",
            names={"report": report_id},
            fresh_for_seconds=fresh_for_seconds,
        ),
        read=read_report,
        tried=f"get report {report_id}",
    )


def is_nothing(value: Any) -> bool:
    """Tell whether a value is None, or what a template makes of None or of nothing."""
    return value is None or (isinstance(value, str) and value.strip() in {"", "None"})


def required(value: Any, name: str) -> Any:
    """
    Refuse what a template renders to where there is no value.

    :raises InvalidInput: names the argument.
    """
    if is_nothing(value):
        raise InvalidInput(
            f"{name} is {value!r}: a value is needed here. Check what its template renders to."
        )
    return value


def if_any(value: Any, name: str) -> Any:  # noqa: ARG001 - as a check is called
    """Take what a template renders to where there is no value for an argument not given."""
    return None if is_nothing(value) else value


def checked_id(value: Any, argument: str) -> str:
    """
    Refuse what cannot be an id before it is sent.

    :raises InvalidInput: when it is no text, empty, or holds blanks; names the argument.
    """
    is_text = isinstance(value, str) and not is_nothing(value)
    if is_text and not any(map(str.isspace, value.strip())):
        return str(value.strip())
    raise InvalidInput(
        f"{argument} must be the id of a {argument.removesuffix('_id').replace('_', ' ')}, "
        f"not {value!r}. Where it comes from a template, check what that renders to."
    )


def checked_key(value: Any) -> str:
    """
    Refuse what cannot be an idempotency key before it is sent.

    :raises InvalidInput: when it is no printable ASCII text of 1 to 255 characters.

    Source: https://docs.stripe.com/api/idempotent_requests
    """
    is_text = isinstance(value, str) and value.isascii() and value.isprintable()
    if is_text and not is_nothing(value) and len(value) <= LONGEST_KEY:
        return str(value)
    raise InvalidInput(
        f"idempotency_key must be 1 to {LONGEST_KEY} printable ASCII characters, not {value!r}. "
        "If it comes from a template, check what that renders to."
    )


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(options, Mapping) or set(options) - {"compress_file"}:
        raise InvalidInput(f"result_options takes compress_file and nothing else, not {options!r}.")
    checked = {name: _FLAGS.get(str(value).lower()) for name, value in options.items()}
    if None in checked.values():
        raise InvalidInput(
            f"compress_file must be True or False, not {options['compress_file']!r}."
        )
    return checked


_FLAGS = {"true": True, "false": False}
"""Also as text, which is what a template renders to."""
