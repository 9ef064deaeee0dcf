"""
``/v1/reporting``: forms for JSON, seconds for timestamps, and lists of runs and report types.

Source: https://docs.stripe.com/api/reporting/report_run; https://docs.stripe.com/reports/v1-api;
Stripe OpenAPI, ``2026-09-30.endive``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.calls import checked_id
from airflow_provider_reportrun.protocol.encoding import as_form, item_path
from airflow_provider_reportrun.protocol.generation import (
    DAY,
    Generation,
    Idempotency,
    Lookup,
    Permissions,
    ReportListing,
    ReportPage,
    RunListing,
    RunPage,
)
from airflow_provider_reportrun.protocol.interval import (
    INTERVAL_END,
    INTERVAL_START,
    format_instant,
)
from airflow_provider_reportrun.protocol.models import (
    RUNNING,
    Report,
    ReportParameter,
    ReportRun,
    ResultFile,
)
from airflow_provider_reportrun.protocol.reading import (
    read_count,
    read_epoch,
    read_flag,
    read_id,
    read_instant,
    read_list,
    read_mapping,
    read_name,
    read_status,
    read_text,
    read_url,
)
from airflow_provider_reportrun.protocol.requests import ReportRequest, RunRequest, report_of
from airflow_provider_reportrun.text import MESSAGE, plain

REPORT_TYPES: Final = "/v1/reporting/report_types"
_BOUNDS: Final = (INTERVAL_START, INTERVAL_END)
_PENDING: Final = "pending"
_DEFAULT_ZONE: Final = {"timezone": "Etc/UTC"}
_PER_PAGE: Final = 100
_UNDEFINED: Final = frozenset(
    {
        "columns",
        "connected_account",
        "connected_accounts",
        "currency",
        "customer",
        "decimal_format",
        "decimal_separator",
        "interval_end",
        "interval_start",
        "invoice",
        "invoice_line_item",
        "payout",
        "reporting_category",
        "timezone",
    }
)
"""
What report types take, although the API does not define it.

