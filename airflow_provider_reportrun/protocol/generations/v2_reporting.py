"""
``/v2/reporting``: reports that define their parameters and say which data they have.

Source: https://docs.stripe.com/api/v2/reporting; Stripe OpenAPI, ``2026-09-30.preview``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_provider_reportrun.protocol.calls import checked_id
from airflow_provider_reportrun.protocol.encoding import item_path
from airflow_provider_reportrun.protocol.generation import Generation, Lookup, Permissions
from airflow_provider_reportrun.protocol.models import (
    FAILED,
    Column,
    Report,
    ReportParameter,
    ReportRun,
    ResultFile,
)
from airflow_provider_reportrun.protocol.reading import (
    LONGEST_NAME,
    read_count,
    read_flag,
    read_id,
    read_instant,
    read_mapping,
    read_name,
    read_status,
    read_text,
    read_url,
)
from airflow_provider_reportrun.protocol.requests import RunRequest, checked_flags, report_of
from airflow_provider_reportrun.text import MESSAGE, WORD, encodable, plain

REPORTS: Final = "/v2/reporting/reports"
KNOWN_REPORTS: Final = (
    "all_fees_balance_transaction_created_itemized",
    "all_fees_incurred_at_itemized",
    "balance_change_from_activity_itemized",
    "balance_change_from_activity_summary",
    "balance_summary",
    "connect_negative_balance_refunds_disputes_overview",
    "connected_account_balance_change_from_activity_itemized",
    "connected_account_balance_change_from_activity_summary",
    "connected_account_balance_summary",
    "connected_account_ending_balance_reconciliation_itemized",
    "connected_account_ending_balance_reconciliation_summary",
    "connected_account_payout_reconciliation_by_id_itemized",
    "connected_account_payout_reconciliation_by_id_summary",
    "connected_account_payout_reconciliation_itemized",
    "connected_account_payout_reconciliation_summary",
    "connected_account_payouts_itemized",
    "connected_account_payouts_summary",
    "connected_account_tax_transactions_itemized",
    "ending_balance_reconciliation_itemized",
    "ending_balance_reconciliation_summary",
    "payout_reconciliation_by_id_itemized",
    "payout_reconciliation_by_id_summary",
    "payout_reconciliation_itemized",
    "payout_reconciliation_summary",
    "payouts_itemized",
    "payouts_summary",
    "revenue_recognition_debit_credit_by_customer",
    "revenue_recognition_debit_credit_by_invoice",
    "revenue_recognition_debit_credit_by_invoice_line_item",
    "revenue_recognition_debit_credit_by_price",
    "revenue_recognition_debit_credit_by_product",
    "revenue_recognition_debit_credit_summary",
    "tax_transactions_itemized",
)
"""
The families of ``v1``'s report types, in the spelling of this API.

Stripe lists the ids of this API nowhere; only a GET shows which of these an account has.
"""


def create_body(request: RunRequest) -> dict[str, Any]:
    """
    Build the body of a create, as JSON values.

    Without options, none are sent, so that they change no idempotency key.

    :raises InvalidInput: if the report id or ``result_options`` is not valid.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/create
    """
    asked = report_of(request, "with api='v2.reporting' use a CreateQueryRunOperator.")
    body = {
        "report": checked_id(asked.report, "report"),
        "report_parameters": dict(asked.parameters),
    }
    if asked.options is not None:
        body["result_options"] = checked_flags(asked.options, "compress_file")
    return body


def read_run(data: Any) -> ReportRun:
    """
    Read a report run.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id or the status is missing, or the id is not valid.

    Source: https://docs.stripe.com/api/v2/reporting/report-runs/object
    """
    run = read_mapping(data)
    failed = read_failed(run)
    return ReportRun(
        id=read_id(run, "report run"),
        status=read_status(run, "report run"),
        report=read_text(run.get("report")) or "",
        report_name=read_text(run.get("report_name")) or "",
        report_parameters=plain(read_mapping(run.get("report_parameters"))),
        created_at=read_instant(run.get("created")),
        livemode=read_flag(run.get("livemode")),
        file=read_file(run, "schema"),
        error_code=read_text(failed.get("error_code")),
        error_message=read_text(failed.get("error_message"), MESSAGE),
    )


def read_failed(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read why a run failed: ``status_details`` are named by the status."""
    return read_mapping(read_mapping(run.get("status_details")).get(FAILED))


