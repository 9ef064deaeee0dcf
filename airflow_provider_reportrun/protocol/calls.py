"""
The operations of the API, the same for every generation: what is sent, and how it is read.

What differs between generations is asked of a ``Generation``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

from airflow_provider_reportrun.errors import InvalidInput, UnexpectedAnswer
from airflow_provider_reportrun.protocol.encoding import item_path, with_query
from airflow_provider_reportrun.protocol.messages import Request
from airflow_provider_reportrun.protocol.requests import (
    QueryRequest,
    RunRequest,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_reportrun.protocol.generation import Generation, ReportPage, RunPage
    from airflow_provider_reportrun.protocol.models import Report, ReportRun

T = TypeVar("T")

NEVER = float("inf")
LONGEST_KEY = 255
"""The most characters that the API accepts in an idempotency key."""


class Call(Struct, Generic[T], frozen=True, kw_only=True):
    """A request, how to read its answer, and how to describe it in errors."""

    request: Request
    read: Callable[[Any], T]
    tried: str
    """Continues "Tried to ..." in error messages."""
    needs: str
    """What a restricted key needs; continues "A restricted key needs" in error messages."""


def create_run(api: Generation, request: RunRequest, key: str) -> Call[ReportRun]:
    """
    Create a run, or get the one that the key already belongs to.

    Whether the answer is the run as it is now, says ``api.idempotency``.

    :param key: the idempotency key.
    :raises InvalidInput: if the key or the request is not valid, or is not one for this generation.
    """
    body = api.encode(api.create_body(request))
    names = {} if isinstance(request, QueryRequest) else {"report": request.report}
    of = "".join(f" of {report}" for report in names.values())
    return Call(
        request=Request(
            method="POST",
            path=api.runs_path,
            template=api.runs_path,
            names=names,
            headers={"Idempotency-Key": checked_key(key)},
            stripe_version=api.stripe_version,
            account_header=api.account_header,
            body=body,
        ),
        read=api.read_run,
        tried=f"create a {api.noun}{of}",
        needs=api.permissions.needs,
    )


def get_run(api: Generation, run_id: str, *, columns: bool = False) -> Call[ReportRun]:
    """
    Get a run as it is now; the URL of a succeeded one is fresh.

    :param columns: whether to request the result's columns too, if the generation does not always
        return them. Some versions of the API refuse the request.
    :raises InvalidInput: if the id is not valid.
    """
    name = f"{api.noun.replace(' ', '_')}_id"
    run_id = checked_id(run_id, name)
    return _get(
        api,
        item_path(api.runs_path, run_id, api.columns_query if columns else None),
        read=partial(_read_run, api, run_id),
        tried=f"get {api.noun} {run_id}",
        template=f"{api.runs_path}/{{{name}}}",
        names={name: run_id},
    )


def _read_run(api: Generation, run_id: str, data: Any) -> ReportRun:
    """
    Read the run that was requested.

    :raises UnexpectedAnswer: if it is another one, whose file would land under the wrong name.
    """
    run = api.read_run(data)
    if run.id != run_id:
        raise UnexpectedAnswer(
            "Check the connection's host, and any proxy or cache on the way: the answer is about "
            f"another {api.noun}, {run.id!r}."
        )
    return run


def list_runs(
    api: Generation,
    *,
    since: datetime | None = None,
    after: str | None = None,
    fresh_since: float = NEVER,
) -> Call[RunPage]:
    """
    Get a page of the runs of an account, newest first.

    :param since: aware; the creation of the oldest run that is wanted; None for no limit.
    :param after: ``next_after`` of the page before; None for the first page.
    :param fresh_since: as of ``get_report``.
    :raises InvalidInput: if this generation has no list of runs.
    """
    if api.run_listing is None:
        raise InvalidInput(f"api={api.name!r} has no list of {api.noun}s: get each by its id.")
    return _get(
        api,
        with_query(api.runs_path, api.run_listing.query(since, after)),
        read=api.run_listing.read,
        tried=f"list {api.noun}s",
        template=api.runs_path,
        fresh_since=fresh_since,
    )


def get_report(api: Generation, report: str, *, fresh_since: float = NEVER) -> Call[Report]:
    """
    Get a report's definition: its parameters, and which data it has.

    :param fresh_since: monotonic seconds; another conversation's answer of that time or later will
        do. By default none will.
    :raises InvalidInput: if the report is not valid, or this generation has no reports.
    :raises NotFound: by ``read``, if the report is named and there is none of this name.
    """
    if api.lookup is None:
        raise InvalidInput(f"api={api.name!r} has no report definitions: use another api.")
    found = api.lookup(report)
    return _get(
        api,
        found.path,
        read=found.read,
        tried=f"get report {report.strip()}",
        template=found.template,
        names={"report": report.strip()},
        fresh_since=fresh_since,
    )


def list_reports(api: Generation, page: str | None = None) -> Call[ReportPage]:
    """
    Get a page of the reports that an account may run.

    :param page: ``next_page`` of the page before; None for the first page.
    :raises InvalidInput: if this generation has no list of reports.
    """
    if api.report_listing is None:
        raise InvalidInput(f"api={api.name!r} has no list of reports: see {api.docs}.")
    path = api.report_listing.path(page)
    return _get(
        api,
        path,
        read=api.report_listing.read,
        tried="list reports",
        template=path.partition("?")[0],
    )


def _get(
    api: Generation,
    path: str,
    *,
    read: Callable[[Any], T],
    tried: str,
    template: str,
    names: Mapping[str, str] | None = None,
    fresh_since: float = NEVER,
) -> Call[T]:
    request = Request(
        method="GET",
        path=path,
        template=template,
        names=names or {},
        stripe_version=api.stripe_version,
        account_header=api.account_header,
        fresh_since=fresh_since,
    )
    return Call(request=request, read=read, tried=tried, needs=api.permissions.needs)


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