Source: https://docs.stripe.com/reports/report-types; Stripe OpenAPI, ``2026-09-30.endive``
"""
_PERMISSION: Final = "report_runs_and_report_types_read"


def create_body(request: RunRequest) -> dict[str, Any]:
    """
    Build the body of a create, as JSON values; bounds become seconds since 1970.

    :raises InvalidInput: for a query, for ``result_options``, and for a bound between two seconds.

    Source: https://docs.stripe.com/api/reporting/report_run/create
    """
    asked = report_of(request, "use api='v2.data'.")
    report_type = checked_id(asked.report, "report")
    if asked.options:
        raise InvalidInput(
            f"result_options must be left out with api='v1', not {asked.options!r}: results are "
            "always plain CSV. For others use api='v2.reporting'."
        )
    for name in asked.parameters:
        if not name or set(name) & set("[]"):
            raise InvalidInput(
                f"report_parameters has the name {name!r}: write names without brackets, and "
                "several values as a list."
            )
    parameters = {
        name: _seconds(name, value) if name in _BOUNDS else value
        for name, value in asked.parameters.items()
    }
    # A form cannot hold an empty mapping.
    return {"report_type": report_type, **({"parameters": parameters} if parameters else {})}


def _seconds(name: str, value: Any) -> int:
    instant = read_instant(value)
    if instant is None or instant.microsecond:
        raise InvalidInput(
            f"{name} must be a whole second with api='v1', not {value!r}: round it, or use "
            "api='v2.reporting', which accepts milliseconds."
        )
    return int(instant.timestamp())


def read_run(data: Any) -> ReportRun:
    """
    Read a report run; ``pending`` becomes ``running``.

    A failed run has a text and no code, so whether a new one helps cannot be told.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id or the status is missing, or the id is not valid.

    Source: https://docs.stripe.com/api/reporting/report_run/object
    """
    run = read_mapping(data)
    run_id = read_id(run, "report run")
    status = read_status(run, "report run")
    return ReportRun(
        id=run_id,
        status=RUNNING if status == _PENDING else status,
        report=read_text(run.get("report_type")) or "",
        report_parameters=_read_parameters(read_mapping(run.get("parameters"))),
        created_at=read_epoch(run.get("created")),
        livemode=read_flag(run.get("livemode")),
        file=_read_file(read_mapping(run.get("result"))),
        error_message=read_text(run.get("error"), MESSAGE),
    )


def _read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    bounds = {name: read_epoch(parameters.get(name)) for name in _BOUNDS}
    return {
        **plain(parameters),
        **{name: format_instant(bound) for name, bound in bounds.items() if bound is not None},
    }


def _read_file(file: Mapping[str, Any]) -> ResultFile | None:
    """
    Read a result file. Its URL lasts, and needs the API key.

    Source: https://docs.stripe.com/api/files/object
    """
    if not file:
        return None
    return ResultFile(
        content_type=read_text(file.get("type")) or "",
        size=read_count(file.get("size")),
        url=read_url(file.get("url")),
        url_expires_at=read_epoch(file.get("expires_at")),
    )


def page_query(since: datetime | None, after: str | None) -> dict[str, str]:
    """Return the query for a page of report runs, newest first."""
    query = {"limit": str(_PER_PAGE)}
    if since is not None:
        query["created[gte]"] = str(int(since.timestamp()))
    return query if after is None else {**query, "starting_after": after}


def read_page(data: Any) -> RunPage:
    """
    Read one page of report runs.

    :raises UnexpectedAnswer: if one of them is no report run.
    """
    page = read_mapping(data)
    runs = tuple(map(read_run, read_list(page.get("data"))))
    return RunPage(runs, runs[-1].id if runs and page.get("has_more") is True else None)


def is_same(request: ReportRequest, run: ReportRun) -> bool:
    """
    Tell whether a report run is of the report and the parameters of a request.

    The API does not promise to echo parameters as they were sent: it may add the default time zone,
    and spell numbers and flags its own way.
    """
    rest = {name: value for name, value in run.report_parameters.items() if value is not None}
    for name, value in request.parameters.items():
        if name not in rest or _spelled(rest.pop(name)) != _spelled(value):
            return False
    return run.report == request.report.strip() and rest in ({}, _DEFAULT_ZONE)


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def lookup(report: str) -> Lookup:
    """
    Return how to get a report type.

    :raises InvalidInput: if the id is not valid.

    Source: https://docs.stripe.com/api/reporting/report_type/retrieve
    """
    path = item_path(REPORT_TYPES, checked_id(report, "report"))
    return Lookup(path, f"{REPORT_TYPES}/{{report}}", read_report)


def read_report(data: Any) -> Report:
    """
    Read a report type.

    The API does not define parameters. Those of ``_required`` are what the documentation names for
    the type's family, and the bounds among them have the window of the type's data. An interval may
    end with the data: the guide says "inclusive", while the reference ends it a second before.
    Where the reference is right, the API refuses the create, and the same interval passes once
    there are more data.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id is missing or not valid.

    Source: https://docs.stripe.com/reports/api (the guide); Stripe OpenAPI, ``2026-09-30.endive``,
    ``reporting.report_type`` and ``interval_end`` of the run's parameters (the reference).
    """
    report = read_mapping(data)
    report_type = read_id(report, "report type")
    return Report(
        id=report_type,
        name=read_text(report.get("name")) or "",
        livemode=read_flag(report.get("livemode")),
        parameters={
            **{name: _parameter(name, report) for name in _required(report_type)},
            **_columns(report.get("default_columns")),
        },
        undefined=_UNDEFINED,
    )


def _required(report_type: str) -> tuple[str, ...]:
    """
    Return the parameters that a report type needs; it takes no other bound of an interval.

    Source: https://docs.stripe.com/reports/report-types
    """
    if ".by_id." in report_type:
        is_of_accounts = report_type.startswith("connected_account_")
        return ("connected_account", "payout") if is_of_accounts else ("payout",)
    family = report_type.removeprefix("connected_account_")
    if family.startswith(("ending_balance_", "connect.negative_balance_")):
        return (INTERVAL_END,)
    return _BOUNDS


def _parameter(name: str, report: Mapping[str, Any]) -> ReportParameter:
    is_bound = name in _BOUNDS
    return ReportParameter(
        type="timestamp" if is_bound else "string",
        required=True,
        description="",
        allowed_values=None,
        earliest=read_epoch(report.get("data_available_start")) if is_bound else None,
        latest=read_epoch(report.get("data_available_end")) if is_bound else None,
    )


def _columns(default: Any) -> dict[str, ReportParameter]:
    """Read the parameter ``columns``; a report type without default columns does not take it."""
    if not isinstance(default, list):
        return {}
    names = ", ".join(filter(None, map(read_name, default)))
    columns = ReportParameter(
        type="array",
        required=False,
        description=f"By default: {names[:MESSAGE]}",
        allowed_values=None,
        earliest=None,
        latest=None,
    )
    return {"columns": columns}


def read_types(data: Any) -> ReportPage:
    """
    Read the list of report types, which is whole: the API does not divide it into pages.

    :raises UnexpectedAnswer: if the id of a type is missing or not valid.

    Source: https://docs.stripe.com/api/reporting/report_type/list
    """
    page = read_mapping(data)
    return ReportPage(tuple(map(read_report, read_list(page.get("data")))), None)


GENERATION: Final = Generation(
    name="v1",
    docs="https://docs.stripe.com/api/reporting/report_run",
    stripe_version="2026-10-28.endive",
    permissions=Permissions(create=_PERMISSION, read=_PERMISSION, file="Files (read)"),
    runs_path="/v1/reporting/report_runs",
    create_body=create_body,
    encode=as_form,
    read_run=read_run,
    run_listing=RunListing(page_query, read_page, is_same),
    lookup=lookup,
    report_listing=ReportListing(lambda _: REPORT_TYPES, read_types, lambda each: (each.id,)),
    idempotency=Idempotency(window_seconds=DAY, answers_afresh=False, replays_errors=True),
    capacity_group="v1",
    account_header="Stripe-Account",
    key_hosts=frozenset({"files.stripe.com"}),
)