def read_file(run: Mapping[str, Any], columns: str) -> ResultFile | None:
    """
    Read the result file of a run.

    :param columns: the field that holds its columns.
    :return: None if there is no file, or not yet.
    """
    result = read_mapping(run.get("result"))
    file = read_mapping(result.get("file"))
    if not file:
        return None
    download = read_mapping(file.get("download_url"))
    return ResultFile(
        content_type=read_text(file.get("content_type")) or "",
        size=read_count(file.get("size")),
        url=read_url(download.get("url")),
        url_expires_at=read_instant(download.get("expires_at")),
        schema=_read_columns(file.get(columns)),
        row_count=read_count(result.get("row_count")),
        column_count=read_count(result.get("col_count")),
    )


def _read_columns(data: Any) -> tuple[Column, ...] | None:
    """Read the columns; a column without a name cannot be identified, so it is skipped."""
    if not isinstance(data, list):
        return None
    columns = map(read_mapping, data)
    return tuple(
        Column(name, read_text(column.get("type")) or "")
        for column in columns
        if (name := read_name(column.get("name")))
    )


def lookup(report: str) -> Lookup:
    """
    Return how to get a report's definition.

    :raises InvalidInput: if the report id is not valid.

    Source: https://docs.stripe.com/api/v2/reporting/reports/retrieve
    """
    path = item_path(REPORTS, checked_id(report, "report"))
    return Lookup(path, f"{REPORTS}/{{report}}", read_report)


def read_report(data: Any) -> Report:
    """
    Read a report's definition.

    :param data: decoded JSON.
    :raises UnexpectedAnswer: if the id is missing or not valid.

    Source: https://docs.stripe.com/api/v2/reporting/reports/object
    """
    report = read_mapping(data)
    return Report(
        id=read_id(report, "report"),
        name=read_text(report.get("name")) or "",
        livemode=read_flag(report.get("livemode")),
        parameters={
            encodable(name[:WORD]): _read_parameter(read_mapping(value))
            for name, value in read_mapping(report.get("parameters")).items()
        },
    )


def _read_parameter(data: Mapping[str, Any]) -> ReportParameter:
    array = read_mapping(data.get("array_details"))
    enum = read_mapping(data.get("enum_details")) or read_mapping(array.get("enum_details"))
    window = read_mapping(data.get("timestamp_details"))
    return ReportParameter(
        type=read_text(data.get("type")) or "",
        required=data.get("required") is True,
        description=read_text(data.get("description"), MESSAGE) or "",
        allowed_values=_read_allowed(enum.get("allowed_values")),
        earliest=read_instant(window.get("min")),
        latest=read_instant(window.get("max")),
    )


def _read_allowed(values: Any) -> tuple[str, ...] | None:
    """Read a parameter's allowed values; ignore a list with anything but text and numbers."""
    if not isinstance(values, list) or not all(isinstance(each, str | int) for each in values):
        return None
    return tuple(encodable(str(each)[:LONGEST_NAME]) for each in values)


GENERATION: Final = Generation(
    name="v2.reporting",
    docs="https://docs.stripe.com/api/v2/reporting/report-runs",
    stripe_version="2026-04-22.dahlia",
    permissions=Permissions(create="reporting_write", read="reporting_read"),
    runs_path="/v2/reporting/report_runs",
    create_body=create_body,
    read_run=read_run,
    # Previews of the API know it since June 2026; other versions may refuse it.
    columns_query={"include[0]": "result.file.schema"},
    lookup=lookup,
    known_reports=KNOWN_REPORTS,
    capacity_group="v2.reporting",
    queries="v2.reporting.query_runs",
)
