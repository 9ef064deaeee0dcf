"""
What a task asks for, in the same form for every generation of the API.

Each generation turns it into the body that it sends (``Generation.create_body``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.text import shown


class ReportRequest(NamedTuple):
    """A run of one of Stripe's reports."""

    report: str
    """The id; in v2.data also ``name:`` and the name."""
    parameters: Mapping[str, str | list[str]]
    """As ``interval.report_parameters`` returns them: instants as RFC 3339 in UTC with ms."""
    options: Mapping[str, Any] | None = None
    """``result_options``; None sends none."""


class QueryRequest(NamedTuple):
    """A run of a SQL query."""

    sql: str
    options: Mapping[str, Any] | None = None
    """``result_options``; None sends none."""


RunRequest: TypeAlias = ReportRequest | QueryRequest

_FLAGS = {"true": True, "false": False}
"""Also as text, because templates render to text."""


def report_of(request: RunRequest, instead: str) -> ReportRequest:
    """
    Return a request for a report.

    :param instead: what to do with a query, for the error.
    :raises InvalidInput: if it is a query.
    """
    if isinstance(request, ReportRequest):
        return request
    raise InvalidInput(f"A SQL query is not a report: {instead}")


def query_of(request: RunRequest, instead: str) -> QueryRequest:
    """
    Return a request for a query.

    :param instead: what to do with a report, for the error.
    :raises InvalidInput: if it is a report, or there is no SQL.
    """
    if not isinstance(request, QueryRequest):
        raise InvalidInput(f"The report {request.report!r} is not a SQL query: {instead}")
    checked_sql(request.sql)
    return request


def checked_sql(value: Any) -> str:
    """
    Check the text of a query.

    :raises InvalidInput: if it is empty, or no text.
    """
    if isinstance(value, str) and value.strip() not in {"", "None"}:
        return value
    raise InvalidInput(
        f"sql must be the text of a query, not {shown(value)}. If it comes from a template, check "
        "what that renders to."
    )


def is_compressed(options: Any) -> bool:
    """Tell whether ``result_options`` ask for a ZIP, in any of their spellings."""
    if not isinstance(options, Mapping):
        return False
    return bool(_FLAGS.get(str(options.get("compress_file")).lower())) or options.get(
        "compression", "none"
    ) not in {"none", None}


def checked_flags(options: Any, *names: str) -> dict[str, Any]:
    """
    Check ``result_options`` that are flags.

    :param names: the options that the API has.
    :raises InvalidInput: if there is another option, or the value of one is no flag.
    """
    if not isinstance(options, Mapping) or set(options) - set(names):
        raise InvalidInput(f"result_options accepts only {' or '.join(names)}, not {options!r}.")
    checked = {name: _FLAGS.get(str(value).lower()) for name, value in options.items()}
    for name, value in checked.items():
        if value is None:
            raise InvalidInput(f"{name} must be True or False, not {options[name]!r}.")
    return checked
