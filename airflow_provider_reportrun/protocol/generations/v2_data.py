"""
``/v2/data``: reports by id or name, whose runs say up to when their data are complete.

Source: stripe-python 16.1.0a4 (``2026-10-14.preview``), ``stripe/v2/data``;
https://docs.stripe.com/api/v2/data/report-runs/object (``2026-10-28.preview``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from airflow_provider_reportrun.errors import InvalidInput, NotFound
from airflow_provider_reportrun.protocol.calls import checked_id
from airflow_provider_reportrun.protocol.encoding import item_path, with_query
from airflow_provider_reportrun.protocol.generation import (
    Generation,
    Lookup,
    Permissions,
    ReportListing,
    ReportPage,
)
from airflow_provider_reportrun.protocol.generations.v2_reporting import read_file, read_report
from airflow_provider_reportrun.protocol.models import Report, ReportRun
from airflow_provider_reportrun.protocol.reading import (
    read_flag,
    read_id,
    read_instant,
    read_list,
    read_mapping,
    read_status,
    read_text,
)
from airflow_provider_reportrun.protocol.requests import RunRequest, checked_flags, report_of
from airflow_provider_reportrun.text import MESSAGE, plain, shown

REPORTS: Final = "/v2/data/reports"
BY_NAME: Final = "name:"
"""
Begins a report that is named and not identified: ``name:balance.summary``. The API has a field for
each, and names may be any text, so they cannot be told apart by their form.
"""
_LONGEST_NAME: Final = 255
_DEFINED: Final = {"include[0]": "parameters"}
"""Without it, a report comes without its parameters."""
_PAGE: Final = {"limit": "100"}


def create_body(request: RunRequest) -> dict[str, Any]:
    """
    Build the body of a create, as JSON values.

    :raises InvalidInput: if the report or ``result_options`` is not valid.
    """
    asked = report_of(request, "with api='v2.data' use a CreateQueryRunOperator.")
    name = _name(asked.report)
    return {
        "report": {"id": checked_id(asked.report, "report")} if name is None else {"name": name},
        "parameters": dict(asked.parameters),
        "format": "csv",
        **options_sent(asked.options),
    }


def _name(report: Any) -> str | None:
    """
    Return the name of a report that is given by name; None if it is given by id.

    :raises InvalidInput: if the name is empty, or longer than any name.
    """
    if not isinstance(report, str) or not report.strip().startswith(BY_NAME):
        return None
    name = report.strip().removeprefix(BY_NAME).strip()
    if name and name != "None" and name.isprintable() and len(name) <= _LONGEST_NAME:
        return name
    raise InvalidInput(
        f"report must be an id or {BY_NAME}... with the name of a report, not {shown(report)}. "
        "If it comes from a template, check what that renders to."
    )


def options_sent(options: Any) -> dict[str, Any]:
    """
    Check ``result_options``, and return the field to send; without options, there is none.

    The API's option has had two names: ``compress_file``, a flag, up to ``2026-10-14.preview``, and
    ``compression``, a text, in ``2026-10-28.preview``. Either is sent as it is given.

    :raises InvalidInput: if there is another option, or both, or the value of one is not valid.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping) or len(options) > 1:
        raise InvalidInput(
            f"result_options accepts only compress_file or compression, not {shown(options)}. "
            "Which of them depends on the connection's stripe_version."
        )
    compression = options.get("compression")
    if "compression" not in options:
        return {"result_options": checked_flags(options, "compress_file", "compression")}
    if isinstance(compression, str) and compression.isidentifier():
        return {"result_options": {"compression": compression}}
    raise InvalidInput(f"compression must be a word such as 'none', not {shown(compression)}.")


def read_run(data: Any) -> ReportRun:
    """
    Read a report run.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id or the status is missing, or the id is not valid.
    """
    run = read_mapping(data)
    details = read_mapping(run.get("status_details"))
    return ReportRun(
        id=read_id(run, "report run"),
        status=read_status(run, "report run"),
        report=read_text(run.get("report")) or "",
        report_name=read_text(run.get("name")) or "",
        report_parameters=plain(read_mapping(run.get("parameters"))),
        created_at=read_instant(run.get("created")),
        livemode=read_flag(run.get("livemode")),
        file=read_file(run, "columns"),
        error_code=read_text(details.get("code")),
        error_message=read_text(details.get("message"), MESSAGE),
        refreshed_at=read_instant(run.get("refreshed_at")),
    )


def lookup(report: str) -> Lookup:
    """
    Return how to get a report's definition, by id or by name.

    :raises InvalidInput: if the report is not valid.
    """
    name = _name(report)
    if name is None:
        path = item_path(REPORTS, checked_id(report, "report"), _DEFINED)
        return Lookup(path, f"{REPORTS}/{{report}}", read_report)
    return Lookup(
        with_query(REPORTS, {"name": name, **_DEFINED}), REPORTS, partial(_read_only, name)
    )


def _read_only(name: str, data: Any) -> Report:
    """
    Read the only report of a name.

    :raises NotFound: if there is none.
    :raises InvalidInput: if there are several.
    """
    page = read_page(data)
    if not page.reports:
        raise NotFound(
            f"Correct the name of the report: none has the name {name!r} for this key and account. "
            "Names are case-sensitive and have no version, such as 'balance.summary'."
        )
    if len(page.reports) > 1:
        ids = ", ".join(each.id for each in page.reports)
        raise InvalidInput(f"Several reports have the name {name!r}: use one of the ids {ids}.")
    return page.reports[0]


def page_path(page: str | None) -> str:
    """Return the path of a page of reports; their parameters come with the definition of each."""
    return with_query(REPORTS, _PAGE if page is None else {**_PAGE, "page": page})


def read_page(data: Any) -> ReportPage:
    """
    Read one page of reports.

    Only the page's token is taken from the URL of the next one, so no other place is ever asked.

    :raises UnexpectedAnswer: if the id of a report is missing or not valid.
    """
    page = read_mapping(data)
    reports = tuple(map(read_report, read_list(page.get("data"))))
    return ReportPage(reports, _token(page.get("next_page_url")))


def spellings(report: Report) -> tuple[str, ...]:
    """Return what ``report`` may be to name a report: its name is easier to read than its id."""
    return (f"{BY_NAME}{report.name}", report.id) if report.name else (report.id,)


def _token(url: Any) -> str | None:
    try:
        tokens = parse_qs(urlsplit(url).query).get("page") if isinstance(url, str) else None
    except ValueError:
        return None
    return tokens[0] if tokens else None


GENERATION: Final = Generation(
    name="v2.data",
    docs="https://docs.stripe.com/api/v2/data/report-runs",
    stripe_version="2026-10-28.preview",
    permissions=Permissions(create="data_reports_read", read="data_reports_read"),
    runs_path="/v2/data/report_runs",
    create_body=create_body,
    read_run=read_run,
    lookup=lookup,
    report_listing=ReportListing(page_path, read_page, spellings),
    shows_data_on_run=True,
    capacity_group="v2.data",
    queries="v2.data.query_runs",
)
